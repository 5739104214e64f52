"""A tick's story in plain English, and as plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from controller.alternatives import Expected
from controller.journal import JournalHeader
from controller.receipt_check import PredictionCheck
from controller.receipts import Limited
from controller.why import EventSeen, Seen, Story

_MODE_KINDS: Final = ("trust", "mode", "drive", "demotion", "promotion")
"""Kinds of events that change who drives."""

_STEADY = 0.02
# A rate this little off the minute's mean is called the same.

_WORDS = {
    "quota": "the pool's quota",
    "pools.max": "the pool's maximum",
    "pools.min": "the pool's minimum",
    "max_launch_per_tick": "the most launches per tick",
    "max_drain_per_tick": "the most drains per tick",
    "budget_usd_per_hour": "the budget in $/h",
    "on_demand_floor": "the on-demand floor",
    "invalid_plan": "an invalid number in the plan",
}


def as_values(story: Story) -> dict[str, Any]:
    """The story for programs; rates in requests/s, money in $/h of control time."""
    receipt, prediction = story.receipt, story.prediction
    return {
        "tick": story.tick,
        "time_s": story.time_s,
        "driver": story.driver,
        "seen": asdict(story.seen),
        "before": None if story.before is None else asdict(story.before),
        "need_rps": story.need_rps,
        "planned": story.planned,
        "planned_before": story.planned_before,
        "reasons": story.reasons,
        "actions": story.actions,
        "receipt": None if receipt is None else receipt.model_dump(mode="json"),
        "prediction": None if prediction is None else prediction.model_dump(mode="json"),
        "events": [asdict(event) for event in story.events],
        "since": [asdict(event) for event in story.since],
        "num_events": story.num_events,
        "earlier_events": {kind: asdict(event) for kind, event in story.earlier.items()},
    }


def as_text(story: Story, header: JournalHeader) -> str:
    """The story for a person."""
    scenario = header.scenario.get("name", "?")
    run = f"the {header.kind} run of '{scenario}' under policy {header.policy_name}"
    lines = [f"Tick {story.tick}, {_clock(story.time_s)} into {run}; the {story.driver} drove."]
    lines += [f"  {line}" for line in _mode_lines(story)]
    lines += ["Seen:", *_indented(_seen_lines(story.seen, story.before))]
    lines += ["Expected:", *_indented(_forecast_lines(story))]
    lines += ["Decided:", *_indented(_decision_lines(story))]
    lines += ["Expected of it:", *_indented(_outcome_lines(story))]
    for title, events in (("Events of this tick:", story.events), ("Since:", story.since)):
        if events:
            lines += [title, *_indented(_event_text(event) for event in events)]
    if story.num_events > len(story.events):
        lines.append(f"{story.num_events - len(story.events)} more events of this tick")
    return "\n".join(lines)


def check_text(checks: Sequence[PredictionCheck], horizon_s: float) -> str:
    """How good a journal's predictions were."""
    if not checks:
        return "predictions: none whose horizon the journal covers"
    lines = [f"predictions of {checks[0].count} ticks over {horizon_s:g} s, {checks[0].apart} of them apart:"]
    for one in checks:
        shown = [
            f"  {one.metric}: expected {one.predicted:.4g}, came out {one.realised:.4g}",
            f"off by {one.bias:+.2g} on average"
            + ("" if one.bias_z is None else f" ({one.bias_z:+.1f} standard errors of the model's own)"),
        ]
        if one.within is not None:
            shown.append(f"inside the 95 % interval of one run {one.within:.0%} of the time")
        lines.append("; ".join(shown))
    return "\n".join(lines)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _clock(seconds: float) -> str:
    whole = int(seconds + 1e-9)
    part = f"{seconds - whole:.2f}"[1:].rstrip("0").rstrip(".")
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}{part}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _mode_lines(story: Story) -> Iterator[str]:
    changes = [story.earlier[kind] for kind in _MODE_KINDS if kind in story.earlier]
    last: EventSeen | None = None
    if changes:
        last = max(changes, key=lambda event: event.line)
        yield f"Who may drive last changed at tick {last.after}: {_event_text(last)}."
    others = [event for event in story.earlier.values() if event is not last and event not in story.events]
    if others:
        yield "Last before: " + "; ".join(f"{_event_text(event)} (at tick {event.after})" for event in others) + "."


