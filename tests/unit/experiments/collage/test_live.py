"""What a live run is summed up to, without a Ray."""

from dataclasses import replace

import numpy as np
import pytest

from controller.errors import RunError
from controller.policies.registry import PolicySpec, make_policy
from controller.scenario import load_scenario
from experiments.collage.live import live_modes
from experiments.collage.live_rows import LIVE_TITLES, LiveFound, LiveRow, live_checks, live_lines, row_of
from experiments.collage.study import COLLAGE, NONE
from experiments.collage.workers import Workers, workers_setting, write_workers
from serving.load import LoadRecord
from serving.tally import Tally
from tests.strategies import random_observation

LATENCY_S = np.array([0.1, 0.12, 0.15, 0.7])
ROW = LiveRow("", 100, 0, 0, 0.03, 0.14, 0.3, 0.4, 0.11, 0.2, 0.02, 0.98)


def tally_of(answered: int, **counts: int) -> Tally:
    tally = Tally((1, 2, 1))
    tally.answered[:] = answered
    tally.busy_s[:] = [1.0, 0.5]
    for name, value in counts.items():
        setattr(tally, name, value)
    return tally


def record_of(latency_s: list[float], right: list[int]) -> LoadRecord:
    status = np.where(np.isnan(latency_s), 504, 200)
    return LoadRecord(np.zeros(len(latency_s)), np.array(latency_s), status, ("",) * len(latency_s), np.array(right))


def test_row_sums_up_all_turns_of_a_mode() -> None:
    parts = [
        (record_of([0.1, 0.2, 0.3], [1, 1, 0]), tally_of(3, hedged=1, passes=2, from_collage=1)),
        (record_of([0.4, np.nan], [1, -1]), tally_of(2)),
    ]
    row = row_of("x", parts, 0.25)
    assert (row.requests, row.lost, row.twice) == (5, 1, 1)  # five answers were given, of which four came
    assert row.late == 0.5
    assert row.p50_s == pytest.approx(0.25)
    assert row.most_s == 0.4
    assert (row.extra, row.busy_s, row.by_collage) == pytest.approx((3 / 5, 3.0 / 5, 1 / 5))
    assert row.right == 0.75
    with pytest.raises(RunError, match="expected answers under x, got none"):
        row_of("x", [(record_of([np.nan], [-1]), tally_of(0))], 0.25)


def test_checks_compare_latencies_and_count_who_is_lost_or_answered_twice() -> None:
    rows = (replace(ROW, mode=NONE, p99_s=0.6), replace(ROW, mode=COLLAGE, p99_s=0.3))
    found = LiveFound(rows, 1.2, 9)
    assert [check.holds for check in live_checks(found)] == [True, True, True]
    assert all(len(line) == len(LIVE_TITLES) for line in live_lines(found))
    rows = (rows[0], replace(rows[1], p99_s=0.5, lost=1, twice=2))
    assert [check.holds for check in live_checks(replace(found, rows=rows))] == [False, False, False]


def test_every_mode_is_one_that_a_static_plan_takes() -> None:
    setting = workers_setting(LATENCY_S, Workers(10.0, 9, 1.0))
    asked = set()
    for redundancy in live_modes(0.25, 0.2).values():
        settings = {"replicas": {"single@box": 2, "collage@box": 1}, "redundancy": {"all": redundancy}}
        plan = make_policy(PolicySpec(kind="static", settings=settings), setting).decide(
            random_observation(setting, 1, 1)
        )
        names = ("hedge_after_s", "hedge_replaces", "collage_variant", "collage_after_s", "collage_passes")
        asked.add(tuple(float(getattr(plan, name)[0, 0]) for name in names))
    assert len(asked) == 7


def test_scenario_of_the_workers_can_be_read_back(tmp_path) -> None:
    path = write_workers(tmp_path, LATENCY_S, Workers(10.0, 9, 1.5, slo_s=0.5, accuracy=(0.99, 0.98)))
    scenario = load_scenario(path)
    catalog = scenario.load_catalog()
    assert {variant.name: variant.cells for variant in catalog.variants} == {"single": 1, "collage": 9}
    assert scenario.workload.classes[0].slo_s == 0.5
