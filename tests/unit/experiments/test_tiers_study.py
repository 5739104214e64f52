"""The study of tiers on synthetic versions: what it counts, its checks, and the files that it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from controller.tiers.generate import Objective
from controller.tiers.rules import Form
from experiments.experiment_commands import experiment
from experiments.tiers.batches import in_batches
from experiments.tiers.study import TOLERANCES, changes, falls, ladder, oracle_share, study
from experiments.tiers.verdict import cascades_ahead, checks_of, cost_share
from tests.unit.controller.tiers.synthetic import COST, population


@pytest.fixture(scope="module")
def found():
    return study("synthetic", population(6000), lambda line: None, seeds=2)


def test_every_tier_of_every_seed_is_judged_on_the_rest(found):
    assert found.judged == 3600
    assert len(found.cells) == 2 * len(Objective) * len(TOLERANCES)
    assert {cell.seed for cell in found.cells} == {0, 1}
    assert found.cells[0].best_value != found.cells[len(found.cells) // 2].best_value


def test_tiers_keep_their_promise_and_save_the_more_the_more_is_given_up(found):
    assert found.broken <= found.allowed
    saved = [found.mean(Objective.COST, tolerance, lambda cell: cell.value) for tolerance in TOLERANCES]
    assert falls(saved) >= 3
    assert falls(saved[::-1]) == 0
    assert cascades_ahead(found.cells, Objective.COST) >= 2


def test_broken_promises_and_single_versions_are_counted(found):
    worse = replace(found, cells=tuple(replace(cell, degradation=cell.tolerance + 0.001) for cell in found.cells))
    assert worse.broken == len(worse.cells)
    checks = {check.what: check.holds for check in checks_of(worse)}
    assert not checks[next(what for what in checks if "above their tolerance" in what)]
    singles = [replace(cell, form=Form.SINGLE) for cell in found.cells]
    assert cascades_ahead(singles, Objective.COST) == 0
    dear = [replace(cell, value=cell.single_value) for cell in found.cells]
    assert cascades_ahead(dear, Objective.COST) == 0


def test_short_ladder_has_the_best_version_and_none_that_is_too_cheap():
    table = population(500)
    assert COST[-1] / COST[0] == 8.0
    assert ladder(table, 8.0) == table.versions
    assert ladder(table, 3.0) == table.versions[2:]


def test_cost_share_is_of_the_best_versions_cost(found):
    half = [replace(cell, value=cell.best_value / 2) for cell in found.cells]
    assert cost_share(half, 0.01) == pytest.approx(0.5)


def test_no_rule_is_below_the_oracle_and_a_shallow_ladder_shows_why_it_saves_little(found):
    table = population(4000)
    best = table.cost_usd[:, table.best].mean()
    for tolerance in TOLERANCES:
        least = oracle_share(table, tolerance)
        assert table.cost_usd.mean(axis=0).min() / best <= least + 1e-9
        assert least <= cost_share(found.cells, tolerance) + 0.01
        assert found.short_oracle[tolerance] == pytest.approx(oracle_share(population(6000), tolerance))
    assert oracle_share(table, 0.0) > oracle_share(table, 0.1)
    shown = [check for check in checks_of(found, has_cost_bars=False) if "cost at" in check.what]
    assert [check.holds for check in shown] == [True, True]
    assert "the ladder spans 8.0x, an oracle needs" in shown[0].bar


def test_changes_are_shares_of_requests():
    for one in changes(population(500)):
        assert one.improves + one.stays + one.worsens == pytest.approx(1.0)
        assert one.error == pytest.approx(one.worsens - one.improves)  # of right and wrong


@pytest.mark.slow
def test_command_writes_tables_plots_and_a_page_and_says_what_falls_short(tmp_path):
    table = tmp_path / "synthetic.npz"
    population(400).save(table)
    words = ["tiers", "--check", "--table", str(table), "--seeds", "1", "--hours", "0", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(experiment, words, standalone_mode=False)
    assert "FALLS SHORT" in done.output  # so few requests prove little
    assert done.return_value == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    plots = {f"synthetic_{plot}.png" for plot in ("objective", "degradation", "changes")}
    assert names == plots | {"checks.json", "tiers.json", "cells.csv", "report.html"}
    assert json.loads((tmp_path / "out" / "tiers.json").read_text())[0]["name"] == "synthetic"
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_in_batches_a_request_costs_its_share_of_the_batch(tmp_path):
    table = population(1500)
    single = table.latency_s.mean(axis=0)
    batched = replace(table, batch_sizes=(1, 8), batch_s=np.stack([single, single / np.arange(1, len(single) + 1)]))
    sized = batched.in_batches(8)
    assert sized.cost_usd[:, -1] == pytest.approx(table.cost_usd[:, -1] / len(single))
    alone, eight = in_batches(batched, seeds=1)
    assert alone.steepness > eight.steepness
    assert alone.request_s == dict(zip(table.versions, single, strict=True))
    tiers = study("synthetic", table, lambda line: None, seeds=1)
    best = tiers.mean(Objective.COST, 0.05, lambda cell: cell.best_value)
    assert alone.cost_shares[3] == pytest.approx(tiers.mean(Objective.COST, 0.05, lambda c: c.value) / best, rel=0.05)
    assert eight.cost_shares[3] > alone.cost_shares[3]
    batched.save(tmp_path / "batched.npz")
    result = CliRunner().invoke(
        experiment,
        [
            "tiers",
            "--table",
            str(tmp_path / "batched.npz"),
            "--seeds",
            "1",
            "--hours",
            "0",
            "--out",
            str(tmp_path / "out"),
        ],
        standalone_mode=False,
    )
    assert result.exception is None
    assert "served in batches" in result.output
    assert "us per request" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "out" / "tiers.json").read_text(encoding="utf-8"))[0]["batches"]) == 2
