"""`provisor serve` against stand-ins of AWS over HTTP: machines are Ray nodes here, functions run for real."""

import pytest

from experiments.cloud.live_edge import run_edge

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def test_machines_are_bought_drained_and_replaced_and_functions_answer_what_overflows(tmp_path):
    found = run_edge(tmp_path, 22.0, print)
    assert found.first_fleet == 2
    assert found.notices == 1
    # 2 s on a machine with nothing else to do, as `provisor experiment cloud --check` has it.
    assert found.heard_s < 5.0
    assert found.bought > found.first_fleet
    assert found.calls > 0
    assert found.cold >= 1
    assert found.billed_usd == pytest.approx(found.charged_usd, rel=1e-9)
    assert found.attainment > 0.5
    assert found.machines_left == found.functions_left == 0
    assert found.secrets == ()
