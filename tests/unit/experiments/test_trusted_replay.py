"""A supervised run of the simulated world, in every mode and with every change of hands, decides again the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from controller.arrays import empty_actions
from controller.errors import PolicyFileError
from controller.journal import Journal, JournalTick
from controller.journal_writer import JournalWriter
from controller.loop import DecisionLoop
from controller.policies.policy_file import save_policy_file
from controller.policies.registry import make_policy
from controller.replay import make_header, replay_journal
from controller.scenario import load_scenario
from controller.trust.again import DecideAgain
from controller.trust.config import TrustConfig
from controller.trust.desk import ControlDesk, warm_loop
from controller.trust.memory import Memory, load_memory, save_memory
from controller.trust.mode import Mode
from controller.trust.store import PolicyStore
from controller.trust.supervisor import Supervisor
from envs.world import Cell, WorldChoice, build_world
from experiments.rollout import begin, new_simulator, prepare
from tests.networks import make_content

SEED, DAY = 1, 3


class SupervisedRun:
    """The tiny scenario under a supervisor, journalled as a live run is."""

    def __init__(self, folder: Path, policy: str, mode: Mode, **config):
        self.world = build_world(load_scenario("tiny"), WorldChoice(days=(DAY, DAY)))
        setting = self.world.setting
        start = prepare(self.world, [Cell(DAY, SEED)])
        self.simulator = new_simulator(self.world, 1)
        self.seen = begin(self.world, start, self.simulator)
        self.store = store = PolicyStore(folder)
        self.first = entry = store.entry(policy)
        self.supervisor = Supervisor(
            DecisionLoop(setting, make_policy("reactive", setting)),
            "reactive",
            warm_loop(setting, store, entry),
            entry,
            mode=mode,
            config=TrustConfig(quiet_s=30.0, fault_quiet_s=40.0, settle_s=0.0, **config),
        )
        self.desk = ControlDesk(setting, self.supervisor, store, start=lambda call: call())
        self.path, self.memory_path = folder / "journal.jsonl", folder / "memory.pickle"
        self.header = make_header(setting, policy, "policy", (), "live")
        self.writer = JournalWriter(self.path, self.header)
        self.drivers = []
        self.idle = empty_actions(1, setting.shape)
        self.in_force = None

    def cut_off(self, has_state):
        """The process dies, and another one goes on with what the folder holds."""
        self.writer.close()
        state = json.loads(json.dumps(self.desk.state())) if has_state else None
        store, entry, setting = self.store, self.first, self.world.setting
        rule = DecisionLoop(setting, make_policy("reactive", setting))
        loop = DecisionLoop(setting, store.make(entry, setting))
        self.supervisor = Supervisor(rule, "reactive", loop, entry, config=self.supervisor.config)
        self.desk = ControlDesk(setting, self.supervisor, store, start=lambda call: call())
        memory = load_memory(self.memory_path, "run", self.path)
        self.desk.go_on(Journal(self.path), state, memory)
        after = None if memory is None else memory.place
        self.writer = JournalWriter(self.path, self.header, is_continuing=True, after=after)

    def remember(self):
        """Writes down the loops, as the controller does from time to time."""
        return self.desk.write_down(
            self.seen, lambda found: save_memory(self.memory_path, "run", Memory(self.writer.place, found))
        )

    def ticks(self, count, stale_ticks=0):
        for _ in range(count):
            verdict = self.supervisor.decide(self.seen, stale_ticks)
            decision = verdict.decision
            for event in verdict.events:
                self.writer.event(*event)
            self.writer.write(self.seen, decision.raw, decision.plan, decision.actions, decision.shares)
            self.drivers.append(str(verdict.driver))
            if verdict.mode is not Mode.REPLAY:
                self.in_force = [decision.plan._make(a.copy() for a in decision.plan), decision.shares.copy()]
                self.simulator.apply(decision.actions, *self.in_force)
            else:
                self.simulator.apply(self.idle, *self.in_force)
            self.desk.after_tick()
            self.seen = self.simulator.advance()
        return self


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two learned policies that decide differently."""
    folder, setting = tmp_path_factory.mktemp("files"), build_world(load_scenario("tiny")).setting
    paths = []
    for name, scale in (("first", 0.3), ("second", 0.6)):
        paths.append(folder / f"{name}.provisor")
        save_policy_file(paths[-1], make_content(setting, scale))
    return paths


@pytest.fixture(scope="module")
def run(tmp_path_factory, files):
    """A run in which everything happens that changes hands."""
    first, second = files
    run = SupervisedRun(tmp_path_factory.mktemp("run"), str(first), Mode.ACTIVE)
    run.ticks(8)
    run.desk.set_mode("canary")
    run.ticks(8)
    run.desk.set_mode("shadow")
    run.ticks(4)
    run.desk.push(second.name, second.read_bytes())
    run.ticks(8)
    run.desk.set_mode("active")
    run.ticks(8)
    run.ticks(1, stale_ticks=1)
    run.ticks(8)  # the rule, then the policy again after the quiet time
    run.supervisor.candidate.loop.propose = lambda seen: 1 / 0
    run.ticks(1)
    run.ticks(8)  # the rule, a fresh policy after its quiet time
    run.desk.rollback()
    run.ticks(4)
    run.desk.set_mode("replay")
    run.ticks(6)
    run.writer.close()
    return run


