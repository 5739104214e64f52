"""Every number of a result row, worked by hand on two ticks of two classes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from controller.arrays import COMPUTE, EGRESS, empty_observation, empty_plan
from controller.compile import Setting
from controller.plan import Reason
from experiments.results import ResultRow, Tally, floor_breaches, write_results


def naming() -> dict[str, object]:
    return {"policy": "static", "trace": "toy", "day": 1, "seed": 0}


@pytest.fixture
def row(toy_setting: Setting) -> ResultRow:
    """Two ticks; (strict, relaxed): 100 + 100 requests each, see the numbers below."""
    tally = Tally(toy_setting, 1)
    for _ in range(2):
        tally.decided(empty_plan(1, toy_setting.shape))
        window = empty_observation(1, toy_setting.shape)
        window.arrivals[0] = [50, 50]
        window.answered[0] = [40, 50]
        window.missed[0] = [15, 1]  # of the strict class 10 unanswered and 5 answered late
        window.shed[0] = [4, 0]
        window.accuracy_sum[0] = [40 * 0.8, 25 * 0.8 + 25 * 0.9 - 0.5]
        window.latency[0, 0, 80] = 40  # 1.000 to 1.125 s
        window.latency[0, 1, 88] = 50  # 2.00 to 2.25 s
        window.preempted[0] = [0, 3]
        window.spend_usd[0, COMPUTE] = 1.25
        window.spend_usd[0, EGRESS] = 0.5
        tally.observed(window)
    return tally.row(0, **naming(), decide_ms_p99=0.25)


def test_attainment_is_one_minus_misses_over_requests(row: ResultRow) -> None:
    assert (row.requests, row.misses, row.shed) == (200, 32, 8)
    assert row.attainment == pytest.approx(1 - 32 / 200)
    assert row.attainment_by_class == pytest.approx({"strict": 0.70, "relaxed": 0.98})


def test_accuracy_is_the_mean_over_answered_requests(row: ResultRow) -> None:
    # The relaxed class sums up 20 + 22.5 - 0.5 over 50 answers, all classes 32 + 42 over 90.
    assert row.accuracy_by_class == pytest.approx({"strict": 0.8, "relaxed": 0.84})
    assert row.accuracy == pytest.approx(74 / 90)


def test_a_floor_is_breached_by_the_mean_of_the_day_alone(row: ResultRow) -> None:
    # Floors are 0.80 and 0.85: the strict class meets its floor exactly, sums of rounded numbers included.
    assert row.floor_breaches == 1
    assert floor_breaches([0.8 - 1e-12, None, 0.79], [0.8, 0.9, 0.8]) == 1


def test_cost_is_the_sum_of_its_terms(row: ResultRow) -> None:
    assert row.cost_usd == pytest.approx(3.5)
    assert row.cost_usd_by_term["compute"] == pytest.approx(2.5)
    assert row.cost_usd_by_term["egress"] == pytest.approx(1.0)
    assert set(row.cost_usd_by_term) == {"compute", "idle", "start_up", "serverless", "egress", "preemption_waste"}


def test_percentiles_come_from_the_histogram_of_the_class(row: ResultRow) -> None:
    assert row.p50_s == pytest.approx({"strict": 1.0625, "relaxed": 2.125})
    assert row.p95_s == pytest.approx({"strict": 1 + 0.125 * 0.95, "relaxed": 2 + 0.25 * 0.95})
    assert row.p99_s["strict"] == pytest.approx(1 + 0.125 * 0.99)


def test_preemptions_are_counted(row: ResultRow) -> None:
    assert row.preemptions == 6


def test_nothing_answered_gives_none_and_no_breach(toy_setting: Setting) -> None:
    tally = Tally(toy_setting, 1)
    tally.decided(empty_plan(1, toy_setting.shape))
    tally.observed(empty_observation(1, toy_setting.shape))
    row = tally.row(0, **naming())
    assert row.attainment == 1.0
    assert row.accuracy is None
    assert row.p99_s == {"strict": None, "relaxed": None}
    assert row.floor_breaches == 0


def flaps_of(setting: Setting, targets: list[int], hold_ticks: int = 1) -> float:
    """Flaps/h where one entry's target takes these values, each held for some ticks."""
    tally = Tally(setting, 1)
    for target in targets:
        for _ in range(hold_ticks):
            plan = empty_plan(1, setting.shape)
            plan.replicas[0, 0, 0] = target
            tally.decided(plan)
            tally.observed(empty_observation(1, setting.shape))
    return tally.row(0, **naming()).flaps_per_hour


