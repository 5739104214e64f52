"""Breaks a live run, one thing at a time, and watches what becomes of its requests and of itself.

Each fault is done from outside, as it happens to an operator: processes are killed or frozen, a file is overwritten, a
notice is posted. Only what cannot be done to one process alone without touching the machine (a clock that jumps, a
router that cannot be read) goes through the run's rehearsals.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from controller.errors import RunError
from controller.journal import Journal, TruncatedJournalWarning
from controller.trust.events import ALARM, DRIVE
from controller.trust.mode import Driver
from experiments.live_load import OpenLoad, Sent
from experiments.live_process import ServeProcess
from serving.processes import child_processes, kill_tree

_NOTICE_S = 8.0
_SETTLE_TIMEOUT_S = 180.0
_SEEN_TIMEOUT_S = 30.0
_RECOVERY_TIMEOUT_S = 240.0
_AFTER_S = 6.0
_HELD_S = 6.0


@dataclass
class Rehearsal:
    """What a fault is done to.

    Attributes:
        process: The live run.
        policy_file: That the run was started with.
        frozen: Processes that were stopped and must be ended.
    """

    process: ServeProcess
    policy_file: Path
    spot_pools: tuple[str, ...]
    steady_pools: tuple[str, ...]
    frozen: list[int] = field(default_factory=list)

    def kill_first(self, title: str) -> None:
        """Kills one of the run's processes.

        Raises:
            RunError: There is none of that title.
        """
        found = self.process.processes(title)
        if not found:
            raise RunError(f"expected a process titled {title!r}, got none")
        os.kill(found[0], signal.SIGKILL)

    def node(self, *pools: str) -> int:
        """Root process of a node of one of the pools.

        Raises:
            RunError: There is none.
        """
        for pool in pools:
            if found := self.process.nodes(pool):
                return found[0]
        raise RunError(f"expected a node of {', '.join(pools)}, got none")

    def freeze(self, root: int) -> None:
        """Stops a node: it answers nothing, and its connections stay open."""
        self.frozen = [root, *sorted(child_processes(root))]
        for pid in self.frozen:
            os.kill(pid, signal.SIGSTOP)

    def end_frozen(self) -> None:
        """Ends what was stopped."""
        if self.frozen:
            kill_tree(self.frozen[0])
            for pid in self.frozen[1:]:
                kill_tree(pid)
        self.frozen = []


@dataclass(frozen=True)
class Fault:
    """One thing that breaks.

    Attributes:
        name: In the table.
        inject: Breaks it.
        is_seen: From the status before and now: whether the controller shows that it noticed; None: nothing to see.
        is_mended: Likewise: whether all is as it should be again.
        hands_back: Whether the named rule must drive within a tick.
        repeats: Whether the load is sent by the shipped client.
    """

    name: str
    inject: Callable[[Rehearsal], None]
    is_mended: Callable[[dict[str, Any], dict[str, Any]], bool]
    is_seen: Callable[[dict[str, Any], dict[str, Any]], bool] | None = None
    hands_back: bool = False
    repeats: bool = False


@dataclass(frozen=True)
class FaultRow:
    """What one fault came to."""

    fault: str
    requests: int
    answered: int
    missed: int
    lost: int  # failed with time left
    seen_s: float | None  # until the controller showed it
    mended_s: float | None  # until all was as before; None: not in time
    rule_ticks: int  # that the named rule drove
    worst_s: float  # longest wait for an answer
    hands_back: bool  # whether the rule had to take over
    hand_back_ticks: int | None  # from the alarm to the rule's first decision; None: none, or it had not to decide


def num_serving(status: dict[str, Any]) -> int:
    """Replicas that take requests."""
    return sum(status["serving"].values())


def _has_capacity(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all that is planned serves; what is planned may be less than before, which is the policy's to say."""
    has_decided = now["ticks"] > before["ticks"] + 1
    is_whole = not now["starting"] and num_serving(now) >= sum(now["planned"].values())
    return has_decided and is_whole and not now["loop_error"]


