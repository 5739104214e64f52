"""The verbs of the cloud: what would be bought, what runs have, and giving it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from controller.errors import EXIT_DONE

AnswerT = TypeVar("AnswerT")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cloud() -> None:
    """Show what a run on EC2 would buy, what runs have there, and give it back.

    Credentials come from boto3's own chain (environment, shared files, role); nothing of them is written anywhere.

    \b
    Example:
      provisor cloud plan --scenario mine.yaml --aws aws.yaml
      provisor cloud list --aws aws.yaml
      provisor cloud down --aws aws.yaml --run 3f2a9c01b7de
    """


@cloud.command()
@click.option("--scenario", required=True, metavar="S", help="Scenario, by name or path.")
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Where and how machines are bought.")
@click.option("--calls", is_flag=True, help="Print each call that would be made, too; needs credentials to look.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(scenario: str, aws_file: str, calls: bool, as_json: bool) -> int:
    """Print what a scenario's first fleet would be on EC2, and what it costs an hour. Buys nothing.

    \b
    Example:
      provisor cloud plan --scenario mine.yaml --aws aws.yaml --calls
    """
    import json

    from controller.scenario import load_scenario
    from envs.world import WorldChoice, build_world
    from experiments.cloud.purchase_plan import calls_of, first_machines, first_purchase
    from serving.aws.terms import load_terms, purchases

    terms, chosen = load_terms(aws_file), load_scenario(scenario)
    catalog = chosen.load_catalog()
    purchases(terms, catalog)
    counts = first_machines(build_world(chosen, WorldChoice()), seed=0)
    lines = first_purchase(terms, catalog, counts)
    total = sum(line.total_usd_per_hour for line in lines)
    if as_json:
        rows = [{**vars(line), "total_usd_per_hour": line.total_usd_per_hour} for line in lines]
        click.echo(json.dumps({"pools": rows, "total_usd_per_hour": total}))
    else:
        for line in lines:
            price = f"{line.count} x {line.usd_per_hour:.4f} = {line.total_usd_per_hour:.4f} $/h"
            click.echo(f"{line.pool:<20} {line.market:<10} {price:<28} {line.order}")
        click.echo(f"in all {total:.4f} $/h by the catalog's prices, in {terms.region}")
    if calls:
        from serving.aws.clients import aws_client

        for call in calls_of(terms, purchases(terms, catalog), counts, aws_client("ec2", terms)):
            click.echo(call)
    return EXIT_DONE


@cloud.command("list")
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Of the account.")
def list_runs(aws_file: str) -> int:
    """List the runs that have machines, by the tag `provisor:run`.

    \b
    Example:
      provisor cloud list --aws aws.yaml
    """
    from serving.aws.clients import aws_client
    from serving.aws.giving_back import runs_of
    from serving.aws.terms import load_terms

    terms = load_terms(aws_file)
    found = _answered(lambda: runs_of(aws_client("ec2", terms)))
    for run, count in sorted(found.items()):
        click.echo(f"{run}: {count} machines")
    if not found:
        click.echo(f"no run has machines in {terms.region}")
    return EXIT_DONE


@cloud.command()
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Of the account.")
@click.option("--run", required=True, metavar="RUN", help="As `provisor cloud list` names it.")
@click.option("--timeout", default=300.0, show_default=True, metavar="S", help="Until it must be proved.")
@click.option("--dry-run", is_flag=True, help="Only say what would be given back.")
def down(aws_file: str, run: str, timeout: float, dry_run: bool) -> int:
    """Give back all machines and launch templates of a run, and show that none is left.

    Touches nothing that does not carry the run's tag. Ends with 1 where something is still there.

    \b
    Example:
      provisor cloud down --aws aws.yaml --run 3f2a9c01b7de
    """
    from serving.aws.clients import aws_client
    from serving.aws.giving_back import give_back
    from serving.aws.machines import Machines
    from serving.aws.terms import load_terms

    terms = load_terms(aws_file)
    machines = Machines(aws_client("ec2", terms), run, terms, {})
    if dry_run:
        here = [one for one in _answered(machines.all) if one.is_here]
        for one in here:
            click.echo(f"would give back {one.instance_id} ({one.instance_type} in {one.zone}, pool {one.pool})")
        click.echo(f"{len(here)} machines of run {run} are there")
        return EXIT_DONE
    given = give_back(machines, timeout)
    for one in given.machines:
        click.echo(f"gave back {one.instance_id} ({one.instance_type} in {one.zone}, pool {one.pool})")
    for name in given.templates:
        click.echo(f"deleted launch template {name}")
    click.echo(f"nothing of run {run} is left in {terms.region}")
    return EXIT_DONE


def _answered(call: Callable[[], AnswerT]) -> AnswerT:
    from botocore.exceptions import BotoCoreError, ClientError

    from controller.errors import ClusterError
    from serving.aws.faults import AwsError

    try:
        return call()
    except (AwsError, BotoCoreError, ClientError) as error:
        raise ClusterError(f"EC2: expected an answer, got {type(error).__name__}: {error}") from error