def _event_text(event: EventSeen) -> str:
    fields = ", ".join(f"{name} {_short(value)}" for name, value in event.fields.items())
    return f"{event.kind}: {fields}" if fields else event.kind


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = "{" + ", ".join(value) + "}"  # a plan or a configuration: its names tell enough here
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _seen_lines(seen: Seen, before: Seen | None) -> Iterator[str]:
    by_class = ", ".join(f"{one.name} {one.rate_rps:.3g}" for one in seen.classes)
    trend = ""
    if seen.minute_rps:
        off = seen.rate_rps / seen.minute_rps - 1.0
        trend = ", as over the last minute" if abs(off) < _STEADY else f", {off:+.0%} against the last minute"
    yield f"{seen.rate_rps:.3g} requests/s ({by_class}){trend}"
    arrived, missed = (sum(getattr(one, name) for one in seen.classes) for name in ("arrived", "missed"))
    waiting = {one.name: one.waiting for one in seen.classes if one.waiting}
    slow = ", ".join(f"{one.name} {one.p95_s:.3g} s" for one in seen.classes if one.p95_s is not None)
    yield f"{missed} of {arrived} missed; waiting: {_counts(waiting)}" + (f"; 95 % answered in {slow}" if slow else "")
    yield f"serving {_counts(seen.serving)}" + "".join(
        f"; {word} {_counts(counts)}"
        for word, counts in (
            ("starting", seen.starting),
            ("draining", seen.draining),
            ("under a preemption notice", seen.doomed),
            ("taken back", seen.preempted),
            ("launches refused", seen.launch_failed),
        )
        if counts
    )
    if seen.unavailable:
        yield f"pools that refuse launches or were preempted lately: {', '.join(seen.unavailable)}"
    terms = ", ".join(f"{term} {usd:.3g}" for term, usd in seen.usd_per_hour_by_term.items())
    yield f"${seen.usd_per_hour:.3g}/h spent" + (f" ({terms})" if terms else "")
    if before is not None:
        pairs = (("serving", seen.serving, before.serving), ("starting", seen.starting, before.starting))
        changes = [f"{word} {_counts(now)} (was {_counts(then)})" for word, now, then in pairs if now != then]
        if changes:
            yield "changed since the tick before: " + "; ".join(changes)


def _forecast_lines(story: Story) -> Iterator[str]:
    receipt = story.receipt
    if receipt is None:
        yield f"capacity for {story.need_rps:.4g} requests/s was planned (no receipt was journalled)"
        return
    told = [
        f"{name.replace('_rps', '').replace('_', ' ')} {_figure(value)}" + ("/s" if "_rps" in name else "")
        for name, value in receipt.forecast.items()
        if name != "need_rps"
    ]
    if told:
        yield "; ".join(told)
    yield f"capacity planned for {_figure(receipt.forecast.get('need_rps'))} requests/s"


def _decision_lines(story: Story) -> Iterator[str]:
    receipt = story.receipt
    if receipt is not None and receipt.proposed is not None:
        yield f"the {receipt.driver} proposed {_counts(receipt.proposed)}"
        for one in receipt.limited:
            yield _limited_text(one)
        if receipt.num_limited > len(receipt.limited):
            yield f"and {receipt.num_limited - len(receipt.limited)} more limits"
        if not receipt.limited:
            yield "no limit changed it"
    changed = "" if story.planned_before in (None, story.planned) else f" (was {_counts(story.planned_before or {})})"
    yield f"planned {_counts(story.planned)}{changed}"
    yield f"done: {'; '.join(story.actions) or 'nothing, it stands'}"
    if story.reasons:
        yield f"because: {'; '.join(story.reasons)}"


def _limited_text(one: Limited) -> str:
    lever = "" if one.lever == "replicas" else f"{one.lever.replace('_', ' ')} of "
    names = " and ".join(
        _WORDS.get(limit.name, limit.name.replace("_", " ")) + ("" if limit.value is None else f" ({limit.value:g})")
        for limit in one.limits
    )
    return f"limited: {lever}{one.where} {_figure(one.proposed)} -> {_figure(one.applied)} by {names or 'the guard'}"


def _outcome_lines(story: Story) -> Iterator[str]:
    prediction = story.prediction
    if prediction is None or not prediction.expected:
        yield "nothing was predicted" + (f": {prediction.missing}" if prediction and prediction.missing else "")
        return
    hours = prediction.horizon_s * story.names.speed / 3600.0
    yield f"held over the next {prediction.horizon_s:g} s of the run:"
    for one in prediction.expected:
        fleet = "" if one is prediction.expected[0] else f" ({_counts(one.replicas)})"
        yield f"  {one.name}{fleet}: {_expected_text(one, hours)}"


def _expected_text(one: Expected, hours: float) -> str:
    cost, error = one.cost_usd, one.cost_usd_error
    parts = ["cost unknown" if cost is None else f"${cost / hours:.3g}{_margin(error, 1 / hours)}/h"]
    for name, value, deviation in (
        ("in time", one.attainment, one.attainment_error),
        ("accuracy", one.accuracy, one.accuracy_error),
    ):
        parts.append(f"{name} unknown" if value is None else f"{name} {100 * value:.2f}{_margin(deviation, 100)} %")
    return ", ".join(parts)


def _margin(error: float | None, factor: float) -> str:
    return "" if error is None else f" ± {error * factor:.1g}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
