"""`provisor serve` against stand-ins of AWS over HTTP: machines are Ray nodes here, functions run for real."""

import pytest

from experiments.cloud.live_nodes import run_nodes
from experiments.cloud.live_overflow import run_overflow

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def test_machines_are_bought_noticed_drained_and_given_back(tmp_path):
    found = run_nodes(tmp_path, print)
    assert found.first_fleet >= 3
    assert found.notices == 1
    # 2 s on a machine with nothing else to do, as `provisor experiment cloud --check` has it.
    assert found.heard_s < 5.0
    assert found.left == 0
    assert found.secrets == ()


def test_what_overflows_is_answered_by_functions_and_billed_to_the_call(tmp_path):
    found = run_overflow(tmp_path, 20.0, print)
    assert found.calls > 0
    assert found.cold >= 1
    assert found.billed_usd == pytest.approx(found.charged_usd, rel=1e-9)
    assert found.attainment > 0.5
    assert found.functions_left == 0
    assert found.secrets == ()