def _has_ticked(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(now["ticks"] > before["ticks"] + 1) and not now["loop_error"]


def _policy_drives(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(now["driver"] == before["driver"]) and _has_ticked(before, now)


def _is_fewer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return num_serving(now) < num_serving(before)


def _rule_drives(_before: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(now["driver"] == "rule")


def _is_restarted(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(now["restarts"] > before["restarts"])


def _all_spot(rehearsal: Rehearsal) -> None:
    roots = [root for pool in rehearsal.spot_pools for root in rehearsal.process.nodes(pool)]
    if not roots:
        raise RunError(f"expected nodes of {', '.join(rehearsal.spot_pools)}, got none")
    for root in roots:
        kill_tree(root)


def _notice(rehearsal: Rehearsal) -> None:
    body = {"pool": rehearsal.spot_pools[0], "left_s": _NOTICE_S}
    rehearsal.process.ask("POST", "/v1/notices", body)


def _spoil_policy(rehearsal: Rehearsal) -> None:
    whole = rehearsal.policy_file.read_bytes()
    rehearsal.policy_file.write_bytes(whole[: len(whole) // 2] + b"?" * 64)


def _rehearse(what: str, value: float) -> Callable[[Rehearsal], None]:
    def inject(rehearsal: Rehearsal) -> None:
        rehearsal.process.ask("POST", "/v1/rehearsals", {"what": what, "value": value})

    return inject


REPLICA = "ray::ServeReplica:provisor:digits"
ROUTER_REPLICA = "ray::ServeReplica:provisor:router"

FAULTS = (
    Fault("a replica is killed", lambda r: r.kill_first(REPLICA), _has_capacity, _is_fewer),
    Fault("Serve's controller is killed", lambda r: r.kill_first("ray::ServeController"), _has_ticked),
    Fault("our controller is killed", lambda r: r.kill_first("ray::ServingController"), _has_ticked, _is_restarted),
    Fault("a node goes with notice", _notice, _has_capacity, _is_fewer),
    Fault("a node goes without notice", lambda r: kill_tree(r.node(*r.steady_pools)), _has_capacity, _is_fewer),
    Fault("all spot nodes go at once", _all_spot, _has_capacity, _is_fewer),
    Fault("a node freezes", lambda r: r.freeze(r.node(*r.steady_pools)), _has_capacity, _is_fewer),
    Fault("the router cannot be read", _rehearse("blind_s", _HELD_S), _policy_drives, _rule_drives, hands_back=True),
    Fault("the wall clock jumps a day", _rehearse("clock_jump_s", 86400.0), _has_ticked),
    Fault("a router replica is killed", lambda r: r.kill_first(ROUTER_REPLICA), _has_ticked),
    Fault(
        "a router replica is killed, clients repeat",
        lambda r: r.kill_first(ROUTER_REPLICA),
        _has_ticked,
        repeats=True,
    ),
    Fault("the policy file is spoilt", _spoil_policy, _rule_drives, _rule_drives, hands_back=True),
)
"""In this order: the last one leaves the rule in charge."""


def rehearse(fault: Fault, rehearsal: Rehearsal, load: OpenLoad) -> FaultRow:
    """Does one fault to a run that has settled, and waits until it is mended.

    Raises:
        RunError: The run does not settle, or the fault cannot be done.
    """
    process = rehearsal.process
    if process.until(lambda s: _is_settled(s, fault), _SETTLE_TIMEOUT_S) is None:
        expected = f"a run that settles within {_SETTLE_TIMEOUT_S:g} s"
        raise RunError(f"{fault.name}: expected {expected}, got one with {_unrest(process.status())}")
    before = process.status()
    if before is None:
        raise RunError(f"{fault.name}: expected a status, got none")
    began_s = time.monotonic()
    fault.inject(rehearsal)
    seen_s = None
    if fault.is_seen is not None:
        is_seen = fault.is_seen
        seen_s = process.until(lambda s: is_seen(before, s), _SEEN_TIMEOUT_S)
    mended = process.until(lambda s: fault.is_mended(before, s), _RECOVERY_TIMEOUT_S)
    mended_s = None if mended is None else time.monotonic() - began_s
    time.sleep(_AFTER_S)
    rehearsal.end_frozen()
    end_s = time.monotonic()
    after = process.status() or before
    sent = load.between(began_s - 1.0, end_s - _AFTER_S / 2)
    hand_back = ticks_to_rule(process.journal, int(before["ticks"])) if fault.hands_back else None
    return _row(fault, sent, seen_s, mended_s, int(after["rule_ticks"] - before["rule_ticks"]), hand_back)


def _is_settled(status: dict[str, Any], fault: Fault) -> bool:
    """Whether all that was launched serves, and the policy drives where the fault is to take that from it."""
    drives = status["driver"] == Driver.POLICY or not fault.hands_back
    return num_serving(status) > 0 and not status["starting"] and drives


def _unrest(status: dict[str, Any] | None) -> str:
    """What keeps a run from being settled, in words."""
    if status is None:
        return "no status"
    alarms = ", ".join(status["alarms"]) or "no alarm"
    starting = sum(status["starting"].values())
    return f"{num_serving(status)} replicas serving, {starting} starting, {status['driver']} driving, {alarms}"


def ticks_to_rule(path: Path, since: int) -> int | None:
    """Ticks from the first alarm until the rule's first decision, as the journal of a run that goes on tells.

    Args:
        path: Of the journal.
        since: Ticks that were journalled before the alarm.

    Returns:
        0 where the tick of the alarm is the rule's; None where there was no alarm, or the rule did not take over.
    """
    alarm: int | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedJournalWarning)  # its last line may be on its way
        for event in Journal(path).events():
            if event.after < since:
                continue
            if alarm is None and event.kind == ALARM and event.fields["is_on"]:
                alarm = event.after
            if alarm is not None and event.kind == DRIVE and event.fields["driver"] == Driver.RULE:
                return event.after - alarm
    return None


def _row(
    fault: Fault,
    sent: list[Sent],
    seen_s: float | None,
    mended_s: float | None,
    rule_ticks: int,
    hand_back_ticks: int | None,
) -> FaultRow:
    waits = np.array([one.took_s for one in sent if one.is_answered])
    return FaultRow(
        fault=fault.name,
        requests=len(sent),
        answered=sum(one.is_answered for one in sent),
        missed=sum(one.is_missed for one in sent),
        lost=sum(one.is_lost for one in sent),
        seen_s=seen_s,
        mended_s=mended_s,
        rule_ticks=rule_ticks,
        worst_s=float(waits.max()) if len(waits) else float("nan"),
        hands_back=fault.hands_back,
        hand_back_ticks=hand_back_ticks,
    )
