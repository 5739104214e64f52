"""The collage study from latencies and networks to files: what the command runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path

import click

from controller.arrays import F64
from experiments.checks import Check, show_checks, write_checks
from experiments.collage import choices, kept
from experiments.collage.draws import read_latency_s
from experiments.collage.evaluated import evaluate_policies
from experiments.collage.live import LiveExtent, run_live
from experiments.collage.live_rows import LIVE_TITLES, LiveFound, live_checks, live_lines
from experiments.collage.networks import TITLES, Network, lines, train_task
from experiments.collage.show import show_table
from experiments.collage.simulated import Agreed, agreements, simulated_checks
from experiments.collage.study import (
    COLLAGE,
    Agreement,
    Extent,
    Row,
    Sparse,
    agreement,
    run_study,
    sparse,
)
from experiments.collage.verdict import (
    accuracy_checks,
    agreement_checks,
    best_collages,
    findings,
    latency_checks,
    loss_of,
)
from experiments.page import page, table, write_page

_RATES_RPS = (1.0, 10.0, 30.0, 100.0, 300.0)


@dataclass(frozen=True)
class Found:
    """All of the study.

    Attributes:
        extent: How much was studied.
        rows: Of latencies.
        agreement: With the replay.
        sparse: Streams of arrivals, by size of group.
        networks: Of every task.
        kept: Where those come from that were not trained now; empty where all were.
        choices: Lines of the table of the rule's choices.
        simulated: Modes in the simulated world.
        evaluated: Lines of the table of policies on a simulated day of the workers.
        shares: How redundant these were, in words.
        live: Modes on a local Ray Serve; None where they were not run.
    """

    extent: Extent
    rows: list[Row]
    agreement: Agreement
    sparse: dict[int, list[Sparse]]
    networks: list[Network]
    kept: str
    choices: list[list[str]]
    simulated: tuple[Agreed, ...] = ()
    evaluated: tuple[dict[str, str], ...] = ()
    shares: tuple[str, ...] = ()
    live: LiveFound | None = None


def measured_networks(say: Callable[[str], None], *, is_full: bool, is_anew: bool) -> tuple[list[Network], str]:
    """Networks of both tasks, and where those come from that were not trained now.

    Args:
        say: Prints a line of progress.
        is_full: Train those of Fashion-MNIST too, as far as their weights are not in the cache folder, and keep what is
            measured.
        is_anew: Train those of digits even where their weights are in the cache folder.
    """
    networks = train_task("digits", say, is_anew=is_anew)
    if not is_full:
        title, others = kept.kept()
        return [*networks, *others], title
    others = train_task("fashion", say)
    kept.keep(others)
    return [*networks, *others], ""


def study(latency_s: F64, extent: Extent, networks: Sequence[Network], title: str, say: Callable[[str], None]) -> Found:
    """Studies latencies.

    Args:
        latency_s: The measured latencies, in the file's order.
        extent: How much.
        networks: Whose accuracy counts.
        title: Of those that were not trained now.
        say: Prints a line of progress.
    """
    rows = run_study(latency_s, extent, say)
    streams = {k: [sparse(latency_s, k, rate_rps, extent) for rate_rps in _RATES_RPS] for k in extent.sizes}
    return Found(
        extent, rows, agreement(latency_s, extent), streams, list(networks), title, choices.lines(latency_s, networks)
    )


def checks_of(found: Found) -> list[Check]:
    """Every value beside its bar."""
    return [
        *latency_checks(found.rows),
        *accuracy_checks(found.networks, found.rows),
        *agreement_checks(found.agreement),
        *simulated_checks(found.simulated),
        *(live_checks(found.live) if found.live is not None else ()),
    ]


def run_collage(
    directory: Path, root: Path, say: Callable[[str], None], *, is_full: bool, is_anew: bool, is_live: bool
) -> bool:
    """Measures, writes tables, plots and page, and prints values beside bars and findings.

    Args:
        directory: Folder of results, made where it is missing.
        root: What `$PROVISOR_DATA` names.
        say: Prints a line of progress.
        is_full: As for `measured_networks`.
        is_anew: Likewise.
        is_live: Run the modes on a local Ray Serve too.

    Returns:
        Whether every value holds.
    """
    latency_s = read_latency_s(root)
    extent = Extent()
    found = study(latency_s, extent, *measured_networks(say, is_full=is_full, is_anew=is_anew), say)
    say("the same modes in the simulated world")
    found = replace(found, simulated=tuple(agreements(latency_s, extent.sizes[0], extent.after_s, extent.seed)))
    say("policies on a simulated day of the workers")
    evaluated, shares = evaluate_policies(directory, latency_s, extent.sizes[0], found.networks)
    found = replace(found, evaluated=evaluated, shares=shares)
    if is_live:
        found = replace(found, live=run_live(latency_s, LiveExtent(after_s=extent.after_s), say))
    return write_and_show(found, directory)


def write_and_show(found: Found, directory: Path) -> bool:
    """Writes and prints all that was found; returns whether every value holds."""
    directory.mkdir(parents=True, exist_ok=True)
    checks = checks_of(found)
    write_checks(checks, directory / "checks.json")
    (directory / "collage.json").write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    # matplotlib takes half a second.
    from experiments.collage.plots import draw

    said = list(findings(found.rows, found.extent.ratios))
    plots = draw(found.rows, found.networks, found.extent, directory)
    report = write_page(_page(found, checks, said, plots), directory / "report.html")
    show_table("networks", TITLES, lines(found.networks))
    if found.kept:
        click.echo(f"Fashion-MNIST's: {found.kept}")
    for k in found.extent.sizes:
        show_table(f"k = {k}", ROW_TITLES, row_lines(found, k))
        show_table(f"k = {k}, arrivals one by one", SPARSE_TITLES, sparse_lines(found, k))
    show_table("what the rule chooses, digits", choices.TITLES, found.choices)
    if found.evaluated:
        show_table("policies on a simulated day", *_evaluated_table(found))
    if found.live is not None:
        show_table(_live_title(found.live), LIVE_TITLES, live_lines(found.live))
    said += found.shares
    for line in said:
        click.echo(line)
    holds = show_checks("collages", checks)
    click.echo(f"written: {report}")
    return holds


def _evaluated_table(found: Found) -> tuple[list[str], list[list[str]]]:
    return list(found.evaluated[0]), [list(line.values()) for line in found.evaluated]


def _live_title(live: LiveFound) -> str:
    return (
        f"live, groups of {live.cells} at once, pass ratio {live.pass_ratio:.2f}, "
        f"latencies stretched {live.stretch:g} times"
    )


ROW_TITLES = (
    "mode",
    "pass ratio",
    "after, s",
    "group p50",
    "p99",
    "p99.9",
    "s.d.",
    "request p50",
    "p99",
    "p99.9",
    "extra",
    "servers",
    "busy, s",
    "by collage",
    "late in a bad stretch",
    "loss, points",
)


def row_lines(found: Found, k: int) -> list[list[str]]:
    """Of the table of one size of group."""
    pairs = {one.task: (one, single) for one, single in best_collages(found.networks) if one.w == isqrt(k)}
    return [
        [
            f"{row.kind.value}: {row.mode}",
            f"{row.ratio:g}",
            "" if row.after_s is None else f"{row.after_s:.3f}",
            *(f"{x:.3f}" for x in (row.group.p50_s, row.group.p99_s, row.group.p999_s, row.group.deviation_s)),
            *(f"{x:.3f}" for x in (row.request.p50_s, row.request.p99_s, row.request.p999_s)),
            f"{row.extra:.1%}",
            f"{row.servers:.3f}",
            f"{row.busy_s:.3f}",
            f"{row.by_collage:.2%}",
            f"{row.bad_stretch:.1%}",
            ", ".join(f"{task} {100 * loss_of(row, *pair):.3f}" for task, pair in pairs.items())
            if row.mode.startswith(COLLAGE)
            else "",
        ]
        for row in found.rows
        if row.k == k
    ]


SPARSE_TITLES = (
    "arrivals, 1/s",
    "requests per pass",
    "request p50",
    "p99",
    "p99.9",
    "passes per request",
    "by collage",
)


def sparse_lines(found: Found, k: int) -> list[list[str]]:
    """Of the table of streams."""
    return [
        [
            f"{one.rate_rps:g}",
            f"{one.per_pass:.1f}",
            *(f"{x:.3f}" for x in (one.request.p50_s, one.request.p99_s, one.request.p999_s)),
            f"{one.extra:.1%}",
            f"{one.by_collage:.2%}",
        ]
        for one in found.sparse[k]
    ]


def _more_of_page(found: Found) -> list[str]:
    parts = []
    if found.evaluated:
        parts += ["<h2>Policies on a simulated day</h2>", table(*_evaluated_table(found))]
        parts += [f"<p>{line}.</p>" for line in found.shares]
    if found.live is not None:
        parts += [f"<h2>{_live_title(found.live).capitalize()}</h2>", table(LIVE_TITLES, live_lines(found.live))]
    return parts


def _page(found: Found, checks: Sequence[Check], said: Sequence[str], plots: Sequence[tuple[str, str]]) -> str:
    verdicts = [[one.what, one.measured, one.bar, "holds" if one.holds else "falls short"] for one in checks]
    extent = found.extent
    body = [
        "<h1>Collage inference</h1>",
        f"<p>{extent.groups} groups of each kind and size, seed {extent.seed}; T = {extent.after_s:g} s.</p>",
        "<p>What is tuned is tuned on as many other draws.</p>",
        "<h2>Values beside bars</h2>",
        table(("what", "measured", "bar", ""), verdicts),
        "<h2>Plots</h2>",
        *(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for caption, svg in plots),
        "<h2>Findings</h2>",
        *(f"<p>{line}.</p>" for line in said),
        "<h2>What the rule chooses, digits</h2>",
        table(choices.TITLES, found.choices),
        *_more_of_page(found),
        "<h2>Networks</h2>",
        table(TITLES, lines(found.networks)),
    ]
    if found.kept:
        body.append(f"<p>Fashion-MNIST's: {found.kept}.</p>")
    for k in found.extent.sizes:
        body += [f"<h2>k = {k}</h2>", table(ROW_TITLES, row_lines(found, k))]
        body += ["<h3>Arrivals one by one</h3>", table(SPARSE_TITLES, sparse_lines(found, k))]
    return page("Collage inference", body, "collage study")
