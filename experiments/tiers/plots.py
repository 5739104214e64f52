"""The plots of the tiers' study: saved as PNG and put into the page as SVG."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from controller.tiers.generate import Objective
from experiments.figures import COLOURS, STYLE, svg_of
from experiments.tiers.study import TOLERANCES, TaskStudy
from experiments.tiers.workload import WorkloadStudy

_DPI = 150
_LABELS = {Objective.RESPONSE_TIME: "response time", Objective.COST: "cost"}


def draw(studies: Sequence[TaskStudy], workloads: Sequence[WorkloadStudy], directory: Path) -> list[tuple[str, str]]:
    """Saves every plot as PNG; returns caption and SVG element of each."""
    drawn = []
    with mpl.rc_context(STYLE):
        for name, caption, figure in itertools.chain(_plots(studies), map(_workload, workloads)):
            figure.savefig(directory / f"{name}.png", dpi=_DPI)
            drawn.append((caption, svg_of(figure)))
    return drawn


def _plots(studies: Sequence[TaskStudy]) -> Iterator[tuple[str, str, Figure]]:
    for found in studies:
        yield f"{found.name}_objective", f"{found.name}: what a tier saves, by what its caller gives up", _saved(found)
        yield (
            f"{found.name}_degradation",
            f"{found.name}: degradation of every tier on requests not seen, {_seeds(found)} seeds; lines: tolerances",
            _degradation(found),
        )
        yield f"{found.name}_changes", f"{found.name}: what becomes of a request with a bigger version", _changes(found)


def _saved(found: TaskStudy) -> Figure:
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(_LABELS), sharey=True)
    for panel, (objective, label) in zip(panels, _LABELS.items(), strict=True):
        best = found.mean(objective, 0.0, lambda cell: cell.best_value)
        with_cascades = [found.mean(objective, t, lambda cell: cell.value) / best for t in TOLERANCES]
        singles = [found.mean(objective, t, lambda cell: cell.single_value) / best for t in TOLERANCES]
        points = [100 * t for t in TOLERANCES]
        panel.axhline(1.0, color=COLOURS[7], linewidth=0.8, linestyle=":")
        panel.plot(points, singles, color=COLOURS[1], marker="s", markersize=4, label="single versions")
        panel.plot(points, with_cascades, color=COLOURS[0], marker="o", markersize=4, label="all rules")
        panel.set_title(label)
        panel.set_xlabel("tolerance, points of error")
        panel.set_ylim(0.0, 1.08)
    panels[0].set_ylabel("of the best version's")
    panels[0].legend(loc="upper right")
    return figure


def _degradation(found: TaskStudy) -> Figure:
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for at, tolerance in enumerate(TOLERANCES):
        for side, objective in enumerate(Objective):
            chosen = [c for c in found.cells if c.objective is objective and c.tolerance == tolerance]
            across = at + 0.22 * (2 * side - 1) + np.linspace(-0.12, 0.12, len(chosen))
            axes.scatter(
                across,
                [100 * c.degradation for c in chosen],
                s=9,
                color=COLOURS[side],
                label=_LABELS[objective] if at == 0 else None,
            )
        axes.hlines(100 * tolerance, at - 0.42, at + 0.42, color=COLOURS[3], linewidth=1.2)
    axes.set_xticks(range(len(TOLERANCES)), [f"{100 * t:g}" for t in TOLERANCES])
    axes.set_xlabel("tolerance, points of error")
    axes.set_ylabel("degradation, points")
    axes.legend(loc="upper left")
    return figure


def _changes(found: TaskStudy) -> Figure:
    figure = Figure(figsize=(7.2, 0.6 + 0.42 * len(found.changes)), layout="constrained")
    axes = figure.subplots()
    names = [f"{one.smaller} → {one.bigger}" for one in found.changes]
    left = np.zeros(len(names))
    for label, colour, share in (
        ("improves", COLOURS[2], [one.improves for one in found.changes]),
        ("stays", "#d9dde3", [one.stays for one in found.changes]),
        ("worsens", COLOURS[3], [one.worsens for one in found.changes]),
    ):
        axes.barh(names, 100 * np.array(share), left=left, color=colour, label=label, height=0.7)
        left += 100 * np.array(share)
    axes.invert_yaxis()
    axes.set_xlabel("% of requests")
    axes.set_xlim(0.0, 100.0)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _workload(found: WorkloadStudy) -> tuple[str, str, Figure]:
    """Cost of each way of answering over attainment, along the policy's dial; the rings are its own settings."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for colour, way in zip(COLOURS, found.ways, strict=False):
        missed, usd = (100 * (1.0 - np.array(way.swept_attainment)), np.array(way.swept_usd_per_1000))
        order = np.argsort(missed)
        axes.plot(missed[order], usd[order], color=colour, marker="o", markersize=4, label=way.name)
        axes.plot(
            100 * (1.0 - way.attainment), way.usd_per_1000, color=colour, marker="o", markersize=9, fillstyle="none"
        )
    axes.set_xscale("log")
    axes.set_xlabel("requests missed, %")
    axes.set_ylabel("$ per 1000 requests")
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper right")
    caption = f"{found.name}: cost of a service of mixed tolerances; rings: the policy's own settings"
    return f"{found.name}_workload", caption, figure


def _seeds(found: TaskStudy) -> int:
    return len({cell.seed for cell in found.cells})
