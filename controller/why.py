"""Tells why a tick came out as it did, from the journal alone.

Two ideas are needed to read it. Names, prices and spans come from the journal's header, so no catalog, policy or
simulator is read. And events of any kind are told by their fields: whoever journals a new kind is shown as it stands;
only receipts and predictions are understood further.

How it reads in English is in `controller.why_text`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from controller.alternatives import Prediction
from controller.arrays import BILL_TERMS, HISTORY_TICKS, I64, ObservationArrays
from controller.errors import UsageError, mismatch
from controller.journal import Journal, JournalEvent, JournalHeader, JournalTick
from controller.latency import quantile
from controller.plan import actions_of, reason_texts
from controller.receipt_check import prediction_of, receipt_in
from controller.receipts import PREDICTION, RECEIPT, Receipt

_OWN: Final = (RECEIPT, PREDICTION)

MOST_EVENTS: Final = 8
"""Events shown of one tick; further ones are counted."""

_RATE_TICKS = 6


@dataclass(frozen=True)
class Names:
    """What a header says of a run: names along the axes and spans."""

    variants: tuple[str, ...]
    pools: tuple[str, ...]
    classes: tuple[str, ...]
    slo_s: tuple[float, ...]
    tick_s: float  # of the run
    speed: float

    @property
    def tick_hours(self) -> float:
        """Control time of a tick, in hours: what money per hour is counted in."""
        return self.tick_s * self.speed / 3600.0

    def counts(self, array: I64) -> dict[str, int]:
        """`variant@pool` to count of a (V, P) array, zeros left out."""
        pairs = np.argwhere(array > 0)
        return {f"{self.variants[v]}@{self.pools[p]}": int(array[v, p]) for v, p in pairs}

    def by_pool(self, array: I64) -> dict[str, int]:
        """Pool to count of a (P,) array, zeros left out."""
        return {self.pools[p]: int(array[p]) for p in np.flatnonzero(array > 0)}


def names_of(header: JournalHeader) -> Names:
    """Names and spans of a journal."""
    scenario: dict[str, Any] = header.scenario
    catalog: dict[str, Any] = header.catalog
    classes = scenario["workload"]["classes"]
    speed = float(scenario["speed"])
    return Names(
        variants=tuple(v["name"] for v in catalog["variants"]),
        pools=tuple(p["name"] for p in catalog["pools"]),
        classes=tuple(c["name"] for c in classes),
        slo_s=tuple(float(c["slo_s"]) for c in classes),
        tick_s=float(scenario["control"]["tick_s"]) / speed,
        speed=speed,
    )


@dataclass(frozen=True)
class ClassSeen:
    """One request class in one window."""

    name: str
    rate_rps: float
    missed: int
    arrived: int
    waiting: int
    p95_s: float | None


@dataclass(frozen=True)
class Seen:
    """What a window showed."""

    classes: tuple[ClassSeen, ...]
    rate_rps: float
    minute_rps: float | None  # mean of the ticks of the last minute of control time; none before there are any
    serving: dict[str, int]
    starting: dict[str, int]
    draining: dict[str, int]
    doomed: dict[str, int]
    unavailable: tuple[str, ...]
    preempted: dict[str, int]
    launch_failed: dict[str, int]
    usd_per_hour: float
    usd_per_hour_by_term: dict[str, float]


@dataclass(frozen=True)
class EventSeen:
    """An event as it was journalled."""

    kind: str
    after: int  # ticks before it: the number of the tick it is of
    line: int
    fields: dict[str, JsonValue]


@dataclass
class Story:
    """One tick and what belongs to it."""

    names: Names
    tick: int
    time_s: float
    seen: Seen
    before: Seen | None
    planned: dict[str, int]
    planned_before: dict[str, int] | None
    reasons: list[str]
    actions: list[str]
    need_rps: float
    receipt: Receipt | None = None
    prediction: Prediction | None = None
    events: list[EventSeen] = field(default_factory=list)  # of this tick: they stand before its line
    num_events: int = 0
    earlier: dict[str, EventSeen] = field(default_factory=dict)  # the last of each kind up to its line
    since: list[EventSeen] = field(default_factory=list)  # of the next tick, or of none yet

    @property
    def driver(self) -> str:
        """Who decided: as an event says that names a `driver`, else as the receipt or the reasons say."""
        told = [event for event in self.earlier.values() if isinstance(event.fields.get("driver"), str)]
        if told:
            return str(max(told, key=lambda event: event.line).fields["driver"])
        if self.receipt is not None:
            return self.receipt.driver
        return "rule" if any("rule drives" in reason for reason in self.reasons) else "policy"


def tell(journal: Journal, *, at_s: float | None = None, tick: int | None = None) -> Story:
    """The story of one tick.

    Args:
        journal: May still be written, or have been cut.
        at_s: The decision in force at this second of the run.
        tick: The tick of this number; without either, the last.

    Raises:
        UsageError: There is no such tick; what the journal covers is said.
    """
    if at_s is not None and tick is not None:
        raise UsageError("--at, --tick: expected one of them, got both")
    names = names_of(journal.header)
    reader = _Reader(names, at_s, tick)
    for record in journal.records():
        if isinstance(record, JournalTick):
            reader.add_tick(record)
        else:
            reader.add_event(record)
    return reader.found()


@dataclass
class _Chosen:
    """The tick asked for, as far as it was read."""

    number: int
    record: JournalTick
    previous: JournalTick | None
    earlier: dict[str, EventSeen]
    events: list[EventSeen]
    receipt: Receipt | None = None
    prediction: Prediction | None = None
    since: list[EventSeen] = field(default_factory=list)


class _Reader:
    """Picks one tick, and what belongs to it, from records in order."""

    def __init__(self, names: Names, at_s: float | None, tick: int | None) -> None:
        self._names, self._at_s, self._tick = names, at_s, tick
        self._count = 0
        self._first_s = self._last_s = 0.0
        self._chosen: _Chosen | None = None
        self._previous: JournalTick | None = None
        self._latest: dict[str, EventSeen] = {}
        self._events: list[EventSeen] = []  # of the tick that comes next

    def add_tick(self, record: JournalTick) -> None:
        """Takes the tick where it is the one asked for, or may still be."""
        self._last_s = float(record.observation.time_s[0])
        if not self._count:
            self._first_s = self._last_s
        if self._tick is not None:
            is_wanted = self._count == self._tick
        else:
            is_wanted = self._at_s is None or self._last_s <= self._at_s + 1e-9
        if is_wanted:
            self._chosen = _Chosen(self._count, record, self._previous, dict(self._latest), self._events)
        self._events = []
        self._previous = record
        self._count += 1

    def add_event(self, record: JournalEvent) -> None:
        """Takes what belongs to the chosen tick."""
        chosen = self._chosen
        if record.kind in _OWN:
            if chosen is not None and record.fields.get("tick") == chosen.number:
                if record.kind == RECEIPT:
                    chosen.receipt = receipt_in(record)
                else:
                    chosen.prediction = prediction_of(record)
            return
        seen = EventSeen(record.kind, record.after, record.line, record.fields)
        self._latest[record.kind] = seen
        self._events.append(seen)
        if chosen is not None and chosen.number == self._count - 1:  # no tick came after it yet
            chosen.since.append(seen)

    def found(self) -> Story:
        """The story, or what to ask for instead."""
        end_s = self._last_s + self._names.tick_s
        if not self._count:
            raise UsageError("JOURNAL: expected at least one tick, got none yet")
        if self._at_s is not None and not self._first_s <= self._at_s <= end_s:
            raise UsageError(mismatch("--at", f"seconds of the run, {self._first_s:g}..{end_s:g}", self._at_s))
        if self._chosen is None:
            raise UsageError(mismatch("--tick", f"0..{self._count - 1}", self._tick))
        return _story(self._names, self._chosen)


def _story(names: Names, chosen: _Chosen) -> Story:
    record, previous = chosen.record, chosen.previous
    plan, actions = record.plan, actions_of(record.actions, 0, names.variants, names.pools)
    return Story(
        names=names,
        tick=chosen.number,
        time_s=float(record.observation.time_s[0]),
        seen=_seen(names, record.observation),
        before=None if previous is None else _seen(names, previous.observation),
        planned=names.counts(plan.replicas[0]),
        planned_before=None if previous is None else names.counts(previous.plan.replicas[0]),
        reasons=reason_texts(int(plan.reasons[0])),
        actions=[_action_text(action) for action in actions],
        need_rps=float(plan.need_rps[0]),
        receipt=chosen.receipt,
        prediction=chosen.prediction,
        events=chosen.events[:MOST_EVENTS],
        num_events=len(chosen.events),
        earlier=chosen.earlier,
        since=chosen.since[:MOST_EVENTS],
    )


def _action_text(action: Any) -> str:
    kind = type(action).__name__.lower()
    if kind == "swap":
        return f"swap {action.count} on {action.pool} from {action.variant} to {action.to_variant}"
    return f"{kind} {action.count} {action.variant}@{action.pool}"


def _seen(names: Names, seen: ObservationArrays) -> Seen:
    spend = seen.spend_usd[0] / names.tick_hours
    classes = []
    for c, name in enumerate(names.classes):
        p95_s = quantile(seen.latency[0, c], 0.95)
        classes.append(
            ClassSeen(
                name=name,
                rate_rps=float(seen.arrivals[0, c]) / names.tick_s,
                missed=int(seen.missed[0, c]),
                arrived=int(seen.arrivals[0, c]),
                waiting=int(seen.waiting[0, c]),
                p95_s=float(p95_s) if np.isfinite(p95_s) else None,
            )
        )
    tick = int(seen.tick[0])
    known = min(tick, _RATE_TICKS)
    slots = (tick - 1 - np.arange(known)) % HISTORY_TICKS
    minute = float(seen.history[0][:, slots].sum()) / (known * names.tick_s) if known else None
    return Seen(
        classes=tuple(classes),
        rate_rps=float(seen.arrivals[0].sum()) / names.tick_s,
        minute_rps=minute,
        serving=names.counts(seen.ready[0]),
        starting=names.counts(seen.starting[0]),
        draining=names.counts(seen.draining[0]),
        doomed=names.counts(seen.doomed[0]),
        unavailable=tuple(names.pools[p] for p in np.flatnonzero(~seen.available[0])),
        preempted=names.by_pool(seen.preempted[0]),
        launch_failed=names.by_pool(seen.launch_failed[0]),
        usd_per_hour=float(spend.sum()),
        usd_per_hour_by_term={term: float(x) for term, x in zip(BILL_TERMS, spend, strict=True) if x},
    )
