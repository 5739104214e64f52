"""The figures of a report, each as inline SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.summary import SummaryLine
from experiments.timeline import Timeline

# Okabe and Ito's palette, told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C8C00", "#555555")
# Paul Tol's muted scheme and two greys, for the many pools of a catalog.
POOL_COLOURS = ("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
_OTHERS_COLOUR = "#b8bec6"
STYLE: Any = {
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a939e",
    "axes.labelcolor": "#3b4450",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "grid.linewidth": 0.8,
    "xtick.color": "#5b6572",
    "ytick.color": "#5b6572",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "provisor",
}


def pareto_svg(lines: Sequence[SummaryLine]) -> str:
    """Cost against attainment, one point per policy; those that no other beats in both are joined."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, line in enumerate(lines):
            colour = COLOURS[index % len(COLOURS)]
            x, y = line.cost_usd.mean, 100 * line.attainment.mean
            axes.errorbar(
                x,
                y,
                xerr=line.cost_usd.deviation,
                yerr=None if line.attainment.deviation is None else 100 * line.attainment.deviation,
                color=colour,
                marker="o",
                markersize=7,
                elinewidth=1,
                alpha=0.95,
            )
            axes.annotate(
                line.policy, (x, y), xytext=(7, 6), textcoords="offset points", color=colour, fontweight="bold"
            )
        front = pareto_front([(line.cost_usd.mean, line.attainment.mean) for line in lines])
        axes.plot(
            [lines[i].cost_usd.mean for i in front],
            [100 * lines[i].attainment.mean for i in front],
            color="#8a939e",
            linestyle="--",
            linewidth=1,
            zorder=0,
        )
        axes.set_xlabel("cost per day, $")
        axes.set_ylabel("attainment, %")
        axes.margins(0.15)
        return svg_of(figure)


