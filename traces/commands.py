"""The verb `provisor trace`: describe a trace file, make one, fetch a public one.

The work is in `describe`, `generator` and `fetch`, imported when a command runs; here are options and printing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.errors import UsageError, mismatch

if TYPE_CHECKING:
    from traces.trace import Trace


@click.group()
def trace() -> None:
    """Describe, generate and fetch request traces.

    \b
    Example:
      provisor trace synth --preset twitter_like --days 7 --seed 1 --out week.npz
      provisor trace describe week.npz --days 2:3 --plot week.png
    """


@trace.command("describe")
@click.argument("spec", metavar="FILE[:ROW]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", "plot_path", metavar="OUT.png", help="Draw the rate over time.")
@click.option("--days", metavar="A:B", help="Only days A to B of the file, 1-based, both included.")
@click.option("--row", metavar="R", help="Only this row: its name or 0-based number.")
@click.option("--bin-seconds", type=float, default=1.0, show_default=True, help="Bin width a request log is read into.")
def describe_command(
    spec: str, as_json: bool, plot_path: str | None, days: str | None, row: str | None, bin_seconds: float
) -> None:
    """Print length, rates, peaks, dispersion, autocorrelation, bursts and gaps.

    \b
    Reads binned counts (.npz, .csv, .txt) and request logs (.csv, .csv.gz).
    \b
    Example:
      provisor trace describe requests.csv.gz --json
      provisor trace describe functions.npz:0 --days 8:10 --plot functions.png
    """
    from traces.describe import describe, plot
    from traces.readers import read_trace

    chosen = read_trace(spec, bin_seconds=bin_seconds, row=row)
    if days is not None:
        chosen = chosen.slice_days(*parse_days(days))
    description = describe(chosen)
    click.echo(description.as_json() if as_json else description.as_text())
    if plot_path is not None:
        drawn = plot(chosen, plot_path)
        if not as_json:
            click.echo(f"plot            {drawn}")


@trace.command("synth")
@click.option("--preset", "preset_name", default="twitter_like", show_default=True, help="See the list below.")
@click.option("--days", type=float, default=7.0, show_default=True, help="Length.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal traces.")
@click.option("--mean", "mean_rps", type=float, metavar="RPS", help="Mean requests/s; else the preset's.")
@click.option("--bin-seconds", type=float, help="Bin width; else the preset's.")
@click.option("--out", required=True, metavar="FILE.npz", help="File to write.")
def synth_command(
    preset_name: str, days: float, seed: int, mean_rps: float | None, bin_seconds: float | None, out: str
) -> None:
    """Write a generated trace.

    \b
    Presets: twitter_like, worldcup_like, azure_like (fitted to public traces);
    steady, diurnal, burst, flash_crowd, flash_crowds, regime_change, on_off.
    \b
    Example:
      provisor trace synth --preset twitter_like --days 17 --seed 1 --mean 50 --out trace.npz
    """
    from traces.generator import generate
    from traces.readers import write_npz

    made = generate(preset_name, days, seed, mean_rps=mean_rps, bin_seconds=bin_seconds)
    click.echo(_line(made, write_npz(made, out)))


@trace.command("fetch")
@click.argument("name", required=False)
@click.option("--dest", default=".", show_default=True, metavar="DIR", help="Directory to put the file into.")
@click.option("--sha256", metavar="H", help="Checksum to expect, for a trace that has none pinned.")
@click.option("--list", "show_list", is_flag=True, help="List what can be fetched.")
def fetch_command(name: str | None, dest: str, sha256: str | None, show_list: bool) -> None:
    """Download a public trace and check it against its checksum.

    \b
    Example:
      provisor trace fetch --list
      provisor trace fetch autothrottle-diurnal --dest traces-public
    """
    from traces.fetch import fetch
    from traces.registry import PUBLIC_TRACES

    if show_list:
        for entry in PUBLIC_TRACES.values():
            pinned = "checksum pinned" if entry.sha256 else "needs --sha256"
            click.echo(f"{entry.name:<29}{pinned:<17}{entry.about} ({entry.licence})")
        return
    if name is None:
        raise UsageError("NAME: expected the name of a public trace; --list shows them")
    click.echo(str(fetch(name, dest, sha256=sha256, show_progress=True)))


def parse_days(text: str) -> tuple[int, int]:
    """First and last of `A:B`, or of a single day `A`.

    Example:
        >>> parse_days("14:17")
        (14, 17)
    """
    first, colon, last = text.partition(":")
    if not first.isdigit() or not (last.isdigit() if colon else True):
        raise UsageError(mismatch("--days", "A:B, two 1-based days", text))
    return int(first), int(last if colon else first)


def _line(made: Trace, path: Path) -> str:
    length = f"{made.duration_s / 86_400:g} days in bins of {made.bin_seconds:g} s"
    return f"{path}: {made.name}, {length}, mean {made.mean_rps:.4g} requests/s"
