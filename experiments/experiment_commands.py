"""`provisor experiment`: what this project claims, measured anew."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, EXIT_FAILED


@click.group()
def experiment() -> None:
    """Measure what the project claims, each value beside its bar.

    \b
    Example:
      provisor experiment simulator --check
    """  # noqa: D301 - click reads the escape: it keeps the lines of an example as they are


@experiment.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option("--out", default="runs/experiment/simulator", show_default=True, metavar="DIR", help="Folder of results.")
def simulator(check: bool, out: str) -> int:
    """Hold the simulator to theory, a peer, its laws and its speed.

    Runs the suites of a checkout and the speed measurements; some ten minutes on two cores.

    \b
    Example:
      provisor experiment simulator --check
    """  # noqa: D301 - click reads the escape: it keeps the lines of an example as they are
    from experiments.checks import show_checks, write_checks
    from experiments.simulator_checks import checks

    found = list(checks(lambda line: click.echo(line, err=True)))
    write_checks(found, Path(out) / "checks.json")
    holds = show_checks("the simulator", found)
    return EXIT_DONE if holds or not check else EXIT_FAILED
