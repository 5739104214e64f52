"""What `provisor serve` prints at its end, and how it reads its `--model` options."""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np

from controller.errors import UsageError, mismatch
from experiments.live import LiveResult
from experiments.show import show_rows


def show_live(result: LiveResult) -> None:
    """Prints the table, what the client saw, and where the journal is."""
    if result.rows:
        show_rows(result.rows)
        for row in result.rows:
            shown = {name: "-" if value is None else f"{value:.2f} s" for name, value in row.p95_s.items()}
            latencies = ", ".join(f"{name} {value}" for name, value in shown.items())
            click.echo(f"{row.policy}: {row.requests} requests, {row.misses} missed, 95 % answered within {latencies}")
    record = result.record
    if record is not None and result.schedule is not None and record.num_sent:
        answered = int((record.status == 200).sum())
        line = f"client: {record.num_sent} sent, {answered} answered"
        late_ms = record.lateness_s(result.schedule) * 1e3
        known = record.is_right[record.is_right >= 0]
        if len(known):
            line += f", {float(np.mean(known)):.1%} of the answers right"
        click.echo(f"{line}; sent at most {late_ms:.0f} ms late (99 %)")
    status = result.status
    if status.get("policy_fault"):
        click.echo(f"warning: the policy failed and the rule took over: {status['policy_fault']}", err=True)
    click.echo(f"journal {result.journal}")


def parse_models(options: Sequence[str]) -> dict[str, str]:
    """`VARIANT=module:callable` options as a mapping.

    Raises:
        UsageError: An option has another form, or a variant is named twice.
    """
    models: dict[str, str] = {}
    for option in options:
        variant, separator, reference = option.partition("=")
        if not separator or not variant or ":" not in reference:
            raise UsageError(mismatch("--model", "VARIANT=module:callable", option))
        if variant in models:
            raise UsageError(mismatch("--model", "each variant once", option))
        models[variant] = reference
    return models
