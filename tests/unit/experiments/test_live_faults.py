"""What a fault came to is read from the fate of each request and from the status before and after."""

from pathlib import Path

import pytest

from controller.errors import RunError
from controller.journal_writer import JournalWriter
from controller.policies.policy_file import load_policy_file
from experiments.checks import Check
from experiments.live_faults import FAULTS, Fault, FaultRow, Rehearsal, num_serving, rehearse, ticks_to_rule
from experiments.live_load import Sent
from experiments.live_study import SCENARIO, LiveStudy, checks_of, write_study, zero_policy
from tests.unit.controller.test_journal import header, sample_ticks


def sent(status=200, took_s=0.1, slo_s=1.5, at_s=0.0):
    return Sent(at_s=at_s, request_class=0, slo_s=slo_s, status=status, took_s=took_s)


def test_request_is_lost_only_where_it_failed_with_time_left():
    assert not sent(200).is_lost
    assert sent(500).is_lost
    assert sent(0).is_lost
    assert not sent(500, took_s=2.0).is_lost  # its time was up
    assert not sent(503).is_lost  # told when to come back
    assert not sent(504).is_lost


def test_late_answer_is_a_miss_and_no_loss():
    late = sent(200, took_s=1.6)
    assert (late.is_answered, late.is_missed, late.is_lost) == (True, True, False)


class FakeProcess:
    """A run whose status follows a script; asks are remembered."""

    def __init__(self, *statuses):
        self.statuses, self.at = statuses, 0

    def status(self):
        status = self.statuses[min(self.at, len(self.statuses) - 1)]
        self.at += 1
        return status

    def until(self, holds, timeout_s):
        for _ in range(20):
            if (status := self.status()) is not None and holds(status):
                return 0.5
        return None

    def processes(self, title):
        return []

    def nodes(self, pool=""):
        return []


class FakeLoad:
    def __init__(self, requests):
        self.requests = requests

    def between(self, begin_s, end_s):
        return self.requests


def status(serving=3, rule_ticks=0, **more):
    return {
        "serving": {"a": serving},
        "starting": {},
        "alarms": {},
        "driver": "policy",
        "rule_ticks": rule_ticks,
        "loop_error": "",
        "ticks": 1,
        **more,
    }


def rehearsal(process):
    return Rehearsal(process, Path("p"), ("spot",), ("od",))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("experiments.live_faults.time.sleep", lambda _: None)


def test_fault_is_mended_when_capacity_is_back():
    process = FakeProcess(status(), status(), status(2), status(2), status(3), status(3, rule_ticks=4))
    fault = Fault(
        "x",
        lambda _: None,
        is_mended=lambda before, now: num_serving(now) >= num_serving(before),
        is_seen=lambda before, now: num_serving(now) < num_serving(before),
    )
    row = rehearse(fault, rehearsal(process), FakeLoad([sent(), sent(500), sent(504)]))
    assert (row.requests, row.answered, row.missed, row.lost) == (3, 1, 2, 1)
    assert row.seen_s is not None
    assert row.mended_s is not None
    assert row.rule_ticks == 4
    assert row.worst_s == 0.1


def test_run_that_never_settles_is_said_to_be_restless():
    process = FakeProcess(status() | {"starting": {"a": 1}, "alarms": {"drift": "outside"}})
    with pytest.raises(
        RunError,
        match="x: expected a run that settles.* got one with 3 replicas serving, 1 starting, policy driving, drift",
    ):
        rehearse(Fault("x", lambda _: None, lambda *_: True), rehearsal(process), FakeLoad([]))


def test_fault_that_finds_nothing_to_break_says_so():
    process = FakeProcess(status())
    for name in ("a replica is killed", "a node goes without notice", "all spot nodes go at once"):
        (fault,) = [f for f in FAULTS if f.name == name]
        with pytest.raises(RunError, match="got none"):
            rehearse(fault, rehearsal(process), FakeLoad([]))