def difference_svg(
    names: Sequence[str], values: Sequence[float | None], intervals: Sequence[tuple[float, float] | None], label: str
) -> str:
    """Relative differences with their intervals, one line per name from the top; None is said to be not reachable."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.27 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.0, color="#8a939e", linewidth=1, zorder=0)
        for line, (value, interval) in enumerate(zip(values, intervals, strict=True)):
            if value is None:
                axes.annotate("not reachable", (0.0, line), xytext=(5, -3), textcoords="offset points", color="#8a939e")
                continue
            if interval is not None:
                axes.plot([100 * end for end in interval], [line, line], color=COLOURS[0], linewidth=1.4)
            axes.plot(100 * value, line, color=COLOURS[0], marker="o", markersize=5)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
        return svg_of(figure)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, attainment) pairs that no other beats in one and equals in the other, by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def reliability_svg(
    levels: Sequence[float], coverage: Mapping[str, Sequence[float]], faint: Sequence[Sequence[float]] = ()
) -> str:
    """Share of outcomes covered against the level promised, both by their log-odds; `faint` lines have no name."""
    odds = _log_odds(levels)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(odds, odds, color="black", linewidth=0.8)
        for shares in faint:
            axes.plot(odds, _log_odds(shares), color=_OTHERS_COLOUR, linewidth=0.6)
        for index, (name, shares) in enumerate(coverage.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = "-" if index < len(COLOURS) else "--"
            axes.plot(odds, _log_odds(shares), style, color=colour, marker="o", markersize=3, label=name)
        axes.set_xticks(odds, [f"{level:g}" for level in levels])
        axes.set_yticks(odds, [f"{level:g}" for level in levels])
        axes.set_xlabel("level of the quantile")
        axes.set_ylabel("share of outcomes at or below it")
        axes.legend()
        return svg_of(figure)


def _log_odds(shares: Sequence[float]) -> list[float]:
    return [math.log(share / (1.0 - share)) for share in (min(max(one, 1e-3), 1.0 - 1e-3) for one in shares)]


def timeline_svg(timeline: Timeline) -> str:
    """Load, capacity by pool, latency against SLO, and cumulative cost over one cell, one below the other."""
    serverless = [p for p in range(len(timeline.pools)) if timeline.is_serverless[p] and timeline.capacity[:, p].any()]
    rows = 3 + len(timeline.classes) + bool(serverless)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.7 * rows), layout="constrained")
        heights = [1.0, 1.5, *[1.0] * (rows - 2)]  # many pools are told apart by size
        panels = list(figure.subplots(rows, 1, sharex=True, height_ratios=heights))
        _load(panels[0], timeline)
        _machines(panels[1], timeline)
        if serverless:
            _serverless(panels[2], timeline, serverless)
        for c in range(len(timeline.classes)):
            _latency(panels[-1 - len(timeline.classes) + c], timeline, c)
        _cost(panels[-1], timeline)
        panels[-1].set_xlabel("hours since the day began")
        panels[-1].set_xlim(0, float(timeline.hours[-1]))
        figure.align_ylabels(panels)
        return svg_of(figure)


def _load(axes: Axes, timeline: Timeline) -> None:
    axes.stackplot(timeline.hours, *timeline.load_rps.T, labels=timeline.classes, colors=COLOURS, alpha=0.8)
    axes.set_title("Load")
    axes.set_ylabel("requests/s")
    _legend(axes)


def _machines(axes: Axes, timeline: Timeline) -> None:
    """Pools by mean size; those beyond the colours are added up."""
    mean = timeline.capacity.mean(axis=0)
    machines = [p for p in range(len(timeline.pools)) if not timeline.is_serverless[p] and mean[p] > 0]
    machines.sort(key=lambda p: -mean[p])
    shown, rest = machines[: len(POOL_COLOURS)], machines[len(POOL_COLOURS) :]
    layers = [timeline.capacity[:, p] for p in shown]
    names = [timeline.pools[p] for p in shown]
    colours = [*POOL_COLOURS[: len(shown)], _OTHERS_COLOUR]
    if rest:
        layers.append(timeline.capacity[:, rest].sum(axis=1))
        names.append("another" if len(rest) == 1 else f"{len(rest)} others")
    if layers:
        axes.stackplot(timeline.hours, *layers, labels=names, colors=colours, alpha=0.85)
    axes.set_title("Serving instances by pool")
    axes.set_ylabel("instances")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _serverless(axes: Axes, timeline: Timeline, pools: Sequence[int]) -> None:
    for i, p in enumerate(pools):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(timeline.hours, timeline.capacity[:, p], color=colour, linewidth=1, label=timeline.pools[p])
    axes.set_title("Warm serverless environments")
    axes.set_ylabel("environments")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _latency(axes: Axes, timeline: Timeline, c: int) -> None:
    slo_s = timeline.slo_s[c]
    axes.plot(timeline.hours, timeline.p95_s[:, c], color=COLOURS[0], linewidth=1, label="p95")
    axes.plot(timeline.hours, timeline.p99_s[:, c], color=COLOURS[3], linewidth=1, label="p99")
    axes.axhline(slo_s, color="#222222", linewidth=1, linestyle="--", label=f"SLO {slo_s:g} s")
    axes.set_title(f"Latency of class {timeline.classes[c]}")
    axes.set_ylabel("seconds")
    axes.set_yscale("log")
    # Round decades around the SLO keep panels of several policies comparable.
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, slo_s / 10), max(high, slo_s * 3))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)


def _cost(axes: Axes, timeline: Timeline) -> None:
    used = [t for t in range(len(timeline.terms)) if timeline.cost_usd[-1, t] > 0]
    if used:
        axes.stackplot(
            timeline.hours,
            *(timeline.cost_usd[:, t] for t in used),
            labels=[timeline.terms[t].replace("_", " ") for t in used],
            colors=[COLOURS[t % len(COLOURS)] for t in used],
            alpha=0.8,
        )
    axes.set_title("Cumulative cost")
    axes.set_ylabel("$")
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def svg_of(figure: Figure) -> str:
    """The figure's `<svg>` element alone, sized by the page."""
    stream = io.StringIO()
    # Without a date, equal results give equal pages.
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    element = text[text.index("<svg") :]
    head, body = element.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Ids of groups repeat from figure to figure; those of markers and clips are hashes of what they hold.
    body = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", body)
    return f'{head} width="100%">{body}'
