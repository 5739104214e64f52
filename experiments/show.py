"""What the verbs of this package print."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controller.journal import TruncatedJournalWarning
from controller.replay import replay_journal
from experiments.outcome import Evaluation
from experiments.results import ResultRow
from experiments.simulate import Simulation
from experiments.summary import redundancy_lines, solver_lines, summarise, summary_table

if TYPE_CHECKING:
    from experiments.leaderboard import LeaderboardRow

_WIDE = 200
"""Width of tables where output is no terminal, so that no number is cut."""


def wide_console() -> Console:
    """The terminal, or a console wide enough that no table is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def show_rows(rows: Sequence[ResultRow]) -> None:
    """Prints one table per scenario."""
    console = wide_console()
    lines = summarise(rows)
    for scenario in dict.fromkeys(line.scenario for line in lines):
        of_scenario = [line for line in lines if line.scenario == scenario]
        first = of_scenario[0]
        title = f"{scenario}: {first.days} day(s) x {first.seeds} seed(s), mean ± standard deviation between days"
        console.print(summary_table(of_scenario, title))
    for line in (*solver_lines(rows), *redundancy_lines(rows)):
        click.echo(line)


def show_evaluation(result: Evaluation, written: Sequence[Path], as_json: bool) -> None:
    """Prints table or JSON, and where the files are."""
    if as_json:
        click.echo(json.dumps([row.model_dump(mode="json") for row in result.rows], indent=1))
    elif result.rows:
        show_rows(result.rows)
    if result.is_partial:
        click.echo(f"interrupted: {len(result.rows)} rows were finished", err=True)
    for path in written:
        click.echo(f"wrote {path}", err=as_json)


def show_leaderboard(rows: Sequence[LeaderboardRow]) -> None:
    """Prints costs at equal attainment and accuracy: one table per scenario and target, the means where there are."""
    from experiments.benchmark_config import MEAN
    from experiments.leaderboard_files import difference_text

    console = wide_console()
    groups = dict.fromkeys((row.scenario, row.target) for row in rows)
    for scenario, target in groups:
        own = [row for row in rows if (row.scenario, row.target) == (scenario, target)]
        traces = sorted(dict.fromkeys(row.trace for row in own), key=lambda name: name != MEAN)
        table = Table(
            title=escape(f"{scenario}: cost relative to {own[0].reference} at the level of {target} [95 % interval]"),
            title_justify="left",
            header_style="bold",
        )
        table.add_column("policy")
        for trace in traces:
            table.add_column(trace, justify="right")
        for policy in dict.fromkeys(row.policy for row in own):
            by_trace = {row.trace: row for row in own if row.policy == policy}
            table.add_row(escape(policy), *(escape(difference_text(by_trace[trace])) for trace in traces))
        console.print(table)


def show_simulation(done: Simulation) -> None:
    """Prints the table and the journals."""
    if done.rows:
        show_rows(done.rows)
    for path in done.journals:
        click.echo(f"journal {path}")


@contextmanager
def echo_truncations() -> Iterator[None]:
    """Prints the warnings of journals whose last line was cut, one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncatedJournalWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, TruncatedJournalWarning):
            click.echo(f"warning: {warning.message}", err=True)


def show_replay(path: str, policy: str | None) -> bool:
    """Replays and prints the outcome; returns whether all decisions were equal."""
    with echo_truncations():
        replay = replay_journal(path, policy)
    if set(replay.by_driver) - {"policy"}:
        click.echo("decisions by driver: " + ", ".join(f"{name} {n}" for name, n in sorted(replay.by_driver.items())))
    if replay.beside:
        click.echo(f"{replay.beside} second decisions were journalled beside, and are compared too")
    if replay.not_compared:
        click.echo(
            f"{replay.not_compared} decisions were a rule's that the journal does not name, and are not compared"
        )
    if replay.is_equal:
        click.echo(f"{replay.ticks} decisions replayed, all equal")
        return True
    click.echo(f"{replay.ticks} decisions replayed, {replay.ticks_different} different; the first differences:")
    for difference in replay.differences:
        click.echo(f"  {difference}")
    return False
