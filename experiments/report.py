"""One self-contained HTML page on an evaluation: nothing on it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from controller.arrays import BILL_TERMS
from controller.config import versions
from controller.errors import ConfigError
from experiments.outcome import Evaluation
from experiments.results import ResultRow
from experiments.summary import SummaryLine, summarise, summary_cells

_PARETO_NOTE = (
    "Mean over days; bars are the standard deviation between days. Policies on the dashed line are beaten in cost and "
    "attainment by no other."
)
_CSS = """
:root { --ink: #1d2530; --soft: #5b6572; --line: #dfe3e9; --tint: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem; background: #fff; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
p, figcaption { color: var(--soft); max-width: 50rem; }
p { margin: .3rem 0 .8rem; }
figure { margin: .8rem 0 1.2rem; break-inside: avoid; }
figcaption { font-size: .85rem; margin-top: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--tint); font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; font-weight: 600; }
.note { border-left: 3px solid #d55e00; background: #fdf4ee; padding: .6rem .9rem; color: var(--ink); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--soft);
  font-size: .8rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  .scroll { overflow: visible; } }
"""


def write_report(result: Evaluation, path: Path, title: str) -> Path:
    """Writes the page.

    Args:
        result: Rows and timelines, at least one row.
        path: File to write.
        title: Name of the run.

    Raises:
        ConfigError: The file cannot be written.
    """
    page = render(result, title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be written, got: {error.strerror or error}") from error
    return path


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
    numbers = ", ".join(f"{name} {number}" for name, number in versions().items() if number)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - Provisor</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<footer>Provisor evaluation. {escape(numbers)}.</footer>\n</body>\n</html>\n"
    )


def _scenario(name: str, rows: Sequence[ResultRow], result: Evaluation) -> list[str]:
    lines = summarise(rows)
    trace = ", ".join(dict.fromkeys(row.trace for row in rows))
    scale = result.scales.get(name)
    scaled = "" if scale is None else f" scaled by {scale:.4g}"
    parts = [f"<h2>Scenario {escape(name)}</h2>", f"<p>Trace {escape(trace)}{scaled}.</p>", _summary(lines)]
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
    table = _table(list(cells[0]), [list(one.values()) for one in cells])
    note = (
        f"Mean ± standard deviation between days. Differences are to {escape(lines[0].policy)}, day by day and seed by "
        "seed, with half of the 95 % interval. A floor counts as missed where a class's mean accuracy is below it."
    )
    return f"{table}<p>{note}</p>"


def _bill(rows: Sequence[ResultRow]) -> str:
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        own = [row for row in rows if row.policy == policy]
        means = [sum(row.cost_usd_by_term.get(term, 0.0) for row in own) / len(own) for term in BILL_TERMS]
        lines.append([policy, *(f"{mean:.2f}" for mean in means), f"{sum(means):.2f}"])
    return _table(["$ per day", *(term.replace("_", " ") for term in BILL_TERMS), "total"], lines)


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
    return _table(["policy / class", "attainment %", "accuracy %", "p50 s", "p95 s", "p99 s"], lines)


def _percentiles(rows: Sequence[ResultRow]) -> list[list[dict[str, float | None]]]:
    return [[row.p50_s for row in rows], [row.p95_s for row in rows], [row.p99_s for row in rows]]


def _mean(values: Sequence[float | None], factor: float = 1.0) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{factor * sum(known) / len(known):.{2 if factor > 1 else 3}f}"


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(numbers: Sequence[int]) -> str:
    """`4-7` for a run of numbers, else `1, 3, 8`."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(number) for number in numbers)
