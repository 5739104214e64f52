"""The plots of the schemes experiment: each a matplotlib figure, saved as PNG and put into the page as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.figures import COLOURS, STYLE, svg_of
from experiments.schemes.break_even import MEASURED_MEMORIES, MODERN
from experiments.schemes.courses import SCHEMES
from experiments.schemes.measurement import Measurement

_DPI = 150
_MACHINE_COLOUR = "#222222"


def plots(found: Measurement) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure of everything that was measured; to be drawn inside `style`."""
    if found.levels:
        yield (
            "machines_or_serverless",
            "Cost of a constant load: fewest machines that keep 99 %, and calls",
            _levels(found),
        )
    if found.crossings:
        yield "break_even", "Busy share of a machine at which costs cross, simulated and by the law", _crossings(found)
    for sweep in dict.fromkeys(point.sweep for point in found.memory):
        yield (
            f"memory_{sweep}",
            f"Cost and latency over memory: {sweep} models; a gap where a model does not run",
            _memory(found, sweep),
        )
    if found.choices:
        yield "choice", "Constraint-aware against naive choice for every request asked", _choices(found)
    if found.days:
        yield "schemes", "The five schemes: violations, over-provisioning, serverless share, cost", _schemes(found)


def draw(found: Measurement, directory: Path) -> list[tuple[str, str]]:
    """Saves every plot as PNG; returns caption and SVG element of each."""
    drawn = []
    with mpl.rc_context(STYLE):
        for name, caption, figure in plots(found):
            figure.savefig(directory / f"{name}.png", dpi=_DPI)
            drawn.append((caption, svg_of(figure)))
    return drawn


def _levels(found: Measurement) -> Figure:
    models = list(dict.fromkeys(one.model for one in found.levels))
    figure, panels = _grid(len(models), 4, 2.0)
    for panel, model in zip(panels, models, strict=False):
        own = [one for one in found.levels if one.model == model]
        pools = list(dict.fromkeys(one.pool for one in own))
        rented = [one for one in own if one.pool == pools[0] and one.machine_usd_per_hour is not None]
        panel.plot(
            [one.rate_rps for one in rented],
            [one.machine_usd_per_hour or 0.0 for one in rented],
            color=_MACHINE_COLOUR,
            marker="s",
            markersize=3,
            label="machines",
        )
        for pool in pools:
            called = [one for one in own if one.pool == pool]
            panel.plot(
                [one.rate_rps for one in called],
                [one.serverless_usd_per_hour for one in called],
                color=_colour(pool),
                marker="o",
                markersize=3,
                label=pool,
            )
        _log(panel, "requests/s", "$/h", model)
    shown = panels[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=len(shown[1]))
    return figure


def _crossings(found: Measurement) -> Figure:
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    pools = list(dict.fromkeys(one.pool for one in found.crossings))
    for pool in pools:
        own = [one for one in found.crossings if one.pool == pool and one.measured is not None]
        law, measured = [one.law for one in own], [one.measured or 0.0 for one in own]
        axes.plot(law, measured, "o", color=_colour(pool), label=pool)
    ends = [0.8 * min(c.law for c in found.crossings), 1.2 * max(c.law for c in found.crossings)]
    axes.plot(ends, ends, color="#8a939e", linestyle="--", linewidth=1, zorder=0, label="law")
    _log(axes, "u* of the law", "simulated crossing", "")
    axes.legend()
    return figure


def _memory(found: Measurement, sweep: str) -> Figure:
    points = [point for point in found.memory if point.sweep == sweep]
    models = list(dict.fromkeys(point.model for point in points))
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    cost, latency = figure.subplots(1, 2)
    for i, model in enumerate(models):
        own = [point for point in points if point.model == model and point.usd_per_million is not None]
        sizes = [point.memory_mb for point in own]
        colour = COLOURS[i % len(COLOURS)]
        cost.plot(
            sizes, [point.usd_per_million or 0.0 for point in own], color=colour, marker="o", markersize=3, label=model
        )
        best = min(own, key=lambda point: point.usd_per_million or 0.0)
        cost.plot(best.memory_mb, best.usd_per_million or 0.0, "o", color=colour, markersize=8, fillstyle="none")
        latency.plot(sizes, [point.latency_s or 0.0 for point in own], color=colour, marker="o", markersize=3)
    _log(cost, "memory, MB", "$ per million requests", "Cost (ring: cheapest)")
    _log(latency, "memory, MB", "mean latency, s", "Latency")
    sizes = sorted({point.memory_mb for point in points})
    for axes in (cost, latency):
        axes.set_xticks(sizes, [str(size) for size in sizes], rotation=45)
    cost.legend()
    return figure


def _choices(found: Measurement) -> Figure:
    figure = Figure(figsize=(9.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, pool in zip(panels, ("iso-latency", "iso-accuracy"), strict=True):
        asked = [one for one in found.choices if one.pool == pool]
        at = np.arange(len(asked))
        panel.bar(at - 0.2, [one.aware.usd_per_million for one in asked], 0.4, color=COLOURS[0], label="aware")
        panel.bar(at + 0.2, [one.naive.usd_per_million for one in asked], 0.4, color=COLOURS[3], label="naive")
        labels = [f"≥ {100 * one.accuracy:g} %" if pool == "iso-latency" else f"≤ {one.latency_s:g} s" for one in asked]
        panel.set_xticks(at, labels)
        panel.set_title(pool)
        panel.set_ylabel("$ per million requests")
        panel.margins(y=0.25)
        panel.legend(loc="upper center", ncols=2)
    return figure


def _schemes(found: Measurement) -> Figure:
    courses = list(dict.fromkeys(day.course for day in found.days))
    panels: tuple[tuple[str, Callable[[str, str], float]], ...] = (
        ("violations, %", lambda course, scheme: 100 * found.day(course, scheme).violations),
        ("machines rented / needed", lambda course, scheme: found.day(course, scheme).over_provisioning),
        ("serverless share, %", lambda course, scheme: 100 * found.day(course, scheme).serverless_share),
        (
            "cost / reactive's",
            lambda c, scheme: found.day(c, scheme).cost_usd_per_day / found.day(c, "reactive").cost_usd_per_day,
        ),
    )
    figure = Figure(figsize=(9.4, 5.6), layout="constrained")
    at, width = np.arange(len(courses)), 0.8 / len(SCHEMES)
    for axes, (title, value) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for i, scheme in enumerate(SCHEMES):
            heights = [value(course, scheme) for course in courses]
            axes.bar(at + (i - len(SCHEMES) / 2 + 0.5) * width, heights, width, color=COLOURS[i], label=scheme)
        axes.set_title(title)
        axes.set_xticks(at, [course.replace(", ", ",\n").replace(" of ", "\nof ") for course in courses])
        if title.startswith("cost"):
            axes.axhline(1.0, color="#8a939e", linestyle="--", linewidth=1)
            axes.margins(y=0.35)
            axes.legend(loc="upper center", ncols=5, columnspacing=1.0, handlelength=1.2)
    return figure


def _grid(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    rows = -(-count // columns)
    figure = Figure(figsize=(9.4, height * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.set_axis_off()
    return figure, panels


def _log(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)


def _colour(pool: str) -> str:
    return COLOURS[(*MEASURED_MEMORIES, MODERN).index(pool)]