def test_every_tick_is_decided_again_whoever_drove(run):
    again = replay_journal(run.path)
    assert [str(difference) for difference in again.differences] == []
    assert again.is_equal
    assert again.not_compared == 0
    assert again.ticks == len(run.drivers)
    assert again.by_driver == {name: run.drivers.count(name) for name in ("policy", "canary", "rule")}
    assert min(again.by_driver.values()) >= 8
    # Shadow 12, on probation 3 (the tick of an error has no second decision) and 4, replay 6.
    assert again.beside >= 18


def test_each_hand_over_is_told_with_its_reason(run):
    events = [json.loads(line) for line in run.path.read_text().splitlines() if line.startswith('{"event"')]
    told = [(e["fields"]["driver"], e["fields"]["reason"].partition(":")[0]) for e in events if e["event"] == "drive"]
    assert told == [
        ("canary", "mode canary"),
        ("rule", "mode shadow"),
        ("policy", "mode active"),
        ("rule", "stale_metrics"),
        ("policy", "quiet for 30 s"),
        ("rule", "policy_error"),
        ("policy", "quiet for 40 s"),
    ]
    assert [e["fields"]["why"] for e in events if e["event"] == "policy"] == ["push", "lost", "retry", "rollback"]


def test_ticks_that_the_rule_failed_at_are_decided_again_though_it_does_not_fail_then(files, tmp_path):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.SHADOW).ticks(5)
    rule = run.supervisor.rule
    propose = rule.propose

    def propose_and_fail(seen):
        propose(seen)
        raise ZeroDivisionError

    rule.propose = propose_and_fail
    run.ticks(3)
    rule.propose = propose
    run.ticks(3)
    run.writer.close()
    again = replay_journal(run.path)
    assert [str(difference) for difference in again.differences] == []
    assert again.by_driver["rule"] == 11


def test_network_and_rule_differ_so_that_the_comparison_can_fail(run):
    plans = {}
    for line in run.path.read_text().splitlines():
        tick = json.loads(line)
        if "n" in tick:
            plans.setdefault(run.drivers[tick["n"]], []).append(tick["plan"]["replicas"])
    assert plans["policy"][-1] != plans["rule"][-1]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [("drive", "driver", "policy"), ("beside", "raw", [0.5] * 7), ("trust", "rule", "static")],
)
def test_event_that_was_altered_is_found(run, tmp_path, kind, field, value):
    lines = [json.loads(line) for line in run.path.read_text().splitlines()]
    at = next(i for i, line in enumerate(lines) if line.get("event") == kind and line["fields"][field] != value)
    lines[at]["fields"][field] = value
    (tmp_path / "policies").symlink_to(run.path.parent / "policies")
    altered = tmp_path / "journal.jsonl"
    altered.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert not replay_journal(altered).is_equal


def test_policy_that_was_pushed_must_lie_beside_the_journal(run, tmp_path):
    alone = tmp_path / "journal.jsonl"
    alone.write_bytes(run.path.read_bytes())
    with pytest.raises(PolicyFileError, match="expected the file with SHA-256"):
        replay_journal(alone)


@pytest.mark.parametrize("settings", ["", ":miss_multiplier=2"])
def test_kept_copy_stands_in_for_a_policy_file_that_is_gone(files, tmp_path, settings):
    gone = tmp_path / "gone.provisor"
    gone.write_bytes(files[0].read_bytes())
    run = SupervisedRun(tmp_path / "run", f"{gone}{settings}", Mode.ACTIVE).ticks(3)
    run.writer.close()
    gone.unlink()
    assert replay_journal(run.path).is_equal


@pytest.mark.parametrize("settings", ["", ":miss_multiplier=2"])
def test_kept_copy_stands_in_for_the_shipped_policy_of_another_version(files, tmp_path, monkeypatch, settings):
    run = SupervisedRun(tmp_path / "run", f"generalist{settings}", Mode.ACTIVE).ticks(3)
    run.writer.close()
    monkeypatch.setattr("controller.policies.registry.SHIPPED", files[0])
    assert replay_journal(run.path).is_equal


def eventful(folder, files, cut_at=(), remember_at=()):
    """A run in which hands change; it is cut off and goes on after the steps in `cut_at`.

    After those in `remember_at` the loops are written down.
    """
    first, second = files
    run = SupervisedRun(folder, str(first), Mode.ACTIVE)

    def fail():
        run.supervisor.candidate.loop.propose = lambda seen: 1 / 0

    def roll_back():
        run.desk.rollback()

    steps = [
        lambda: run.ticks(7),
        lambda: run.desk.push(second.name, second.read_bytes()),
        lambda: run.ticks(5),
        lambda: run.ticks(1, stale_ticks=1),
        lambda: run.ticks(1),
        lambda: run.ticks(4),
        fail,
        lambda: run.ticks(2),
        lambda: run.ticks(6),
        roll_back,
        lambda: run.ticks(3),
        lambda: run.desk.set_mode("canary"),
        lambda: run.ticks(7),
    ]
    for number, step in enumerate(steps):
        step()
        if number in remember_at:
            assert run.remember()
        if number in cut_at:
            run.cut_off(has_state=True)
    run.writer.close()
    return run


