"""The verb `provisor env`: what the environments are."""

from __future__ import annotations

import click


@click.command()
@click.option("--scenario", metavar="S", help="Add the numbers of this scenario, by name or path.")
def env(scenario: str | None) -> None:
    """Print the data sheet of the Gymnasium environments and their registered ids, as Markdown.

    \b
    Example:
      provisor env
      provisor env --scenario spot-storm
    """
    from envs.datasheet import datasheet

    click.echo(datasheet(scenario))
