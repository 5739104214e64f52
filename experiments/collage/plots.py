"""The plots of the collage study: saved as PNG and put into the page as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from experiments.collage.draws import Kind
from experiments.collage.networks import Network, collages
from experiments.collage.study import (
    COLLAGE,
    COLLAGE_RESENT,
    COLLAGE_TWO,
    CURVE_LEVELS,
    NONE,
    REPLICATE,
    RESEND,
    RESEND_TUNED,
    Extent,
    Row,
    find,
)
from experiments.figures import COLOURS, STYLE, svg_of

KINDS = (Kind.INDEPENDENT, Kind.TIME, Kind.GROUP, Kind.GROUP_ROTATED)
"""Of draws, whose curves are drawn."""

_DPI = 150
_CURVES = (NONE, RESEND, RESEND_TUNED, REPLICATE, COLLAGE, COLLAGE_TWO)


def draw(rows: Sequence[Row], networks: Sequence[Network], extent: Extent, directory: Path) -> list[tuple[str, str]]:
    """Saves every plot as PNG; returns caption and SVG element of each."""
    drawn = []
    with mpl.rc_context(STYLE):
        for name, caption, figure in _plots(rows, networks, extent):
            figure.savefig(directory / f"{name}.png", dpi=_DPI)
            drawn.append((caption, svg_of(figure)))
    return drawn


def _plots(rows: Sequence[Row], networks: Sequence[Network], extent: Extent) -> Iterator[tuple[str, str, Figure]]:
    for kind in KINDS:
        name = "cdf_" + kind.value.replace(",", "").replace(" ", "_")
        yield name, f"Share of groups not complete after a time, pass ratio 1, draws: {kind.value}", _curves(rows, kind)
    yield "ratios", "p99 of groups by pass ratio, independent draws", _by_ratio(rows, extent)
    yield "accuracy", "Accuracy of collages by cells, and of the single-image network", _accuracy(networks)


def _curves(rows: Sequence[Row], kind: Kind) -> Figure:
    sizes = sorted({row.k for row in rows})
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, k in zip(panels, sizes, strict=True):
        for at, mode in enumerate(_CURVES):
            row = find(rows, k, mode, kind=kind)
            panel.plot(row.curve_s, [1.0 - level for level in CURVE_LEVELS], color=COLOURS[at], label=mode)
        panel.set_yscale("log")
        panel.set_title(f"k = {k}")
        panel.set_xlabel("seconds")
    panels[0].set_ylabel("share of groups not complete")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _by_ratio(rows: Sequence[Row], extent: Extent) -> Figure:
    figure = Figure(figsize=(8.4, 3.0), layout="constrained")
    panels = figure.subplots(1, len(extent.sizes), sharey=True, squeeze=False)[0]
    for panel, k in zip(panels, extent.sizes, strict=True):
        for at, mode in enumerate((COLLAGE, COLLAGE_TWO, COLLAGE_RESENT)):
            p99_s = [find(rows, k, mode, ratio).group.p99_s for ratio in extent.ratios]
            panel.plot(extent.ratios, p99_s, color=COLOURS[at], marker="o", markersize=3, label=mode)
        for at, mode in enumerate((RESEND_TUNED, REPLICATE), 3):
            panel.axhline(find(rows, k, mode).group.p99_s, color=COLOURS[at], linestyle="--", label=mode)
        panel.set_title(f"k = {k}")
        panel.set_xlabel("pass ratio")
    panels[0].set_ylabel("p99 of groups, s")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _accuracy(networks: Sequence[Network]) -> Figure:
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    axes = figure.subplots()
    pairs = list(collages(networks))
    for at, (task, form) in enumerate(sorted({(one.task, one.form) for one, _ in pairs})):
        chosen = [pair for pair in pairs if (pair[0].task, pair[0].form) == (task, form)]
        axes.errorbar(
            [1, *(one.w for one, _ in chosen)],
            [100 * chosen[0][1].accuracy, *(100 * one.accuracy for one, _ in chosen)],
            yerr=[100 * chosen[0][1].deviation, *(100 * one.deviation for one, _ in chosen)],
            color=COLOURS[at],
            marker="o",
            markersize=4,
            label=f"{task}, {form}",
        )
    axes.set_xticks([1, 2, 3, 4, 5], ["single", "2×2", "3×3", "4×4", "5×5"])
    axes.set_ylabel("right, %")
    axes.legend()
    return figure
