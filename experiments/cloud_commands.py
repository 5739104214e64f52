"""The verbs of the cloud: what would be bought, what runs have, and giving it back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
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
        if terms.functions is not None:
            from serving.aws.functions import wanted_functions

            for one in wanted_functions("RUN", catalog):
                click.echo(f"{one.pool:<20} function   {one.name}, {one.memory_mb} MB, charged by the call")
            click.echo(f"calls of functions for at most {terms.functions.spend_usd_per_hour:.4f} $/h")
    if calls:
        from serving.aws.clients import aws_client

        for call in calls_of(terms, purchases(terms, catalog), counts, aws_client("ec2", terms)):
            click.echo(call)
    return EXIT_DONE


@cloud.command("list")
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Of the account.")
def list_runs(aws_file: str) -> int:
    """List the runs that have machines or functions, by the tag `provisor:run`.

    \b
    Example:
      provisor cloud list --aws aws.yaml
    """
    from serving.aws.clients import aws_client
    from serving.aws.functions import runs_with_functions
    from serving.aws.giving_back import runs_of
    from serving.aws.terms import load_terms

    terms = load_terms(aws_file)
    found = _answered(lambda: runs_of(aws_client("ec2", terms)))
    for run, count in sorted(found.items()):
        click.echo(f"{run}: {count} machines")
    if not found:
        click.echo(f"no run has machines in {terms.region}")
    if terms.functions is not None:
        functions = _answered(lambda: runs_with_functions(aws_client("lambda", terms)))
        for run, count in sorted(functions.items()):
            click.echo(f"{run}: {count} functions")
        if not functions:
            click.echo(f"no run has functions in {terms.region}")
    return EXIT_DONE


@cloud.command()
@click.option("--scenario", required=True, metavar="S", help="Scenario, by name or path.")
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Of the account; with `functions`.")
@click.option("--model", "models", multiple=True, metavar="VARIANT=MODULE:CALLABLE", help="As for `provisor serve`.")
@click.option("--input", "source", metavar="FILE", help="What is sent, as for `provisor profile`; none: digits.")
@click.option("--cold", type=click.IntRange(1, 64), default=5, show_default=True, help="Cold calls of each function.")
@click.option("--warm", type=click.IntRange(3, 10_000), default=50, show_default=True, help="Warm calls of each.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Write the catalog as measured.")
@click.option("--force", is_flag=True, help="Replace --out where it exists.")
def measure(
    scenario: str,
    aws_file: str,
    models: tuple[str, ...],
    source: str | None,
    cold: int,
    warm: int,
    out: Path | None,
    force: bool,
) -> int:
    """Measure a scenario's functions on Lambda, cold and warm, and write the catalog that says so.

    Makes them, calls them and deletes them; the calls are charged for. A new function has no environment, so calls at
    once are cold.

    \b
    Example:
      provisor cloud measure --scenario demo --aws aws.yaml --out measured.yaml
    """
    import uuid

    from controller.errors import UsageError, mismatch
    from controller.scenario import load_scenario
    from experiments.calibrated import require_new, write_whole
    from experiments.cloud.function_measure import measure_function, measured_yaml, rows_of
    from experiments.live_functions import made_functions
    from experiments.profiling import read_inputs
    from experiments.show_live import parse_models
    from serving.aws.function_calls import FunctionCaller
    from serving.aws.terms import load_terms
    from serving.bring_your_own import model_specs

    terms = load_terms(aws_file)
    if terms.functions is None:
        raise UsageError(mismatch("--aws", "a file with `functions`", aws_file))
    if out is not None:
        require_new(out, "--out", force)
    catalog, inputs = load_scenario(scenario).load_catalog(), read_inputs(source).values
    specs, _ = model_specs([variant.name for variant in catalog.variants], parse_models(models))
    found = []
    with made_functions(terms, uuid.uuid4().hex[:12], catalog, specs, click.echo) as wanted:
        caller = FunctionCaller(terms, cold)
        for one in wanted:
            click.echo(f"calling {one.name}")
            found.append(measure_function(one, partial(caller.call, one.name), inputs, cold, warm))
    for row in rows_of(found):
        click.echo(
            f"{row['variant']:<20} {row['memory_mb']:>6} MB  cold {row['cold_mean_s']:.3f} s (most "
            f"{row['cold_most_s']:.3f}, {row['cold_calls']} calls)  warm {row['warm_mean_s'] * 1e3:.1f} ms (p99 "
            f"{row['warm_p99_s'] * 1e3:.1f}, {row['warm_calls']} calls)  charged {row['cold_billed_mean_s']:.3f} s and "
            f"{row['warm_billed_mean_s'] * 1e3:.1f} ms"
        )
    if out is not None:
        where = f"functions in {terms.region}" if terms.endpoint_url is None else "the emulator of Lambda, this machine"
        write_whole(out, measured_yaml(catalog, found, where))
        click.echo(f"wrote {out}")
    return EXIT_DONE


@cloud.command()
@click.option("--aws", "aws_file", required=True, metavar="FILE.yaml", help="Of the account.")
@click.option("--run", required=True, metavar="RUN", help="As `provisor cloud list` names it.")
@click.option("--timeout", default=300.0, show_default=True, metavar="S", help="Until it must be proved.")
@click.option("--dry-run", is_flag=True, help="Only say what would be given back.")
def down(aws_file: str, run: str, timeout: float, dry_run: bool) -> int:
    """Give back all machines, launch templates and functions of a run, and show that none is left.

    Functions are looked for where the terms have `functions`. Touches nothing that does not carry the run's tag. Ends
    with 1 where something is still there.

    \b
    Example:
      provisor cloud down --aws aws.yaml --run 3f2a9c01b7de
    """
    from controller.errors import ClusterError
    from serving.aws.clients import aws_client
    from serving.aws.functions import Functions
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
        if terms.functions is not None:
            for name in _answered(Functions(aws_client("lambda", terms), run, terms).all):
                click.echo(f"would delete function {name}")
        return EXIT_DONE
    given = give_back(machines, timeout)
    for one in given.machines:
        click.echo(f"gave back {one.instance_id} ({one.instance_type} in {one.zone}, pool {one.pool})")
    for name in given.templates:
        click.echo(f"deleted launch template {name}")
    if terms.functions is not None:
        functions = Functions(aws_client("lambda", terms), run, terms)
        for name in _answered(functions.forget):
            click.echo(f"deleted function {name}")
        if left := _answered(functions.all):
            raise ClusterError(f"Lambda: expected nothing of the run to be there, got {', '.join(left)}")
    click.echo(f"nothing of run {run} is left in {terms.region}")
    return EXIT_DONE


def _answered(call: Callable[[], AnswerT]) -> AnswerT:
    from botocore.exceptions import BotoCoreError, ClientError

    from controller.errors import ClusterError
    from serving.aws.faults import AwsError

    try:
        return call()
    except (AwsError, BotoCoreError, ClientError) as error:
        raise ClusterError(f"AWS: expected an answer, got {type(error).__name__}: {error}") from error
