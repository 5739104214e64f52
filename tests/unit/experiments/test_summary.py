"""Means over days, spreads between days, and differences in pairs, worked by hand."""

import pytest

from experiments.results import ResultRow
from experiments.summary import Spread, paired_difference, solver_lines, summarise, summary_cells, summary_table


def row(policy: str, day: int, seed: int, cost_usd: float, attainment: float = 0.99, **others: object) -> ResultRow:
    values: dict[str, object] = {
        "policy": policy,
        "scenario": "toy",
        "trace": "toy",
        "day": day,
        "seed": seed,
        "cost_usd": cost_usd,
        "attainment": attainment,
        "accuracy": 0.8,
        "floor_breaches": 1,
        "requests": 100,
        "misses": 1,
        "shed": 2,
        "flaps_per_hour": 0.5,
        "preemptions": 3,
        "rule_share": 0.0,
        "decide_ms_p99": 0.1,
        "cost_usd_by_term": {},
        "attainment_by_class": {},
        "accuracy_by_class": {},
        "p50_s": {},
        "p95_s": {},
        "p99_s": {},
    }
    return ResultRow.model_validate(values | others)


BASE = [row("a", 1, 0, 10.0), row("a", 1, 1, 14.0), row("a", 2, 0, 20.0), row("a", 2, 1, 20.0)]
OTHER = [row("b", 1, 0, 9.0), row("b", 1, 1, 13.0), row("b", 2, 0, 17.0), row("b", 2, 1, 17.0)]


def test_a_day_counts_once_whatever_its_seeds() -> None:
    (line,) = summarise(BASE)
    # Days are 12 and 20: mean 16, standard deviation sqrt((16 + 16) / 1).
    assert line.cost_usd == Spread(16.0, pytest.approx(32**0.5))
    assert (line.days, line.seeds) == (2, 2)


def test_differences_are_taken_day_by_day() -> None:
    difference = paired_difference(OTHER, BASE, lambda r: r.cost_usd)
    # Days differ by -1 and -3: mean -2, deviation sqrt(2), standard error 1, t(0.975, 1) = 12.706.
    assert difference == Spread(-2.0, pytest.approx(12.706))
    line = summarise(BASE + OTHER)[1]
    assert line.cost_difference == Spread(-2.0 / 16.0, pytest.approx(12.706 / 16.0))
    assert line.attainment_difference == Spread(0.0, 0.0)


def test_only_days_and_seeds_of_both_are_paired() -> None:
    assert paired_difference(OTHER[:1], BASE, lambda r: r.cost_usd) == Spread(-1.0, None)
    assert paired_difference([row("b", 9, 0, 1.0)], BASE, lambda r: r.cost_usd) is None


def test_the_first_policy_is_the_reference_unless_one_is_named() -> None:
    assert [line.cost_difference is None for line in summarise(BASE + OTHER)] == [True, False]
    assert [line.cost_difference is None for line in summarise(BASE + OTHER, "b")] == [False, True]


def test_counts_and_shares_are_added_over_rows() -> None:
    (line,) = summarise(BASE)
    assert line.floor_breaches == 4
    assert line.shed_share == pytest.approx(8 / 400)
    assert line.preemptions == pytest.approx(3)


def test_days_without_answers_have_no_accuracy() -> None:
    (line,) = summarise([row("a", 1, 0, 1.0, accuracy=None), row("a", 2, 0, 1.0, accuracy=0.7)])
    assert line.accuracy == Spread(0.7, None)
    (none,) = summarise([row("a", 1, 0, 1.0, accuracy=None, decide_ms_p99=None)])
    assert none.accuracy is None
    assert summary_cells(none)["accuracy %"] == "-"
    assert summary_cells(none)["decide ms p99"] == "-"


def test_table_shows_a_line_per_policy() -> None:
    table = summary_table(summarise(BASE + OTHER), "toy")
    assert table.row_count == 2
    assert list(table.columns[1].cells) == ["16.00 ± 5.66", "14.00 ± 4.24"]


def test_programs_are_counted_over_the_rows_of_those_who_solve_some() -> None:
    solver = {"solves": 1440, "limit_hits": 3, "rounded": 1, "infeasible": 0, "failed": 0}
    rows = [row("ilp", 1, 0, 10.0, solver=solver), row("ilp", 2, 0, 10.0, solver=solver), row("mpc", 1, 0, 9.0)]
    (line,) = solver_lines(rows)
    assert line.startswith("ilp: 2,880 programs solved, 6 of them ended by the time limit (2 then")
