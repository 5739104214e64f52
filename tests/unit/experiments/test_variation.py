"""Variations are scenarios that can be served, differ from each other, and are drawn again from the same numbers."""

import numpy as np
import pytest

from controller.compile import compile_scenario
from controller.errors import ScenarioError
from controller.scenario import load_scenario
from experiments.variation import vary

DEFAULT = load_scenario("default")


@pytest.fixture(scope="module")
def variations():
    return [vary(DEFAULT, 0, index) for index in range(6)]


def test_equal_numbers_give_equal_variations_and_others_differ(variations) -> None:
    assert vary(DEFAULT, 0, 3) == variations[3]
    assert len({one.model_dump_json() for one in variations}) == len(variations)
    assert vary(DEFAULT, 1, 3) != variations[3]


def test_every_variation_can_be_served(variations) -> None:
    for one in variations:
        setting = compile_scenario(one)
        assert sum(c.share for c in one.workload.classes) == pytest.approx(1.0)
        reachable = np.where(setting.workload.allowed.any(axis=2), setting.catalog.accuracy, 0.0).max(axis=1)
        assert (reachable >= setting.workload.accuracy_floor).all()


def test_variations_span_what_a_generalist_must_bear(variations) -> None:
    rates = [one.mean_rps for one in variations]
    assert max(rates) > 1.5 * min(rates)
    assert len({len(one.workload.classes) for one in variations}) > 1
    assert len({one.changes.without for one in variations}) > 1


def test_a_scenario_that_cannot_be_varied_says_so(monkeypatch) -> None:
    from experiments import variation

    monkeypatch.setattr(variation, "_suffices", lambda setting: False)
    monkeypatch.setattr(variation, "_TRIES", 2)
    with pytest.raises(ScenarioError, match="default: expected a scenario that can be varied"):
        vary(DEFAULT, 0, 0)
