"""The leaderboard as files: CSV and JSON that are the same whoever computed them, times apart, and a page to read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from controller.errors import ConfigError
from experiments.benchmark_config import ALL, MEAN, PROMISE
from experiments.leaderboard import LeaderboardRow
from experiments.page import page, table, write_page

LEADERBOARD = "leaderboard"
TIMINGS = "timings.csv"

_UNKNOWN = "-"


class Timing:
    """How long a policy took to decide on a trace, and its cells to run; of the machine at hand."""

    def __init__(self, scenario: str, trace: str, policy: str, decide_ms_p99: float | None, wall_s: float) -> None:
        self.scenario, self.trace, self.policy = scenario, trace, policy
        self.decide_ms_p99, self.wall_s = decide_ms_p99, wall_s


def as_csv(rows: Sequence[LeaderboardRow]) -> str:
    """All fields of the rows, a line each under a line of names; nothing where a number is not known.

    What is by class stands in one column, as `strict=0.991;relaxed=0.999`.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(LeaderboardRow.model_fields)
    for row in rows:
        writer.writerow(_cell(getattr(row, name)) for name in LeaderboardRow.model_fields)
    return stream.getvalue()


def write_leaderboard(
    rows: Sequence[LeaderboardRow], timings: Sequence[Timing], directory: Path, title: str
) -> list[Path]:
    """Writes `leaderboard.csv`, `.json` and `.html`, and `timings.csv`; returns what was written.

    Raises:
        ConfigError: The directory cannot be written.
    """
    texts = {
        f"{LEADERBOARD}.csv": as_csv(rows),
        f"{LEADERBOARD}.json": json.dumps([row.model_dump(mode="json") for row in rows], indent=1) + "\n",
        TIMINGS: _timings_csv(timings),
    }
    written = []
    for name, text in texts.items():
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: expected a file that can be written, got: {error.strerror or error}") from error
        written.append(path)
    return [*written, write_page(render(rows, timings, title), directory / f"{LEADERBOARD}.html")]


def render(rows: Sequence[LeaderboardRow], timings: Sequence[Timing], title: str) -> str:
    """The page as text."""
    body = [f"<h1>{escape(title)}</h1>", f"<p>{_LEAD}</p>"]
    slowest: dict[tuple[str, str], float] = {}
    for one in timings:
        if one.decide_ms_p99 is not None:
            for scenario in (one.scenario, ALL):
                key = (scenario, one.policy)
                slowest[key] = max(slowest.get(key, 0.0), one.decide_ms_p99)
    for scenario in sorted({row.scenario for row in rows}, key=lambda name: (name != ALL, _first(rows, name))):
        own = [row for row in rows if row.scenario == scenario]
        title = "All scenarios" if scenario == ALL else f"Scenario {scenario}"
        body.append(f"<h2>{escape(title)}</h2>")
        for target in dict.fromkeys(row.target for row in own):
            body += _at_target([row for row in own if row.target == target])
        first = [row for row in own if row.target == own[0].target]
        body += ["<h3>Each policy at its own settings</h3>", _own_points(first, slowest)]
    commands = [[row.row, row.command] for row in rows]
    body += ["<h2>Every row, computed anew</h2>", table(["row", "command"], commands)]
    return page(title, body, "benchmark")


_LEAD = (
    "Cost of each policy relative to a reference, both at the same attainment and accuracy, read off each policy's own "
    "frontier: its dials are swept and the points interpolated, never extrapolated. In brackets the 95 % interval, "
    "bootstrapped over days in blocks within each trace, and over training seeds where a policy has several. A mean "
    "counts all traces alike. &lsquo;Better&rsquo; marks a policy that delivers more than was asked and has no cheaper "
    "setting."
)


def _at_target(rows: Sequence[LeaderboardRow]) -> list[str]:
    # matplotlib takes half a second, and a page may be of no use to who imports this module.
    from experiments.figures import difference_svg

    first = rows[0]
    at = (
        "what is promised to each class"
        if first.target == PROMISE
        else f"the attainment and accuracy of {first.target}"
    )
    traces = sorted(dict.fromkeys(row.trace for row in rows), key=lambda name: name != MEAN)
    policies = list(dict.fromkeys(row.policy for row in rows))
    by_key = {(row.policy, row.trace): row for row in rows}
    lines = [[policy, *(difference_text(by_key[policy, trace]) for trace in traces)] for policy in policies]
    head = [by_key[policy, traces[0]] for policy in policies]
    reasons = [f"{row.policy} on {row.trace}: {row.reason}" for row in rows if row.reason and row.trace != MEAN]
    parts = [
        f"<h3>Cost at {escape(at)}, relative to {escape(first.reference)}</h3>",
        "<figure>"
        + difference_svg(
            policies,
            [row.cost_difference for row in head],
            [_interval(row) for row in head],
            f"cost, % of that of {first.reference}, {'mean over traces' if traces[0] == MEAN else traces[0]}",
        )
        + "</figure>",
        table(["policy", *traces], lines),
    ]
    if reasons:
        parts.append("<p>" + "<br>".join(escape(reason) for reason in reasons) + "</p>")
    return parts


def _own_points(rows: Sequence[LeaderboardRow], slowest: dict[tuple[str, str], float]) -> str:
    titles = [
        "policy", "trace", "cost $/day", "attainment %", "accuracy %", "by class: attainment %", "accuracy %",
        "promise", "floors missed", "shed %", "capacity changes/h", "rule %", "decide ms p99",
    ]  # fmt: skip
    lines = []
    for row in rows:
        timing = slowest.get((row.scenario, row.policy))
        lines.append(
            [
                row.policy,
                row.trace,
                f"{row.own_cost_usd:.2f}",
                f"{100 * row.own_attainment:.3f}",
                _percent(row.own_accuracy),
                ", ".join(f"{name} {100 * value:.3f}" for name, value in row.attainment_by_class.items()),
                ", ".join(f"{name} {_percent(value)}" for name, value in row.accuracy_by_class.items()),
                "kept" if row.promise_kept else "broken",
                str(row.floors_missed),
                f"{100 * row.shed_share:.3f}",
                _UNKNOWN if row.capacity_changes_per_hour is None else f"{row.capacity_changes_per_hour:.1f}",
                _UNKNOWN if row.rule_share is None else f"{100 * row.rule_share:.1f}",
                _UNKNOWN if timing is None else f"{timing:.3f}",
            ]
        )
    return table(titles, lines)


def difference_text(row: LeaderboardRow) -> str:
    """A row's relative cost with its interval, in short."""
    if row.cost_difference is None:
        return "not reachable"
    text = f"{100 * row.cost_difference:+.1f} %"
    interval = _interval(row)
    if interval is not None:
        text += f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
    return text + (", better" if row.status == "better" else "")


def _interval(row: LeaderboardRow) -> tuple[float, float] | None:
    low, high = row.cost_difference_low, row.cost_difference_high
    return None if low is None or high is None else (low, high)


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.2f}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ";".join(f"{name}={_cell(one)}" for name, one in value.items())
    return repr(value) if isinstance(value, float) else str(value)


def _timings_csv(timings: Sequence[Timing]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["scenario", "trace", "policy", "decide_ms_p99", "wall_s"])
    for one in timings:
        writer.writerow([one.scenario, one.trace, one.policy, _cell(one.decide_ms_p99), _cell(one.wall_s)])
    return stream.getvalue()


def _first(rows: Sequence[LeaderboardRow], scenario: str) -> int:
    return next(index for index, row in enumerate(rows) if row.scenario == scenario)
