"""What `provisor profile` and `provisor calibrate` print."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.attached_profile import Probed
from experiments.calibration import Fit
from experiments.fitting import mean_of
from experiments.profiling import Measured

_WIDE = 200
"""Width of tables where output is no terminal, so that no number is cut."""


def show_fits(fits: Sequence[Fit]) -> None:
    """Prints one line per model: what was fitted to how much, and how it does on the windows held back."""
    table = Table(title="fitted on four of five windows, judged on the fifth")
    for name in ("model", "of", "fitted", "catalog", "samples", "held back", "error", "KS distance", "p", ""):
        table.add_column(name, justify="left" if name in ("model", "of", "") else "right")
    for fit in fits:
        found = "-" if fit.found is None else f"{fit.found.value:.4g}"
        if fit.found is not None and math.isfinite(fit.found.se):
            found += f" ± {fit.found.se:.2g}"
        kept = ""
        if fit.entry is None and fit.found is None:
            is_short = fit.samples < fit.needed
            kept = f"kept: {fit.samples} of {fit.needed} needed" if is_short else "kept: too uncertain"
        table.add_row(
            fit.what,
            fit.where,
            "quantiles" if fit.entry is not None and fit.found is None else found,
            "-" if fit.before is None else f"{fit.before:.4g}",
            str(fit.samples),
            str(fit.held),
            "-" if fit.error is None else f"{fit.error:+.1%}",
            "-" if fit.agreement is None else f"{fit.agreement.distance:.3f}",
            "-" if fit.agreement is None else f"{fit.agreement.p:.2g}",
            "; ".join(text for text in (kept, fit.note) if text),
        )
    _console(is_error=False).print(table)


def show_probed(probed: Sequence[Probed]) -> None:
    """Prints one line per deployment and batch size, and what starts took."""
    table = Table(title="mean ± standard error")
    for name in ("deployment", "batch", "at once", "ms per batch", "repeats", "start, s", "accuracy"):
        table.add_column(name, justify="left" if name == "deployment" else "right")
    for one in probed:
        starts = "-" if not one.starts_s else f"{sum(one.starts_s) / len(one.starts_s):.3g} ({len(one.starts_s)})"
        for size, seconds in one.services_s.items():
            mean = mean_of(seconds)
            table.add_row(
                one.probe.deployment,
                str(size),
                str(one.probe.concurrency),
                f"{mean.value * 1e3:.4g} ± {mean.se * 1e3:.2g}",
                str(mean.samples),
                starts,
                "-" if one.accuracy is None else f"{one.accuracy.value:.2%}",
            )
    _console(is_error=False).print(table)


def show_measured(found: Measured, *, is_error: bool) -> None:
    """Prints one line per batch size, loading and accuracy."""
    table = Table(title=f"{found.inputs.source}; mean ± standard error")
    for name in ("batch", "ms per batch", "ms per item", "median ms", "95 % ms", "repeats"):
        table.add_column(name, justify="right")
    for size, seconds in found.services_s.items():
        ranked, mean = sorted(seconds), mean_of(seconds)
        table.add_row(
            str(size),
            f"{mean.value * 1e3:.4g} ± {mean.se * 1e3:.2g}",
            f"{mean.value / size * 1e3:.4g}",
            f"{ranked[len(ranked) // 2] * 1e3:.4g}",
            f"{ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))] * 1e3:.4g}",
            str(mean.samples),
        )
    console = _console(is_error=is_error)
    console.print(table)
    loads = found.loads.seconds
    grown = found.loads.weights_bytes
    memory = "" if grown is None else f", {grown / 1e6:.1f} MB"
    console.print(f"loading: {loads.value:.3g} ± {loads.se:.2g} s in {loads.samples} fresh processes{memory}")
    if found.accuracy is not None:
        share = found.accuracy
        console.print(f"accuracy: {share.value:.2%} ± {share.se:.2%} of {share.samples} labelled inputs")


def _console(*, is_error: bool) -> Console:
    console = Console(stderr=is_error)
    return console if console.is_terminal else Console(stderr=is_error, width=_WIDE)