def row(name="a node goes with notice", **fields):
    base = {
        "fault": name,
        "requests": 10,
        "answered": 10,
        "missed": 0,
        "lost": 0,
        "seen_s": 0.5,
        "mended_s": 3.0,
        "rule_ticks": 0,
        "worst_s": 0.2,
        "hands_back": False,
        "hand_back_ticks": None,
    }
    return FaultRow(**{**base, **fields})


def test_every_loss_and_every_different_decision_falls_short(tmp_path):
    good = LiveStudy((row(),), (50, 0))
    assert all(check.holds for check in checks_of(good))
    assert not all(check.holds for check in checks_of(LiveStudy((row(lost=1),), (50, 0))))
    assert not all(check.holds for check in checks_of(LiveStudy((row(mended_s=None),), (50, 0))))
    assert not all(check.holds for check in checks_of(LiveStudy((row(hands_back=True),), (50, 0))))
    assert not all(c.holds for c in checks_of(LiveStudy((row(hands_back=True, hand_back_ticks=2),), (50, 0))))
    assert all(c.holds for c in checks_of(LiveStudy((row(hands_back=True, hand_back_ticks=0),), (50, 0))))
    assert not all(check.holds for check in checks_of(LiveStudy((row(),), (50, 1))))
    for holds in (True, False):
        steady = Check("changes at constant load", "2", "<= 2", holds)
        assert all(c.holds for c in checks_of(LiveStudy((row(),), (50, 0), steadiness=steady))) is holds
    assert write_study(good, tmp_path).exists()


def test_router_that_is_killed_may_lose_what_nobody_repeats():
    rows = (row("a router replica is killed", lost=5), row("a router replica is killed, clients repeat"))
    assert all(check.holds for check in checks_of(LiveStudy(rows, (1, 0))))


def test_zero_policy_is_the_rule_in_a_policy_file(tmp_path):
    content = load_policy_file(zero_policy(tmp_path / "zero.provisor", SCENARIO))
    assert content.manifest.catalog == "fixed"
    assert all(not tensor.any() for name, tensor in content.tensors.items() if name.startswith("knobs."))


def journal_with(tmp_path, *events):
    """A journal of one tick between every two events."""
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path, header()) as journal:
        for kind, fields in events:
            journal.event(kind, fields)
            journal.write(*sample_ticks(1)[0])
    return path


ON, OFF = {"alarm": "stale_metrics", "is_on": True}, {"alarm": "stale_metrics", "is_on": False}


def test_hand_back_is_counted_in_ticks_from_the_alarm(tmp_path):
    path = journal_with(tmp_path, ("drive", {"driver": "rule"}), ("alarm", ON), ("drive", {"driver": "rule"}))
    assert ticks_to_rule(path, since=1) == 1
    assert ticks_to_rule(path, since=2) is None  # that alarm was before


def test_rule_that_does_not_take_over_is_told(tmp_path):
    path = journal_with(tmp_path, ("alarm", ON), ("drive", {"driver": "policy"}), ("alarm", OFF))
    assert ticks_to_rule(path, since=0) is None


def test_fault_that_nobody_notices_is_not_seen():
    process = FakeProcess(status())
    fault = Fault("x", lambda _: None, lambda *_: True, is_seen=lambda *_: False)
    assert rehearse(fault, rehearsal(process), FakeLoad([])).seen_s is None


def test_run_is_whole_when_what_is_planned_serves_and_not_before_it_decided_anew():
    (fault,) = [f for f in FAULTS if f.name == "all spot nodes go at once"]
    before = status(5, planned={"a": 5})
    assert fault.is_mended(before, status(4, ticks=4, planned={"a": 4}))
    assert not fault.is_mended(before, status(4, ticks=4, planned={"a": 5}))
    assert not fault.is_mended(before, status(5, ticks=2, planned={"a": 5}))
    assert not fault.is_mended(before, status(4, ticks=4, planned={"a": 4}) | {"starting": {"a": 1}})


def test_fault_that_takes_the_wheel_waits_until_the_policy_has_it():
    ruled = FakeProcess(status(driver="rule"))
    fault = Fault("x", lambda _: None, lambda *_: True, hands_back=True)
    with pytest.raises(RunError, match="settles"):
        rehearse(fault, rehearsal(ruled), FakeLoad([]))
