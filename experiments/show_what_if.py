"""What `provisor what-if` prints and writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from controller.errors import ConfigError
from experiments.shadow import ShadowRun
from experiments.show import wide_console
from experiments.statistics import Interval
from experiments.what_if import PolicyOutcome, WhatIf

_METRICS = ("cost_usd_per_hour", "attainment", "accuracy", "cost_change", "attainment_change", "accuracy_change")


def show_what_if(found: WhatIf) -> None:
    """Prints the table, and how far the simulator is from the run."""
    over = f"{found.units} {found.unit}"
    title = f"{found.hours:.3g} h of captured traffic, 95 % intervals over {over}; changes are paired"
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for name in ("policy", "cost $/h", "change", "attainment %", "points", "accuracy %", "points"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for one in found.outcomes:
        cells = [f"{one.policy} (recorded)" if one.is_recorded else one.policy]
        for level, change, factor, unit in (
            (one.cost_usd_per_hour, one.cost_change, 1.0, " %"),
            (one.attainment, one.attainment_change, 100.0, ""),
            (one.accuracy, one.accuracy_change, 100.0, ""),
        ):
            cells += [_level(level, factor), "-" if change is None else _change(change, unit)]
        table.add_row(*(escape(cell) for cell in cells))
    wide_console().print(table)
    live, gap = found.live, found.gap
    click.echo(
        f"the run itself: ${live.cost_usd / found.hours:.4g}/h, attainment {100 * live.attainment:.2f} %, "
        f"accuracy {100 * live.accuracy:.2f} %"
    )
    click.echo(
        f"the simulator has the recorded policy at {gap['cost']:+.1%} of that cost, {100 * gap['attainment']:+.2f} "
        f"points of attainment, {100 * gap['accuracy']:+.2f} of accuracy: trust no difference that is smaller"
    )
    if live.rule_ticks:
        click.echo(f"the rule drove {live.rule_ticks / max(1, live.ticks):.1%} of the run; the table has it nowhere")


def show_gate(outcome: PolicyOutcome, *, is_error: bool = False) -> bool:
    """Prints whether a policy passes, and what keeps it from it; `is_error` keeps standard output free."""
    return _show_gate(outcome.policy, outcome.gate(), is_error)


def show_shadow(run: ShadowRun) -> bool:
    """Prints what receipts expected of a policy in shadow, and whether it may drive."""
    click.echo(
        f"{run.count} predictions of the policy's plans less those carried out: cost {_change(run.cost, ' %')}, "
        f"attainment {_change(run.attainment, ' points')}"
        + ("" if run.accuracy is None else f", accuracy {_change(run.accuracy, ' points')}")
    )
    return _show_gate("the policy in shadow", run.gate(), is_error=False)


def _show_gate(name: str, failed: Sequence[str], is_error: bool) -> bool:
    click.echo(f"gate: {name} {'passes' if not failed else 'does not pass'}", err=is_error)
    for line in failed:
        click.echo(f"  {line}", err=is_error)
    return not failed


def as_values(found: WhatIf) -> dict[str, Any]:
    """The comparison for programs; unknown numbers are null."""
    live = found.live
    return {
        "hours": found.hours,
        "unit": found.unit,
        "units": found.units,
        "run": {
            "cost_usd_per_hour": live.cost_usd / found.hours,
            "attainment": live.attainment,
            "accuracy": _known(live.accuracy),
            "rule_share": live.rule_ticks / max(1, live.ticks),
        },
        "simulated_less_run": {name: _known(value) for name, value in found.gap.items()},
        "policies": [
            {"policy": one.policy, "is_recorded": one.is_recorded}
            | {name: _interval(getattr(one, name)) for name in _METRICS}
            for one in found.outcomes
        ],
    }


def write_what_if(found: WhatIf, folder: Path) -> list[Path]:
    """Writes `what-if.json` and `what-if.csv`, one line per policy and metric.

    Raises:
        ConfigError: The folder cannot be written.
    """
    values = as_values(found)
    as_json, as_csv = folder / "what-if.json", folder / "what-if.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        as_json.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with as_csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["policy", "is_recorded", "metric", "estimate", "low", "high"])
            for one in values["policies"]:
                for name in _METRICS:
                    if one[name] is not None:
                        numbers = ["" if x is None else repr(x) for x in one[name].values()]
                        writer.writerow([one["policy"], int(one["is_recorded"]), name, *numbers])
    except OSError as error:
        raise ConfigError(f"{folder}: expected a writable directory, got: {error.strerror or error}") from error
    return [as_json, as_csv]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {name: _known(getattr(interval, name)) for name in ("estimate", "low", "high")}


def _level(interval: Interval, factor: float) -> str:
    value, low, high = (factor * x for x in (interval.estimate, interval.low, interval.high))
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"


def _change(interval: Interval, unit: str) -> str:
    value, low, high = (100.0 * x for x in (interval.estimate, interval.low, interval.high))
    return f"{value:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"
