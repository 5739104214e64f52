"""The flap index on sequences worked by hand: one deployment unless said otherwise, ticks of 60 s."""

from pathlib import Path

import numpy as np
import pytest

from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.errors import UsageError
from controller.flaps import flap_index, flaps_of_journal
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.replay import make_header
from tests.tiny import MEDIUM, OD, tiny_setting


def one(*counts: int) -> np.ndarray:
    return np.array(counts, np.int64)[:, None, None]


def test_a_steady_fleet_has_no_flaps() -> None:
    found = flap_index(one(*[3] * 61), 60.0)
    assert found.hours == 1.0
    assert (found.changes_per_hour, found.reversals_per_hour) == (0.0, 0.0)


def test_a_ramp_changes_without_reversals() -> None:
    # two steps up, by one and by four, in an hour
    found = flap_index(one(1, 2, 2, 6, *[6] * 57), 60.0)
    assert (found.changes_per_hour, found.reversals_per_hour) == (2.0, 0.0)


def test_every_turn_within_the_window_is_a_reversal() -> None:
    # up, down, up, down: four changes, three of which take the one before back
    found = flap_index(one(1, 2, 1, 2, 1, *[1] * 26), 60.0)
    assert found.hours == 0.5
    assert (found.changes_per_hour, found.reversals_per_hour) == (8.0, 6.0)


@pytest.mark.parametrize(("window_s", "reversals"), [(300.0, 1), (299.0, 0)])
def test_a_turn_after_the_window_is_none(window_s: float, reversals: int) -> None:
    # up at the first tick, down five ticks later
    assert flap_index(one(1, 2, 2, 2, 2, 2, 1), 60.0, window_s=window_s).reversals.sum() == reversals


def test_deployments_are_counted_apart() -> None:
    # capacity moves from one to the other and back: two changes and one reversal each
    counts = np.array([[[3, 0]], [[0, 3]], [[3, 0]]], np.int64)
    found = flap_index(counts, 60.0)
    assert found.changes.tolist() == [[2, 2]]
    assert found.reversals.tolist() == [[1, 1]]


def test_the_warm_up_is_left_out() -> None:
    # what happens between the ticks at 0 and 120 s is warm-up; one change is left in 120 s
    found = flap_index(one(0, 9, 4, 4, 5), 60.0, warm_up_s=120.0)
    assert found.changes.sum() == 1
    assert found.reversals.sum() == 0
    assert found.hours == pytest.approx(1 / 30)


def test_sequences_that_say_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"replicas: expected an array of shape \(ticks, variants, pools\)"):
        flap_index(np.zeros((5, 2), np.int64), 60.0)
    with pytest.raises(UsageError, match="replicas: expected at least two ticks after a warm-up of 240 s, got 5"):
        flap_index(one(1, 1, 1, 1, 1), 60.0, warm_up_s=240.0)


def test_a_journal_is_read_by_the_ticks_of_its_scenario(tmp_path: Path) -> None:
    setting = tiny_setting()
    path = tmp_path / "journal.jsonl"
    plan = empty_plan(1, setting.shape)
    with JournalWriter(path, make_header(setting, "mpc", "mpc", (0,), "simulated")) as writer:
        for tick, count in enumerate((2, 3, 2, 2)):
            observation = empty_observation(1, setting.shape)
            observation.tick[:] = tick
            observation.ready[0, MEDIUM, OD] = 2
            observation.starting[0, MEDIUM, OD] = count - 2
            plan.replicas[0, MEDIUM, OD] = 9 - tick  # what is asked for is no capacity yet
            shares = np.zeros((1, *(setting.shape[2], *setting.shape[:2])))
            writer.write(observation, np.zeros((1, 0)), plan, empty_actions(1, setting.shape), shares)
    found = flaps_of_journal(Journal(path))
    # three ticks of 10 s
    assert found.hours == pytest.approx(30 / 3600)
    assert found.changes[MEDIUM, OD] == 2
    assert found.reversals[MEDIUM, OD] == 1
