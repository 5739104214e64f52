"""A checkpoint is the last state or the one before, never a part; a run's clock outlives a process and a wall clock."""

import json

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS
from serving import checkpoint
from serving.checkpoint import CheckpointError, RunClock, load_checkpoint, save_checkpoint
from serving.fleet import Fleet
from serving.instances import Phase
from serving.market import calm_market
from serving.metrics import ObservationBuilder
from serving.tally import Tally, difference
from tests.unit.serving.test_fleet import OD, SMALL, SPOT, act, counts, fleet
from tests.unit.serving.test_metrics import served


def test_what_was_saved_comes_back_and_nothing_else_lies_there(tmp_path):
    path = tmp_path / "run" / "checkpoint.json"
    save_checkpoint(path, "a", {"tick": 1})
    save_checkpoint(path, "a", {"tick": 2, "values": [0.1, None]})
    assert load_checkpoint(path, "a") == {"tick": 2, "values": [0.1, None]}
    assert [found.name for found in path.parent.iterdir()] == ["checkpoint.json"]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda whole: whole[:20], "a file that was cut"),
        (lambda whole: whole.replace(b'"tick": 1', b'"tick": 7'), "another"),
        (lambda whole: b"", "a file that was cut"),
    ],
)
def test_damaged_checkpoint_is_not_believed(tmp_path, damage, text):
    path = tmp_path / "checkpoint.json"
    save_checkpoint(path, "a", {"tick": 1})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(path, "a")


def test_checkpoint_of_another_run_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c", "a", {})
    with pytest.raises(CheckpointError, match="run: expected b, got a"):
        load_checkpoint(tmp_path / "c", "b")
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        load_checkpoint(tmp_path / "none", "b")


def test_wall_clock_that_is_set_does_not_move_second_zero(monkeypatch):
    clock = RunClock.starting_now()
    monkeypatch.setattr(checkpoint.time, "time", lambda: clock.began_wall_s + 86400.0)
    assert clock.resumed().began_monotonic_s == clock.began_monotonic_s


def test_after_a_reboot_the_wall_clock_tells_how_long_ago_second_zero_was(monkeypatch):
    clock = RunClock(began_monotonic_s=5000.0, began_wall_s=1000.0, boot="another")
    monkeypatch.setattr(checkpoint.time, "time", lambda: 1100.0)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 40.0)
    assert clock.resumed().now_s() == pytest.approx(100.0)


def test_ledger_goes_on_as_if_nothing_had_happened():
    one = fleet()
    one.begin(counts(small_od=1), 0.0)
    one.step(0.0, counts(small_od=1), counts())
    one.apply(act(launch={(SMALL, SPOT): 1}, drain={(SMALL, OD): 1}), 1.0)
    other = fleet()
    other.restore(json.loads(json.dumps(one.snapshot())))
    for world in (one, other):
        world.step(6.0, counts(small_od=0), counts())
        world.apply(act(launch={(SMALL, SPOT): 1}), 6.0)
    assert [vars(i) for i in other.instances] == [vars(i) for i in one.instances]
    assert other.window.spend_usd.tolist() == one.window.spend_usd.tolist()
    assert other.window.spend_usd.sum() > 0


def test_counts_of_a_router_come_back_for_differences():
    world, _, builder, _ = served(2)
    tally = world.core.stats(2.0).tally
    again = Tally.of_json(json.loads(json.dumps(tally.as_json())))
    world.arrive(0)
    later = world.core.stats(2.0).tally
    window = difference(later, again)
    assert window.arrived.tolist() == [1, 0]
    assert window.measured.num_gaps == 1
    assert builder.snapshot()["tick"] == 2


def test_observation_after_a_restart_counts_from_the_last_one_before_it():
    world, ledger, builder, seen = served(2)
    history = seen.history[0].copy()
    again = ObservationBuilder(world.setting)
    again.restore(json.loads(json.dumps(builder.snapshot())), history)
    world.arrive(1)
    world.until(5.0)
    after = again.close(ledger, world.core.stats(5.0), 5.0, tick=5)
    assert after.tick[0] == 5
    assert after.arrivals[0].tolist() == [0, 1]
    assert after.day_arrivals[0].tolist() == [2, 5]


def test_arrivals_of_a_window_of_several_ticks_are_spread_over_them():
    world, ledger, builder, _ = served(1)
    for _ in range(6):
        world.arrive(1)
    world.until(4.0)
    seen = builder.close(ledger, world.core.stats(4.0), 4.0, tick=4)
    assert seen.arrivals[0, 1] == 6
    assert seen.history[0, 1, :5].tolist() == [2, 2, 2, 2, 0]


def test_failed_reading_and_the_long_window_after_it_are_spread_alike():
    world, ledger, builder, _ = served(1)
    builder.repeat(ledger, 2.0)
    for _ in range(3):
        world.arrive(1)
    world.until(3.0)
    seen = builder.close(ledger, world.core.stats(3.0), 3.0)
    assert seen.history[0, 1, :4].tolist() == [2, 1.5, 1.5, 0]
    assert HISTORY_TICKS > 4


def test_ledger_that_was_lost_is_taken_from_what_runs():
    world = Fleet(fleet().catalog, calm_market(1), 0, 5.0)
    world.adopt(counts(small_od=2), 100.0)
    assert world.counts(Phase.SERVING)[SMALL, OD] == 2
    world.adopt(counts(small_od=2), 101.0)
    assert len(world.instances) == 2
    assert np.array_equal(world.targets(), counts(small_od=2))
