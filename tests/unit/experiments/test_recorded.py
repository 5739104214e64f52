"""The world that a journal tells of: traffic, first fleet, market and policy, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS, empty_actions, empty_observation, empty_plan
from controller.errors import PolicyFileError, UsageError
from controller.journal_writer import JournalWriter
from controller.plan import Reason
from controller.policies.registry import PolicySpec
from controller.replay import make_header
from envs.world import Cell
from experiments.recorded import read_recorded, recorded_policy
from tests.tiny import MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, tiny_setting

SPEED = 20.0


def journal_of(path: Path, windows: list[dict[str, Any]], policy: str = "mpc", first_tick: int = 0) -> Path:
    """A live journal at speed 20; of each window, fields of the observation at their places."""
    setting = tiny_setting(speed=SPEED)
    with JournalWriter(path, make_header(setting, policy, "mpc", (), "live")) as journal:
        for number, window in enumerate(windows):
            seen, plan = empty_observation(1, setting.shape), empty_plan(1, setting.shape)
            seen.tick[0] = first_tick + number
            seen.history[0, STRICT, :] = np.arange(HISTORY_TICKS)
            for name, values in window.items():
                if name == "rule":
                    plan.reasons[0] = int(Reason.FALLBACK_RULE)
                    continue
                for at, value in values.items():
                    getattr(seen, name)[(0, *at)] = value
            journal.write(seen, np.zeros((1, 0)), plan, empty_actions(1, setting.shape), np.zeros((1, 2, 3, 4)))
    return path


QUIET = {"ready": {(SMALL, OD): 2, (MEDIUM, SPOT_A): 3}}
BUSY = QUIET | {"arrivals": {(STRICT,): 30, (RELAXED,): 10}}


def test_run_begins_with_the_fleet_and_history_that_were_there(tmp_path: Path) -> None:
    run = read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET, BUSY, BUSY]))
    start = run.start([0, 7])
    assert start.cells == (Cell(1, 0), Cell(1, 7))
    assert start.replicas.shape == (2, 3, 4)
    assert (start.replicas[1, SMALL, OD], start.replicas[1, MEDIUM, SPOT_A]) == (2, 3)
    assert start.history[0, STRICT, -1] == HISTORY_TICKS - 1  # of tick 0: the newest window is the last slot
    assert run.ticks == 2


def test_history_of_a_run_that_goes_on_is_laid_out_as_at_its_begin(tmp_path: Path) -> None:
    run = read_recorded(journal_of(tmp_path / "j.jsonl", [BUSY, BUSY], first_tick=3))
    # The newest window lies in slot 2 of the ring, and in the last one at a run's begin.
    assert run.start([0]).history[0, STRICT, -1] == 2.0


def test_rate_and_mix_are_those_that_were_met(tmp_path: Path) -> None:
    run = read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET, BUSY, BUSY, BUSY]))
    # Forty requests in half a live second.
    np.testing.assert_allclose(run.world.rate_rps, 80.0)
    np.testing.assert_allclose(run.simulated.workload.share, [0.75, 0.25])
    assert run.world.cell_ticks == 3
    assert run.hours == pytest.approx(3 * 10.0 / 3600)  # of control time


def test_pool_that_lost_machines_offers_what_was_left_until_it_is_open_again(tmp_path: Path) -> None:
    lost = BUSY | {"ready": {(MEDIUM, SPOT_A): 1}, "preempted": {(SPOT_A,): 2}, "available": {(SPOT_A,): False}}
    run = read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET, BUSY, lost, BUSY]))
    # One of a hundred machines is left.
    np.testing.assert_allclose(run.world.spot_share[SPOT_A], [1.0, 0.01, 1.0])
    np.testing.assert_allclose(run.world.spot_share[OD], 1.0)
    assert run.world.spot_start_s([Cell(1, 0), Cell(1, 1)]).tolist() == [0.0, 0.0]


def test_totals_are_those_of_the_run_and_say_how_often_the_rule_drove(tmp_path: Path) -> None:
    more = BUSY | {"missed": {(STRICT,): 4}, "answered": {(RELAXED,): 10}, "accuracy_sum": {(RELAXED,): 7.6}}
    run = read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET | {"rule": True}, more | {"spend_usd": {(0,): 0.5}}]))
    live = run.live
    assert (live.cost_usd, live.arrived, live.missed, live.rule_ticks) == (0.5, 40, 4, 1)
    assert live.attainment == pytest.approx(0.9)
    assert live.accuracy == pytest.approx(0.76)


def test_catalog_of_another_structure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--catalog: expected the structure of the run's"):
        read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET, BUSY]), "demo")


def test_policy_file_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("kind: static\n", encoding="utf-8")
    header = read_recorded(journal_of(tmp_path / "j.jsonl", [QUIET, BUSY], policy=str(file))).header
    assert recorded_policy(header) == str(file)
    moved = file.rename(tmp_path / "moved.yaml")
    with pytest.raises(PolicyFileError, match="name it with --recorded"):
        recorded_policy(header)
    assert recorded_policy(header, str(moved)) == str(moved)


def test_policy_with_settings_comes_back_from_the_header(tmp_path: Path) -> None:
    setting = tiny_setting()
    spec = PolicySpec(kind="static", settings={"replicas": {"small@od": 1}})
    assert recorded_policy(make_header(setting, spec, "static", (), "live")) == spec
