"""Shows an episode so far: a picture of four panels, or a few lines of text with a sparkline each.

matplotlib is imported when a picture is asked for; nothing here touches its global state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import BILL_TERMS, F64
from envs.timeline import EpisodeTimeline, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES, DOTS_PER_INCH = (9.6, 8.0), 100
_SPARK = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 40
# Okabe and Ito's palette, told apart by colour-blind readers and in grey print; then shades for further pools.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C8C00", "#555555")
_INK, _RED = "#222222", "#B3261E"
_MOST_POOLS = 7
_TALLEST = 5.0  # capacity is shown up to this many times the largest load


def as_text(timeline: EpisodeTimeline) -> str:
    """Load, capacity, misses, latency and cost of the episode so far, one line each."""
    points = timeline.points
    if not points:
        return "no episode has begun"
    setting, last = timeline.stepper.setting, points[-1]
    decisions, total = int(timeline.stepper.decisions[0]), timeline.stepper.options.episode_decisions
    load = np.array([point.load_rps.sum() for point in points])
    capacity = np.array([point.capacity_rps.sum() for point in points])
    missed, arrived = _missed(points), load * timeline.stepper.step_s
    shares = 100.0 * missed / np.maximum(1.0, arrived)
    over = _latency_over_slo(timeline)
    worst = np.where(np.isnan(over), 0.0, over).max(axis=1)
    cost = np.array([point.cost_usd.sum() for point in points])
    spent = np.diff(cost, prepend=0.0)
    observed = timeline.stepper.simulator.observation
    fleet = f"{last.instances.sum()} serving, {last.starting} starting, {observed.doomed[0].sum()} doomed"
    share = 100.0 * missed.sum() / max(1.0, arrived[1:].sum())
    head = (
        f"{setting.scenario.name}: {last.hours:.2f} of {timeline.span_hours:.2f} h, decision {decisions} of {total}, "
        f"{observed.waiting[0].sum()} queued"
    )
    lines = [
        head,
        _line("load", load, f"{load[-1]:.1f} requests/s ({load.min():.1f} to {load.max():.1f})"),
        _line("capacity", capacity, f"{capacity[-1]:.1f} requests/s on machines: {fleet}"),
        _line("missed", shares, f"{shares[-1]:.2f} % now, {share:.2f} % so far"),
        _line("latency", worst, f"{worst[-1]:.2f} x SLO at p95, worst class"),
        _line("cost", spent, f"${spent[-1]:.4f} now, ${cost[-1]:.4f} so far"),
    ]
    return "\n".join(lines)


def as_image(timeline: EpisodeTimeline) -> NDArray[np.uint8]:
    """The episode so far as a picture, (height, width, 3); its size and its time axis are the same at every step."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e6e9ee",
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.fontsize": 8,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        panels = list(figure.subplots(4, 1, sharex=True))
        # Fixed margins: a layout that follows the legends would shake from frame to frame of a video.
        figure.subplots_adjust(left=0.085, right=0.8, top=0.925, bottom=0.065, hspace=0.36)
        _draw(timeline, panels)
        figure.suptitle(_headline(timeline), x=0.085, ha="left", fontsize=11, color=_INK)
        figure.align_ylabels(panels)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's own
        buffer = canvas.buffer_rgba()  # type: ignore[no-untyped-call]  # as above
        return np.array(buffer, np.uint8)[:, :, :3].copy()


def _draw(timeline: EpisodeTimeline, panels: list[Axes]) -> None:
    points = timeline.points
    if points:
        hours = np.array([point.hours for point in points])
        _draw_load(panels[0], hours, points)
        _draw_instances(panels[1], hours, timeline)
        _draw_latency(panels[2], hours, timeline)
        _draw_cost(panels[3], hours, points)
    panels[0].set_ylabel("requests/s")
    panels[1].set(title="Serving instances by pool", ylabel="instances")
    panels[2].set(title="95th percentile of latency, and missed requests", ylabel="latency / SLO")
    panels[3].set(title="Cumulative cost by term", ylabel="USD")
    panels[3].set_xlabel("hours since the episode began")
    panels[3].set_xlim(0.0, timeline.span_hours)
    for panel in (panels[0], panels[1], panels[3]):
        panel.set_ylim(bottom=0.0)
    for panel in panels:
        handles, names = panel.get_legend_handles_labels()
        if handles:
            panel.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.06), borderaxespad=0.3)