def test_a_flap_is_a_change_back_within_half_an_hour(toy_setting: Setting) -> None:
    # Ticks of 10 s. 5 targets: up, down (flap), down, up (flap): 2 flaps in 50 s.
    assert flaps_of(toy_setting, [1, 3, 2, 1, 4]) == pytest.approx(2 / (50 / 3600))
    assert flaps_of(toy_setting, [1, 2, 3, 3, 4]) == 0
    # Held 180 ticks: the change back comes exactly 30 minutes after the first; held 181 it is no flap.
    assert flaps_of(toy_setting, [1, 2, 1], 180) == pytest.approx(1 / 1.5)
    assert flaps_of(toy_setting, [1, 2, 1], 181) == 0


def test_rule_share_is_the_share_of_ticks_on_the_rule(toy_setting: Setting) -> None:
    tally = Tally(toy_setting, 2)
    for ruled in (True, False, False, False):
        plan = empty_plan(2, toy_setting.shape)
        plan.reasons[:] = [int(Reason.FALLBACK_RULE | Reason.BUDGET) if ruled else int(Reason.BUDGET), 0]
        tally.decided(plan)
        tally.observed(empty_observation(2, toy_setting.shape))
    assert [tally.row(env, **naming()).rule_share for env in (0, 1)] == [0.25, 0.0]


def test_each_env_has_its_own_row(toy_setting: Setting) -> None:
    tally = Tally(toy_setting, 2)
    tally.decided(empty_plan(2, toy_setting.shape))
    window = empty_observation(2, toy_setting.shape)
    window.arrivals[:] = [[1, 2], [30, 40]]
    tally.observed(window)
    assert [tally.row(env, **naming()).requests for env in (0, 1)] == [3, 70]


def test_results_file_is_a_list_of_flat_rows_and_the_csv_tidy(row: ResultRow, tmp_path: Path) -> None:
    as_json, as_csv = write_results([row, row], tmp_path / "made")
    values = json.loads(as_json.read_text())
    assert [ResultRow.model_validate(value) for value in values] == [row, row]
    assert set(values[0]) == {
        *("policy", "scenario", "trace", "day", "seed", "cost_usd", "attainment", "accuracy", "floor_breaches"),
        *(
            "requests",
            "misses",
            "shed",
            "flaps_per_hour",
            "preemptions",
            "rule_share",
            "decide_ms_p99",
            "solver",
            "redundancy",
        ),
        *("cost_usd_by_term", "attainment_by_class", "accuracy_by_class", "p50_s", "p95_s", "p99_s"),
    }
    with as_csv.open() as stream:
        lines = list(csv.DictReader(stream))
    found = {(line["metric"], line["key"]): line["value"] for line in lines}
    assert float(found["attainment", ""]) == row.attainment
    assert float(found["p95_s", "strict"]) == row.p95_s["strict"]
    assert len(lines) == 2 * (11 + 6 + 5 * 2)


def test_plan_given_later_does_not_change_what_was_counted(toy_setting: Setting) -> None:
    tally = Tally(toy_setting, 1)
    plan = empty_plan(1, toy_setting.shape)
    for target in (1, 3, 2):  # a policy may reuse its buffers
        plan.replicas[0, 0, 0] = target
        tally.decided(plan)
    assert tally.flaps[0] == 1
    assert np.array_equal(tally.flaps, [1])
