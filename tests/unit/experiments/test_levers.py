"""The value of a free choice: worked by hand on a table, and none where every stretch wants the same."""

import numpy as np
import pytest

from controller.errors import UsageError
from experiments.levers import VALUES, lever_value, losses, rule_of
from experiments.objective import ObjectiveConfig, Outcome

TRACES = np.array(["calm", "calm", "bursty"])


def test_gains_of_a_table() -> None:
    # Calm stretches are cheapest at -0.5, the bursty one at 1; together 0.5 is the best constant.
    table = np.array([[9.0, 9.0, 60.0], [8.0, 8.0, 50.0], [10.0, 10.0, 40.0], [11.0, 11.0, 20.0], [14.0, 14.0, 18.0]])
    found = lever_value("headroom", table, table[2], TRACES)
    assert found.best_constant == 0.5
    assert found.constant_gain == pytest.approx(1 - 42 / 60)
    assert found.choice_gain == pytest.approx(1 - (8 + 8 + 18) / 42)
    assert found.by_trace == pytest.approx({"calm": 1 - 16 / 22, "bursty": 1 - 18 / 20})


def test_a_lever_that_every_stretch_wants_alike_has_no_value() -> None:
    table = np.outer(np.arange(1.0, 1.0 + len(VALUES)), [1.0, 2.0, 3.0])
    found = lever_value("headroom", table, table[2], TRACES)
    assert (found.choice_gain, set(found.by_trace.values())) == (0.0, {0.0})


def test_misses_beyond_the_target_and_accuracy_below_the_floor_are_charged_on_no_less_than_the_rule_paid(
    make_setting,
) -> None:
    setting = make_setting()
    classes = len(setting.class_names)
    arrivals = np.full((3, classes), 1000)
    right = 1000.0 * setting.workload.accuracy_floor
    outcome = Outcome(
        cost_usd=np.array([1.0, 2.0, 0.5]),
        arrivals=arrivals,
        missed=np.stack([np.zeros(classes, int), np.full(classes, 100), np.full(classes, 100)]),
        answered=arrivals,
        accuracy_sum=np.stack([right, right - 10.0, right - 10.0]),
    )
    config = ObjectiveConfig()
    allowed = (1 - setting.workload.attainment_target) * config.miss_room
    mean = ~setting.workload.floor_each
    broken = config.miss_weight * (0.1 - allowed).sum() + 100.0 * 0.01 * mean.sum()
    expected = [1.0, 2.0 + 2.0 * broken, 0.5 + 1.0 * broken]
    assert losses(outcome, setting, config, np.ones(3)) == pytest.approx(expected)


def test_only_a_rule_with_knobs_has_levers(make_setting) -> None:
    assert rule_of("mpc:headroom=1.5", make_setting()).headroom == 1.5
    with pytest.raises(UsageError, match="policy"):
        rule_of("reactive", make_setting())
