"""The simulator against Ciw, an independent queueing simulator: the same requests, and the same distributions.

`python -m tests.peer` prints the comparison of distributions as tables.
"""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from controller.arrays import LATENCY_BUCKETS
from tests.peer import ciw_side, our_side
from tests.peer.comparison import (
    CRITICAL,
    LIMITS,
    MOST_ROWS,
    SHAPE,
    Row,
    compare,
    ours_of,
    rows,
    statistics,
    theirs_of,
)
from tests.peer.replay import SameDraws
from tests.peer.replications import Replications
from tests.peer.scenarios import BY_NAME, SCENARIOS, PeerClass, PeerOption, PeerScenario

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test of a kernel compiles it

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
REPLAYED_SEEDS = [3]


@functools.cache
def ciw_with_our_draws(scenario: PeerScenario) -> Replications:
    return ciw_side.run(scenario, SameDraws, REPLAYED_SEEDS)


@each_scenario
@pytest.mark.parametrize("kernel", ["fast", "event"])
def test_every_request_fares_as_in_ciw_under_the_same_draws(scenario: PeerScenario, kernel: str) -> None:
    ours, theirs = our_side.run(scenario, REPLAYED_SEEDS, kernel), ciw_with_our_draws(scenario)
    assert ours.answered.min() > 400
    for field in fields(Replications):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        # The simulator cuts the span of a serverless call to 2**-30 s; all else differs by rounding at most.
        tolerance = 1e-5 if field.name == "busy_s" else 1e-9
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance, err_msg=field.name)


@each_scenario
def test_distributions_agree_with_ciw(scenario: PeerScenario) -> None:
    ours, theirs = ours_of(scenario), theirs_of(scenario)
    if not any(c.drops for c in scenario.classes):
        assert ours.failed.sum() == theirs.failed.sum() == 0
    if not scenario.refuses:
        assert ours.shed.sum() == theirs.shed.sum() == 0
    found = compare(scenario)
    assert not [row for row in found if abs(row.z) > CRITICAL]
    assert not [row for row in found if row.unit != SHAPE and row.resolution > LIMITS[row.unit]]


def test_no_more_rows_are_compared_than_the_alarm_rate_counts() -> None:
    num = 0
    for scenario in SCENARIOS:
        by_class = np.ones((1, len(scenario.classes)), np.int64)
        latency = np.ones((1, len(scenario.classes), LATENCY_BUCKETS), np.int64)
        blank = Replications(*[by_class] * 5, latency, by_class.astype(float), np.ones(1))
        num += len(list(statistics(scenario, blank))) + len(scenario.classes)
    assert num <= MOST_ROWS


def alarms(found: list[Row]) -> set[str]:
    return {row.what for row in found if abs(row.z) > CRITICAL}


@pytest.mark.parametrize(
    ("name", "change", "noticed"),
    [
        ("mm1", {"options": (PeerOption(1, 0.103),)}, {"busy seconds"}),
        ("limit", {"service_cv": 0.9}, {"histogram"}),
        ("deadlines", {"classes": (PeerClass(slo_s=0.62, drops=True),)}, {"mean", "histogram"}),
        ("shed", {"classes": (PeerClass(slo_s=0.6, queue_limit=6),)}, {"shed", "in system", "mean"}),
        ("bursts", {"gap_cv": 1.5}, {"mean", "p95", "histogram"}),
        ("outages", {"shifts": ((30.0, 8), (34.0, 0), (38.0, 8), (44.0, 0), (160.0, 8))}, {"mean", "p50"}),
    ],
)
def test_a_small_difference_raises_an_alarm(name: str, change: dict[str, Any], noticed: set[str]) -> None:
    scenario = BY_NAME[name]
    other = our_side.run(replace(scenario, **change), list(range(240)))
    assert noticed <= alarms(rows(scenario, other, theirs_of(scenario)))


@pytest.mark.parametrize("name", ["mm1", "bursts", "shed"])
def test_z_scores_between_equal_systems_have_unit_variance(name: str) -> None:
    scenario, size = BY_NAME[name], 24
    ours = ours_of(scenario)
    half = len(ours) // 2
    z = [
        row.z
        for lo in range(half, len(ours), size)
        for row in rows(scenario, ours.part(0, half), ours.part(lo, lo + size))
        if row.unit != SHAPE
    ]
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.3
