"""Days run by a policy, each beside the least it could have cost by hindsight."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from pydantic import Field
from rich.console import Console
from rich.table import Table

from controller.config import StrictModel
from controller.errors import UsageError, mismatch
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.hindsight import RunRecorder, bound_of_run, step_ticks_of
from experiments.rollout import Progress, Ticker, batches, new_loop, prepare, roll
from experiments.run_config import PolicyChoice, policy_labels


class BoundRow(StrictModel):
    """One day of a policy and its bound."""

    scenario: str
    policy: str
    day: int = Field(ge=1)
    seed: int
    cost_usd: float
    bound_usd: float = Field(ge=0, description="lower bound at the run's own arrivals, misses and accuracy")
    ratio: float | None = Field(description="bound over cost; none where nothing was spent")
    attainment: float
    accuracy: float | None
    margin_usd: float = Field(ge=0, description="taken off the bound for the luck of service times")
    gap_usd: float = Field(description="what the solver left, above the bound")
    status: str
    solve_s: float = Field(ge=0)


def bound_days(
    scenario: str,
    policy: PolicyChoice,
    *,
    choice: WorldChoice | None = None,
    seed: int = 0,
    ticks: int | None = None,
    step_s: float = 60.0,
    progress: Progress | None = None,
) -> list[BoundRow]:
    """Runs every chosen day and bounds its bill.

    Args:
        scenario: Name or path of a scenario.
        policy: What `make_policy` takes.
        choice: What replaces trace, days, scale and market.
        seed: Seed of every cell.
        ticks: Ticks of each day to run; None: the whole day.
        step_s: Step of the bound's program.
        progress: Told what goes on.

    Raises:
        ProvisorError: Something that was named is wrong, or the policy answers requests on several replicas.
    """
    world = build_world(load_scenario(scenario), choice)
    if ticks is not None and not 1 <= ticks <= world.cell_ticks:
        raise UsageError(mismatch("ticks", f"1..{world.cell_ticks}", ticks))
    step_ticks_of(world.setting, step_s)
    new_loop(world, policy, 1)
    progress = progress or Progress()
    label = policy_labels([policy])[0]
    progress.working_on(f"{label} on {world.setting.scenario.name}")
    groups = batches(world.cells([seed]))
    progress.started(len(groups) * (ticks or world.cell_ticks))
    rows: list[BoundRow] = []
    for group in groups:
        run = RunRecorder()
        tally = roll(world, prepare(world, group), policy, [run, Ticker(progress)], ticks)
        for env, cell in enumerate(group):
            result = tally.row(env, policy=label, trace=world.trace_name, day=cell.day, seed=seed)
            found = bound_of_run(world, cell, run, env, step_s)
            rows.append(
                BoundRow(
                    scenario=result.scenario,
                    policy=label,
                    day=cell.day,
                    seed=seed,
                    cost_usd=result.cost_usd,
                    bound_usd=found.cost_usd,
                    ratio=found.cost_usd / result.cost_usd if result.cost_usd > 0 else None,
                    attainment=result.attainment,
                    accuracy=result.accuracy,
                    margin_usd=found.margin_usd,
                    gap_usd=found.gap_usd,
                    status=found.status,
                    solve_s=found.solve_s,
                )
            )
    return rows


def show_bounds(rows: Sequence[BoundRow], as_json: bool) -> None:
    """Prints a line per day, or JSON."""
    if as_json:
        click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
        return
    table = Table(title=f"{rows[0].policy} on {rows[0].scenario}, seed {rows[0].seed}" if rows else None)
    for heading in ("day", "cost, $", "bound, $", "bound / cost", "attainment", "accuracy", "solved in, s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.day),
            f"{row.cost_usd:.4f}",
            f"{row.bound_usd:.4f}",
            "-" if row.ratio is None else f"{row.ratio:.3f}",
            f"{row.attainment:.4%}",
            "-" if row.accuracy is None else f"{row.accuracy:.4f}",
            f"{row.solve_s:.1f}",
        )
    Console().print(table)
