"""How redundant a run was: shares of requests by mode, and what was sent beside their first copies."""

import numpy as np
import pytest

from controller.arrays import empty_observation, empty_plan
from experiments.redundancy_shares import BY_COLLAGE, EXTRA, MODES, RedundancyShares, modes_of

SHAPE = (2, 1, 3)


def plan_of(**by_class):
    plan = empty_plan(1, SHAPE)
    for name, values in by_class.items():
        getattr(plan, name)[0] = values
    return plan


def window_of(*arrivals):
    window = empty_observation(1, SHAPE)
    window.arrivals[0] = window.answered[0] = arrivals
    return window


def test_modes_are_told_by_what_a_plan_asks_for() -> None:
    found = modes_of(plan_of(hedge_after_s=[np.inf, 0.0, 0.2]))
    assert [MODES[mode] for mode in found[0]] == ["none", "replicate", "hedge"]
    collages = {"collage_variant": [1, 1, -1], "collage_passes": [1, 2, 1], "hedge_after_s": [np.inf, 0.5, 0.2]}
    found = modes_of(plan_of(**collages, hedge_replaces=[False, True, True]))
    assert [MODES[mode] for mode in found[0]] == ["collage", "collage, two workers", "re-send"]


def test_shares_are_of_requests_and_not_of_ticks() -> None:
    shares = RedundancyShares(1)
    shares.decided(plan_of(hedge_after_s=[np.inf, 0.2, np.inf]))
    shares.observed(window_of(10, 30, 0))
    shares.decided(plan_of(collage_variant=[-1, 1, -1]))
    shares.observed(window_of(40, 20, 0))
    shares.ended(np.array([[[1, 2, 3], [4, 0, 0], [0, 0, 2]]]))
    assert shares.shares(0) == pytest.approx(
        {"none": 0.5, "hedge": 0.3, "collage": 0.2, EXTRA: (1 + 2 + 4) / 100, BY_COLLAGE: 5 / 100}
    )


def test_run_without_redundancy_says_nothing_of_it() -> None:
    shares = RedundancyShares(1)
    shares.decided(plan_of())
    shares.observed(window_of(10, 30, 0))
    shares.ended(np.zeros((1, 3, 3), np.int64))
    assert shares.shares(0) is None
