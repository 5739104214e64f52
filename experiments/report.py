"""One self-contained HTML page on an evaluation: nothing on it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from controller.arrays import BILL_TERMS
from experiments.outcome import Evaluation
from experiments.page import page, table, write_page
from experiments.results import ResultRow
from experiments.summary import SummaryLine, redundancy_lines, solver_lines, summarise, summary_cells

_PARETO_NOTE = (
    "Mean over days; bars are the standard deviation between days. Policies on the dashed line are beaten in cost and "
    "attainment by no other."
)


def write_report(result: Evaluation, path: Path, title: str) -> Path:
    """Writes the page.

    Args:
        result: Rows and timelines, at least one row.
        path: File to write.
        title: Name of the run.

    Raises:
        ConfigError: The file cannot be written.
    """
    return write_page(render(result, title), path)


def render(result: Evaluation, title: str) -> str:
    """The page as text; equal evaluations give equal pages."""
    rows = result.rows
    policies = list(dict.fromkeys(row.policy for row in rows))
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    days, seeds = sorted({row.day for row in rows}), sorted({row.seed for row in rows})
    lead = (
        f"{_count(len(policies), 'policy', 'policies')} on {_count(len(scenarios), 'scenario')}, "
        f"days {_listed(days)}, seeds {_listed(seeds)}. Every policy met the same requests, service times and market."
    )
    body = [f"<h1>{escape(title)}</h1>", f"<p>{lead}</p>"]
    if result.is_partial:
        body.append('<p class="note">The evaluation was interrupted; policies that were not finished are missing.</p>')
    for scenario in scenarios:
        body += _scenario(scenario, [row for row in rows if row.scenario == scenario], result)
    return page(title, body, "evaluation")


def _scenario(name: str, rows: Sequence[ResultRow], result: Evaluation) -> list[str]:
    lines = summarise(rows)
    trace = ", ".join(dict.fromkeys(row.trace for row in rows))
    scale = result.scales.get(name)
    scaled = "" if scale is None else f" scaled by {scale:.4g}"
    parts = [f"<h2>Scenario {escape(name)}</h2>", f"<p>Trace {escape(trace)}{scaled}.</p>", _summary(lines)]
    parts += [f"<p>{escape(line)}</p>" for line in (*solver_lines(rows), *redundancy_lines(rows))]
    # matplotlib takes half a second, and a report may be of no use to who imports this module.
    from experiments.figures import pareto_svg, timeline_svg

    parts += [
        "<h3>Cost and attainment</h3>",
        f"<figure>{pareto_svg(lines)}<figcaption>{_PARETO_NOTE}</figcaption></figure>",
        "<h3>Bill by term</h3>",
        _bill(rows),
        "<h3>By request class</h3>",
        _classes(rows),
    ]
    for timeline in (t for t in result.timelines if t.scenario == name):
        parts += [
            f"<h3>{escape(timeline.policy)}, day {timeline.day}, seed {timeline.seed}</h3>",
            f"<figure>{timeline_svg(timeline)}</figure>",
        ]
    return parts


def _summary(lines: Sequence[SummaryLine]) -> str:
    cells = [summary_cells(line) for line in lines]
    shown = table(list(cells[0]), [list(one.values()) for one in cells])
    note = (
        f"Mean ± standard deviation between days. Differences are to {escape(lines[0].policy)}, day by day and seed by "
        "seed, with half of the 95 % interval. A floor counts as missed where a class's mean accuracy is below it."
    )
    return f"{shown}<p>{note}</p>"


def _bill(rows: Sequence[ResultRow]) -> str:
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        own = [row for row in rows if row.policy == policy]
        means = [sum(row.cost_usd_by_term.get(term, 0.0) for row in own) / len(own) for term in BILL_TERMS]
        lines.append([policy, *(f"{mean:.2f}" for mean in means), f"{sum(means):.2f}"])
    return table(["$ per day", *(term.replace("_", " ") for term in BILL_TERMS), "total"], lines)


def _classes(rows: Sequence[ResultRow]) -> str:
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        own = [row for row in rows if row.policy == policy]
        for name in own[0].attainment_by_class:
            attainment = sum(row.attainment_by_class[name] for row in own) / len(own)
            shown = [
                f"{policy} / {name}",
                f"{100 * attainment:.2f}",
                _mean([r.accuracy_by_class[name] for r in own], 100),
            ]
            shown += [_mean([quantiles[name] for quantiles in by_row]) for by_row in _percentiles(own)]
            lines.append(shown)
    return table(["policy / class", "attainment %", "accuracy %", "p50 s", "p95 s", "p99 s"], lines)


def _percentiles(rows: Sequence[ResultRow]) -> list[list[dict[str, float | None]]]:
    return [[row.p50_s for row in rows], [row.p95_s for row in rows], [row.p99_s for row in rows]]


def _mean(values: Sequence[float | None], factor: float = 1.0) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{factor * sum(known) / len(known):.{2 if factor > 1 else 3}f}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(numbers: Sequence[int]) -> str:
    """`4-7` for a run of numbers, else `1, 3, 8`."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(number) for number in numbers)
