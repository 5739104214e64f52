"""What `provisor why` prints."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from controller.errors import UsageError, mismatch
from controller.journal import Journal, JournalTick
from controller.plan import reason_texts
from controller.receipt_check import Windows, check_predictions, prediction_of, receipt_in
from controller.receipts import PREDICTION, RECEIPT
from controller.why import names_of, tell
from controller.why_text import as_text, as_values, check_text
from experiments.show import echo_truncations

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")


def parse_clock(text: str) -> float:
    """Seconds of `S`, `M:S` or `H:M:S`.

    Raises:
        UsageError: The text has another form.
    """
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise UsageError(mismatch("--at", "seconds, M:S or H:M:S", text))
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def show_why(path: str, at_s: float | None, tick: int | None, as_json: bool) -> None:
    """Prints the story of one tick."""
    journal = Journal(Path(path))
    with echo_truncations():
        story = tell(journal, at_s=at_s, tick=tick)
    if as_json:
        click.echo(json.dumps(as_values(story), indent=1))
    else:
        click.echo(as_text(story, journal.header))


def show_shadow_gate(path: str, from_tick: int) -> bool:
    """Prints what receipts expected of a policy in shadow; returns whether it may drive."""
    from experiments.shadow import read_shadow
    from experiments.show_what_if import show_shadow

    with echo_truncations():
        run = read_shadow(Journal(Path(path)), from_tick)
    return show_shadow(run)


def show_summary(path: str, as_json: bool) -> None:
    """Prints what drove and limited the whole run, and how good its predictions were."""
    journal = Journal(Path(path))
    names = names_of(journal.header)
    windows, predictions = Windows(), []
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    limits: Counter[str] = Counter()
    with echo_truncations():
        for record in journal.records():
            if isinstance(record, JournalTick):
                windows.add(record.observation)
                reasons.update(reason_texts(int(record.plan.reasons[0])))
                continue
            counts[record.kind] += 1
            if record.kind == RECEIPT:
                limits.update({limit.name for one in receipt_in(record).limited for limit in one.limits})
            elif record.kind == PREDICTION:
                predictions.append(prediction_of(record))
    made = [one for one in predictions if one.expected]
    checks = check_predictions(windows, made, names.tick_s)
    ticks = len(windows.cost_usd)
    if as_json:
        value = {
            "ticks": ticks,
            "events": dict(counts),
            "reasons": dict(reasons),
            "limits": dict(limits),
            "predictions": len(made),
            "predictions_missing": len(predictions) - len(made),
            "checks": [asdict(check) for check in checks],
        }
        click.echo(json.dumps(value, indent=1))
        return
    click.echo(f"{ticks} ticks; events: {', '.join(f'{n} {kind}' for kind, n in counts.items()) or 'none'}")
    for text, number in reasons.most_common():
        click.echo(f"  {number / max(1, ticks):6.1%} of the ticks: {text}")
    for name, number in limits.most_common():
        click.echo(f"  {number} receipts were limited by {name}")
    if len(predictions) > len(made):
        click.echo(f"{len(predictions) - len(made)} ticks have no prediction, because the one before was not done yet")
    click.echo(check_text(checks, made[0].horizon_s if made else 0.0))