def _draw_load(axes: Axes, hours: F64, points: tuple[Point, ...]) -> None:
    capacity = np.array([point.capacity_rps for point in points])
    axes.stackplot(
        hours,
        *capacity.T,
        labels=("on demand", "spot", "spot, under notice"),
        colors=("#9DB9D3", "#F1D19B", "#DFA6A0"),
    )
    load = np.array([point.load_rps.sum() for point in points])
    axes.plot(hours, load, color=_INK, linewidth=1.4, label="load")
    serverless = np.array([point.serverless_rps for point in points])
    if serverless.any():
        axes.plot(hours, serverless, color="#CC79A7", linewidth=1.1, label="sent to serverless")
    # Capacity counts whatever variant runs, and the fastest would press the load flat.
    top = max(1.05 * float(capacity.sum(axis=1).max()), 1.1 * float(load.max()), 1.0)
    most = max(_TALLEST * float(load.max()), 1.0)
    axes.set_ylim(top=min(top, most))
    axes.set_title("Load and capacity of machines" + (f" (cut at {most:.0f})" if top > most else ""))


def _draw_instances(axes: Axes, hours: F64, timeline: EpisodeTimeline) -> None:
    """Pools by mean size; those beyond `_MOST_POOLS` are added up."""
    instances = np.array([point.instances for point in timeline.points], np.float64)
    mean = instances.mean(axis=0)
    used = [p for p in np.argsort(-mean, kind="stable") if mean[p] > 0]
    shown, rest = used[:_MOST_POOLS], used[_MOST_POOLS:]
    layers = [instances[:, p] for p in shown]
    names = [timeline.stepper.setting.pool_names[p] for p in shown]
    if rest:
        layers.append(instances[:, rest].sum(axis=1))
        names.append(f"{len(rest)} more pools")
    if layers:
        axes.stackplot(hours, *layers, labels=names, colors=_COLOURS, alpha=0.85, step="post")
    starting = [point.starting for point in timeline.points]
    if any(starting):
        axes.plot(hours, starting, color=_INK, linewidth=1.0, linestyle=":", label="starting")


def _draw_latency(axes: Axes, hours: F64, timeline: EpisodeTimeline) -> None:
    over = _latency_over_slo(timeline)
    for c, name in enumerate(timeline.stepper.setting.class_names):
        axes.plot(hours, over[:, c], color=_COLOURS[c % len(_COLOURS)], linewidth=1.2, label=name)
    axes.axhline(1.0, color=_INK, linewidth=1.0, linestyle="--", label="SLO")
    axes.set_yscale("log")
    known = over[np.isfinite(over)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.1, 1.0)
    axes.set_ylim(min(0.05, low / 1.5), max(3.0, high * 1.5))
    axes.yaxis.set_major_formatter("{x:g}")
    missed = axes.twinx()
    missed.spines["right"].set_visible(False)
    missed.grid(visible=False)
    missed.tick_params(right=False, labelright=False)
    counts = _missed(timeline.points)
    width = timeline.span_hours / timeline.stepper.options.episode_decisions
    missed.bar(hours - width / 2, counts, width, color=_RED, alpha=0.3)
    missed.set_ylim(0.0, 3.0 * max(1.0, float(counts.max())))
    axes.bar(0.0, 0.0, 0.0, color=_RED, alpha=0.3, label=f"missed (most {int(counts.max())})")


def _draw_cost(axes: Axes, hours: F64, points: tuple[Point, ...]) -> None:
    cost = np.array([point.cost_usd for point in points]).clip(min=0.0)
    used = [t for t in range(len(BILL_TERMS)) if cost[-1, t] > 0.0]
    if used:
        names = [BILL_TERMS[t].replace("_", " ") for t in used]
        axes.stackplot(hours, *(cost[:, t] for t in used), labels=names, colors=[_COLOURS[t] for t in used], alpha=0.8)


def _headline(timeline: EpisodeTimeline) -> str:
    points, name = timeline.points, timeline.stepper.setting.scenario.name
    if not points:
        return f"{name}: no episode has begun"
    arrived = sum(float(point.load_rps.sum()) for point in points[1:]) * timeline.stepper.step_s
    attainment = 100.0 * (1.0 - float(_missed(points).sum()) / max(1.0, arrived))
    return (
        f"{name}   {points[-1].hours:.2f} h   \\${points[-1].cost_usd.sum():.3f}   attainment {attainment:.2f} %"
        f"   {round(arrived):,} requests"
    )


def _missed(points: tuple[Point, ...]) -> F64:
    return np.array([point.missed.sum() for point in points], np.float64)


def _latency_over_slo(timeline: EpisodeTimeline) -> F64:
    """95th percentile of each decision's answers / SLO, (points, C)."""
    return np.array([point.p95_s for point in timeline.points]) / timeline.stepper.setting.workload.slo_s


def _line(name: str, values: F64, text: str) -> str:
    return f"{name:<9}{_sparkline(values):<{_SPARK_WIDTH}}  {text}"


def _sparkline(values: F64) -> str:
    """Values from 0 to their largest as blocks, averaged to at most `_SPARK_WIDTH` of them."""
    pieces = np.array_split(values, min(_SPARK_WIDTH, len(values)))
    means = np.array([piece.mean() for piece in pieces])
    top = max(float(means.max()), 1e-12)
    return "".join(_SPARK[int(level)] for level in np.rint(means / top * (len(_SPARK) - 1)).clip(0, len(_SPARK) - 1))
