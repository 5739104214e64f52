"""Scale transfer: policies as they are, at a fraction and at a multiple of the rate that they were made for.

Nothing is tuned or learned anew. Below the scenario's own rate machines come in coarser steps and counts are noisier;
above it quotas grow with the rate, so that ten times the traffic could be served by ten times the fleet. What a policy
pays is set against the first policy at the same rate, under the same requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from controller.policies.registry import GENERALIST
from experiments.benchmark_cells import BenchmarkCell, DayResult, WorldSource, run_cell
from experiments.evidence_files import Artefacts, selected_by_validation
from experiments.fanout import in_order
from experiments.run_config import PolicyChoice
from experiments.suite import suite_trace
from experiments.tuned_rivals import RULE
from experiments.worker import Workers

SCALES = (0.3, 1.0, 10.0)
"""Of the scenario's mean rate."""


@dataclass(frozen=True)
class ScaleJob:
    """A policy on the first test day of a trace at a scale."""

    policy: str  # label
    choice: PolicyChoice
    scenario: str
    trace: str
    scale: float


@dataclass(frozen=True)
class ScaleRow:
    """What a policy came to on one day at one scale."""

    policy: str
    scenario: str
    trace: str
    day: int
    scale: float
    cost_usd: float
    requests: int
    most_missed: float  # share of a class's requests, of the class with most
    accuracy_gap: float  # by which the class that is farthest below its floor is; 0 where none is
    rule_share: float  # of ticks


@dataclass(frozen=True)
class ScaleLine:
    """One policy at one scale over all traces of a scenario."""

    policy: str
    scenario: str
    scale: float
    usd_per_million: float  # requests; mean over traces
    over_first: float  # mean over traces of its cost over the first policy's, less 1
    worst_over_first: float  # of the trace where that is most
    worst_trace: str
    most_missed: float
    accuracy_gap: float
    rule_share: float  # of the trace with most


def shipped(artefacts: Artefacts | None = None) -> list[tuple[str, Callable[[str], PolicyChoice | None]]]:
    """The tuned rule, the policy learned for each scenario, and that for any catalog; what is not there is left out."""
    files = artefacts or Artefacts()

    def rule(scenario: str) -> PolicyChoice | None:
        path = files.settings(RULE, scenario)
        return str(path) if path.exists() else None

    def learned(learner: str) -> PolicyChoice | None:
        paths = files.policy_files(learner)
        return str(selected_by_validation(paths)) if paths else None

    return [
        (f"tuned {RULE}", rule),
        ("learned", lambda scenario: learned(Path(scenario).stem)),
        (GENERALIST, lambda _: learned(GENERALIST)),
    ]


def scale_jobs(
    policies: Sequence[tuple[str, Callable[[str], PolicyChoice | None]]],
    scenarios: Sequence[str],
    traces: Sequence[str],
    scales: Sequence[float] = SCALES,
) -> list[ScaleJob]:
    """All jobs.

    Args:
        policies: Labels, and what is run under each in a scenario (None: nothing); set against the first.
        scenarios: Names or paths.
        traces: Of the suite.
        scales: Of the scenarios' mean rates.
    """
    return [
        ScaleJob(label, chosen, scenario, trace, scale)
        for scenario in scenarios
        for trace in traces
        for scale in scales
        for label, choice in policies
        if (chosen := choice(scenario)) is not None
    ]


def run_job(job: ScaleJob) -> ScaleRow:
    """Runs a day, with the rails of a live run.

    Raises:
        ProvisorError: World or policy are wrong.
    """
    first = suite_trace(job.trace).splits.test[0]
    source = WorldSource(scenario=job.scenario, trace=job.trace, days=(first, first), rate=job.scale)
    (day,) = run_cell(BenchmarkCell(world=source, policy=job.choice, seed=0)).days
    workload = source.open().setting.workload
    return _row(job, day, workload.accuracy_floor, workload.floor_each)


def _row(job: ScaleJob, day: DayResult, floor: np.ndarray, floor_each: np.ndarray) -> ScaleRow:
    answered = np.maximum(day.answered, 1)
    accuracy = np.where(np.array(day.answered) > 0, np.array(day.accuracy_sum) / answered, 1.0)
    missed = np.array(day.missed) / np.maximum(day.requests, 1)
    return ScaleRow(
        policy=job.policy,
        scenario=Path(job.scenario).stem,
        trace=job.trace,
        day=day.day,
        scale=job.scale,
        cost_usd=day.cost_usd,
        requests=sum(day.requests),
        most_missed=float(missed.max()),
        accuracy_gap=max(0.0, float(np.where(floor_each, 0.0, floor - accuracy).max())),
        rule_share=(day.ruled_ticks or 0) / day.ticks,
    )


def run_scales(jobs: Sequence[ScaleJob], workers: Workers, told: Callable[[int, int], None]) -> list[ScaleRow]:
    """All rows in the order of the jobs; `told` hears how many of how many are done."""
    found = []
    for done, result in enumerate(workers.run(run_job, jobs), 1):
        found.append(result)
        told(done, len(jobs))
    return in_order(found)


def scale_lines(rows: Sequence[ScaleRow]) -> list[ScaleLine]:
    """One line for each scenario, scale and policy, in the order of the rows, against the scenario's first policy."""
    cost = {(row.scenario, row.trace, row.scale, row.policy): row.cost_usd for row in rows}
    first = {row.scenario: row.policy for row in reversed(rows)}
    lines = []
    for scenario, scale, policy in dict.fromkeys((row.scenario, row.scale, row.policy) for row in rows):
        own = [row for row in rows if (row.scenario, row.scale, row.policy) == (scenario, scale, policy)]
        over = {row.trace: row.cost_usd / cost[scenario, row.trace, scale, first[scenario]] - 1.0 for row in own}
        worst = max(over, key=over.__getitem__)
        lines.append(
            ScaleLine(
                policy=policy,
                scenario=scenario,
                scale=scale,
                usd_per_million=float(np.mean([1e6 * row.cost_usd / max(row.requests, 1) for row in own])),
                over_first=float(np.mean(list(over.values()))),
                worst_over_first=over[worst],
                worst_trace=worst,
                most_missed=max(row.most_missed for row in own),
                accuracy_gap=max(row.accuracy_gap for row in own),
                rule_share=max(row.rule_share for row in own),
            )
        )
    return lines


def show_lines(lines: Sequence[ScaleLine]) -> None:
    """Prints a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="scale transfer: first test day of each trace, settings as they are", title_justify="left")
    left = ("scenario", "policy")
    heads = ("scenario", "rate", "policy", "$ per million", "over the first", "worst trace", "most missed")
    for heading in (*heads, "under floor", "rule %"):
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    for line in lines:
        table.add_row(
            line.scenario,
            f"{line.scale:g}x",
            line.policy,
            f"{line.usd_per_million:.2f}",
            f"{100 * line.over_first:+.2f} %",
            f"{100 * line.worst_over_first:+.2f} % ({line.worst_trace})",
            f"{100 * line.most_missed:.2f} %",
            f"{100 * line.accuracy_gap:.2f} pp",
            f"{100 * line.rule_share:.1f}",
        )
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


def write_scales(rows: Sequence[ScaleRow], lines: Sequence[ScaleLine], folder: Path) -> Path:
    """Writes `scale.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.json"
    value = {"lines": [asdict(line) for line in lines], "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return path
