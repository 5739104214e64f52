"""The page of joint adaptation: the crossover figure, the measured variants, random problems, values beside bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.checks import Check
from experiments.figures import COLOURS, STYLE, svg_of
from experiments.page import page, table, write_page
from experiments.placement.geo_study import REAL_PRICES
from experiments.placement.geo_sweep import Adaptation, crossovers, savings
from experiments.placement.jellybean_page import DPI, checks_table
from experiments.placement.table import VariantTable

TITLE = "Models and data versions over regions"
_LEAD = (
    "Joint model and data adaptation in the manner of A² (RTSS 2021), of which only the abstract is known to us: the "
    "programs, the rounding and its ratio are ours. Which model version runs where and which data version is sent "
    "there, over the price of traffic, on variants measured here."
)
_CAPTION = "Cost, saving and what is sent over the price of traffic between sites; vertical lines are EC2's prices."


def write_geo_page(
    found: Adaptation, measured: VariantTable, checks: Sequence[Check], notes: Sequence[str], directory: Path
) -> Path:
    """Writes `crossover.png` and `report.html`; returns the page's path."""
    with mpl.rc_context(STYLE):
        figure = _crossover(found)
        figure.savefig(directory / "crossover.png", dpi=DPI)
        svg = svg_of(figure)
    names = list(found.prices[0].baselines)
    body = [
        f"<h1>{TITLE}</h1>",
        f"<p>{_LEAD}</p>",
        "<h2>Values beside their bars</h2>",
        checks_table(checks),
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Crossover</h2>",
        f"<figure>{svg}<figcaption>{_CAPTION}</figcaption></figure>",
        table(
            [
                "$/GB",
                "fast $/h",
                "bound",
                "greedy",
                *names,
                *(f"{name}, replayed" for name in found.prices[0].replayed),
                "kB sent",
                "ms served",
            ],
            [
                [
                    f"{row.usd_per_gb:.4g}",
                    f"{row.fast:.3f}",
                    f"{row.bound:.3f}",
                    _usd(row.greedy),
                    *(_usd(row.baselines[name]) for name in names),
                    *(_usd(cost) for cost in row.replayed.values()),
                    f"{row.kilobytes:.3f}",
                    f"{row.service_ms:.3f}",
                ]
                for row in found.prices
            ],
        ),
        "<h2>Measured variants</h2>",
        _variants(measured),
        "<h2>Rounding on random problems</h2>",
        table(
            ["seed", "over optimum", "over relaxation", "proved below", "greedy", "least instances", "s"],
            [
                [
                    str(row.seed),
                    f"{row.fast:.4f}",
                    f"{row.to_relaxation:.4f}",
                    f"{row.proved:.4f}",
                    _usd(row.greedy),
                    f"{row.instances:.1f}",
                    f"{row.solve_s:.2f}",
                ]
                for row in found.roundings
            ],
        ),
    ]
    return write_page(page(TITLE, body, "experiment a2"), directory / "report.html")


def _variants(measured: VariantTable) -> str:
    """Accuracy and milliseconds of every model on every data version."""
    accuracy = measured.calibration.mean(axis=0)
    return table(
        ["data version", "bytes", "encoding ms", *measured.models],
        [
            [
                data,
                f"{measured.bytes_mean[d]:.0f}",
                f"{1e3 * measured.encode_s[d]:.3f}",
                *(
                    f"{100 * accuracy[m, d]:.2f} %, {1e3 * measured.service_s[m, d]:.3f} ms"
                    for m in range(len(measured.models))
                ),
            ]
            for d, data in enumerate(measured.data)
        ],
    )


def _crossover(found: Adaptation) -> Figure:
    figure = Figure(figsize=(7.6, 7.2), layout="constrained")
    cost, saving, sent = figure.subplots(3, 1, sharex=True, height_ratios=[1.5, 1.0, 1.0])
    prices = [row.usd_per_gb for row in found.prices]
    for index, name in enumerate(found.prices[0].baselines):
        values = [row.baselines[name] for row in found.prices]
        if any(value is not None for value in values):
            line = [np.nan if value is None else value for value in values]
            cost.plot(prices, line, "--", color=COLOURS[index + 1], label=name, linewidth=1.3)
    cost.plot(prices, [row.fast for row in found.prices], color=COLOURS[0], label="fast planner", linewidth=2)
    for price in crossovers(found.prices):
        cost.axvline(price, color="#222222", linewidth=1)
    cost.set_ylabel("cost, $ per hour")
    cost.set_yscale("log")
    cost.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    better, none = savings(found.prices)
    saving.plot(prices, 100 * better, color=COLOURS[2], label="below the better\nsingle-axis baseline")
    saving.plot(prices, 100 * none, color=COLOURS[3], label="below none adapted")
    saving.set_ylabel("saving, %")
    saving.set_ylim(bottom=0)
    saving.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    shares = [[row.data_shares[name] for row in found.prices] for name in found.prices[0].data_shares]
    sent.stackplot(prices, *shares, labels=list(found.prices[0].data_shares), colors=COLOURS, alpha=0.85)
    sent.set_ylabel("share of requests")
    sent.set_ylim(0, 1)
    sent.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    sent.set_xlabel("price of traffic between sites, $ per GB")
    sent.set_xscale("log")
    for axes in (cost, saving, sent):
        _mark_real_prices(axes, has_names=axes is cost)
    return figure


def _mark_real_prices(axes: Axes, has_names: bool) -> None:
    for number, (name, price) in enumerate(REAL_PRICES.items()):
        axes.axvline(price, color="#8a939e", linewidth=0.9, linestyle=":")
        if has_names:
            axes.annotate(
                name,
                (price, 0.97 if number % 2 else 0.55),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=7,
                ha="right",
                va="top",
            )


def _usd(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.3f}"
