"""The page of the workflow experiment: costs over accuracy targets, random instances, values beside bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from experiments.checks import Check
from experiments.figures import COLOURS, STYLE, svg_of
from experiments.page import page, table, write_page
from experiments.placement.jellybean_study import JellyBean, TargetRow

TITLE = "Workflows on tiers"
DPI = 150
_LEAD = (
    "JellyBean (arXiv 2205.04713) on the authors' published inputs of visual question answering: the published "
    "algorithm, our fast and exact planners, and four baselines that leave out a part of the joint choice."
)
_CAPTION = "Cost of the published example over the accuracy asked for; a gap where a planner finds nothing."


def write_jellybean_page(found: JellyBean, checks: Sequence[Check], notes: Sequence[str], directory: Path) -> Path:
    """Writes `targets.png` and `report.html`; returns the page's path."""
    with mpl.rc_context(STYLE):
        figure = _targets(found)
        figure.savefig(directory / "targets.png", dpi=DPI)
        svg = svg_of(figure)
    names = list(found.main.baselines)
    body = [
        f"<h1>{TITLE}</h1>",
        f"<p>{_LEAD}</p>",
        "<h2>Values beside their bars</h2>",
        checks_table(checks),
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Cost over accuracy</h2>",
        f"<figure>{svg}<figcaption>{_CAPTION}</figcaption></figure>",
        table(
            ["target %", "exact $/h", "gap", "fast", "published", *names],
            [
                [
                    f"{row.target:g}",
                    _usd(row.exact),
                    f"{row.gap:g}",
                    _usd(row.fast),
                    _usd(row.published),
                    *(_usd(row.baselines[n]) for n in names),
                ]
                for row in found.targets
            ],
        ),
        "<h2>Random instances</h2>",
        table(
            ["seed", "workers", "operators", "brute force $/h", "exact", "fast", "published"],
            [
                [
                    str(row.seed),
                    str(row.workers),
                    str(row.operators),
                    *(_usd(cost) for cost in (row.brute_force, row.exact, row.fast, row.published)),
                ]
                for row in found.randoms
            ],
        ),
    ]
    return write_page(page(TITLE, body, "experiment jellybean"), directory / "report.html")


def checks_table(checks: Sequence[Check]) -> str:
    """Values beside bars, as a table of the page."""
    lines = [[c.what, c.measured, c.bar, "holds" if c.holds else "FALLS SHORT"] for c in checks]
    return table(["what", "measured", "bar", ""], lines)


def _targets(found: JellyBean) -> Figure:
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    targets = [row.target for row in found.targets]

    def line(name: str, costs: list[float | None], index: int, style: str) -> None:
        values = [float("nan") if cost is None else cost for cost in costs]
        if any(cost is not None for cost in costs):
            axes.plot(targets, values, style, drawstyle="steps-mid", color=COLOURS[index], label=name, linewidth=1.6)

    for index, name in enumerate(found.main.baselines):
        line(name, [row.baselines[name] for row in found.targets], index + 3, ":")
    for index, (name, costs) in enumerate(_planners(found.targets).items()):
        line(name, costs, index, "-" if name == "exact" else "--")
    axes.set_xlabel("accuracy asked for, %")
    axes.set_ylabel("cost, $ per hour")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _planners(rows: Sequence[TargetRow]) -> dict[str, list[float | None]]:
    return {
        "published": [row.published for row in rows],
        "fast": [row.fast for row in rows],
        "exact": [row.exact for row in rows],
    }


def _usd(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.4f}"