def lines_of(path):
    """Lines of a journal, but for what a restart may say: the history once more, and who brought the mode."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.get("observation", {}).pop("history", None)
        line.get("fields", {}).pop("by", None)
    return lines


def test_run_that_was_cut_off_goes_on_as_if_it_had_not_been(files, tmp_path):
    whole = eventful(tmp_path / "whole", files)
    cut = eventful(tmp_path / "cut", files, cut_at=(0, 2, 4, 7, 8, 10, 11))
    assert lines_of(cut.path) == lines_of(whole.path)
    assert replay_journal(cut.path).is_equal


def test_run_that_remembers_decides_again_only_what_came_after(files, tmp_path, monkeypatch):
    whole = eventful(tmp_path / "whole", files)
    decided = []
    decide = DecideAgain.decide
    monkeypatch.setattr(DecideAgain, "decide", lambda self, tick: decided.append(tick.line) or decide(self, tick))
    cut = eventful(tmp_path / "cut", files, cut_at=(4, 8, 10, 12), remember_at=(0, 3, 7, 8, 12))
    assert lines_of(cut.path) == lines_of(whole.path)
    # One tick after step 3, six after 7 but for none after 8, three in 10, none in 12.
    assert len(decided) == 1 + 0 + 3 + 0
    monkeypatch.undo()
    assert replay_journal(cut.path).is_equal


@pytest.mark.parametrize("harm", ["damaged", "of another run", "writable by all", "of a longer journal", "gone"])
def test_memory_that_cannot_be_believed_is_not_taken(files, tmp_path, harm, caplog):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.ACTIVE).ticks(4)
    assert run.remember()
    path, wanted = run.memory_path, run.path
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif harm == "writable by all":
        path.chmod(0o666)
    elif harm == "of a longer journal":
        wanted = tmp_path / "short.jsonl"
        wanted.write_bytes(run.path.read_bytes()[:-1])
    elif harm == "gone":
        path.unlink()
    assert load_memory(path, "another" if harm == "of another run" else "run", wanted) is None
    assert ("not taken" in caplog.text) is (harm != "gone")
    run.cut_off(has_state=True)
    run.ticks(4).writer.close()
    assert replay_journal(run.path).is_equal


def test_nothing_is_written_down_while_a_change_is_not_journalled_yet(files, tmp_path):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.ACTIVE).ticks(2)
    run.desk.set_mode("shadow")
    assert not run.remember()
    assert run.ticks(1).remember()
    run.writer.close()


def test_policy_that_cannot_be_pickled_is_remembered_by_its_journal_alone(files, tmp_path, caplog):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.ACTIVE).ticks(2)
    run.supervisor.candidate.loop.policy.helper = lambda: None
    assert not run.remember()
    assert "decides its whole journal again" in caplog.text
    run.writer.close()


def test_journal_is_read_on_from_a_place(files, tmp_path):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.ACTIVE).ticks(3)
    place = run.writer.place
    run.desk.set_mode("shadow")
    run.ticks(3).writer.close()
    rest, every = list(Journal(run.path).records(place)), list(Journal(run.path).records())
    assert [record.line for record in rest] == [record.line for record in every if record.line > place.line]
    ticks = [[record.observation for record in some if isinstance(record, JournalTick)] for some in (rest, every)]
    assert len(ticks[0]) == 3
    for found, wanted in zip(ticks[0], ticks[1][-3:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_run_that_lost_its_snapshot_stays_with_the_rule_for_the_quiet_time(files, tmp_path):
    run = SupervisedRun(tmp_path, str(files[0]), Mode.ACTIVE, slo_burn={"is_on": False}).ticks(4)
    run.ticks(1, stale_ticks=1)
    run.cut_off(has_state=False)
    run.drivers.clear()
    run.ticks(4)
    run.writer.close()
    # 30 s from the last tick before it was cut off.
    assert run.drivers == ["rule", "rule", "policy", "policy"]
    assert replay_journal(run.path).is_equal


def test_restart_within_a_journal_begins_with_fresh_loops(files, tmp_path):
    run = SupervisedRun(tmp_path / "run", str(files[0]), Mode.ACTIVE).ticks(9)
    run.writer.close()
    state = run.desk.state()
    again = SupervisedRun(tmp_path / "other", str(files[0]), Mode.SHADOW)
    again.desk.restore(state)
    again.writer.close()
    again.writer = JournalWriter(
        run.path, make_header(again.world.setting, str(files[0]), "policy", (), "live"), is_continuing=True
    )
    again.seen = run.seen
    again.simulator = run.simulator
    again.ticks(9)
    again.writer.close()
    assert again.drivers == ["policy"] * 9
    replay = replay_journal(run.path)
    assert (replay.is_equal, replay.ticks) == (True, 18)
    np.testing.assert_array_equal(replay.not_compared, 0)
