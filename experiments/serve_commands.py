"""The verb that serves live; it imports Ray when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.errors import EXIT_DONE

if TYPE_CHECKING:
    from controller.trust.mode import Mode
    from serving.aws.terms import AwsTerms

OWN_TRACE = "scenario"
"""Word that stands for the scenario's own trace after `--replay`."""


@click.command()
@click.argument("run_file", metavar="[RUN.yaml]", required=False)
@click.option("--scenario", metavar="S", help="Scenario, by name or path.  [default: demo]")
@click.option("--policy", metavar="P", help="Rule or policy file.  [default: generalist]")
@click.option(
    "--rule", metavar="R", help="Drives when the policy fails.  [default: that of the policy file; mpc without one]"
)
@click.option("--replay", metavar="TRACE", help=f"Send the requests of a trace; '{OWN_TRACE}' is the scenario's own.")
@click.option("--duration", type=float, metavar="S", help="Live seconds.  [default: until Ctrl-C]")
@click.option(
    "--speed", type=float, default=1.0, show_default=True, metavar="X", help="Control time runs X times faster."
)
@click.option("--day", type=int, metavar="D", help="Day of the trace.  [default: the first test day]")
@click.option(
    "--start-hour", type=float, default=0.0, show_default=True, metavar="H", help="Hour of the day to begin at."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option("--address", metavar="HOST:PORT", help="Join a running Ray instead of starting one.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the HTTP front.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Of the controller.")
@click.option(
    "--model", "models", multiple=True, metavar="VARIANT=module:callable", help="Your own model of a variant."
)
@click.option(
    "--nodes",
    type=click.Choice(["emulated", "local", "aws"]),
    default="emulated",
    show_default=True,
    help="What an instance is: an entry in the ledger, a Ray node of this machine, or a machine of EC2.",
)
@click.option(
    "--serverless",
    type=click.Choice(["emulated", "aws"]),
    default="emulated",
    show_default=True,
    help="What runs calls of serverless pools: a replica that waits as long, or functions of Lambda.",
)
@click.option("--aws", "aws_file", metavar="FILE.yaml", help="The account's side of --nodes aws and --serverless aws.")
@click.option(
    "--mode",
    metavar="MODE",
    help="replay, shadow, canary or active.  [default: as the last run in --out with this policy; else active, or "
    "shadow for a policy that never saw such a catalog]",
)
@click.option("--dry-run", is_flag=True, help="The same as --mode replay: decide and journal, apply nothing.")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Of the admin API; 0: a free one, noted in admin.json.",
)
@click.option("--admin-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address it listens on.")
@click.option("--no-admin", is_flag=True, help="Offer no admin API.")
@click.option("--rehearsals", is_flag=True, help="Let the admin API break things, for experiments.")
@click.option(
    "--token-file",
    metavar="FILE",
    help="Of the admin API's bearer token.  [default: $PROVISOR_ADMIN_TOKEN, else a new one in --out]",
)
@click.option("--attach", metavar="MAPPING.yaml", help="Serve an application that runs at --address already.")
@click.option(
    "--on-exit",
    type=click.Choice(["restore", "keep"]),
    default="restore",
    show_default=True,
    help="Replica targets of the application, when we leave it.",
)
@click.option(
    "--input",
    "inputs",
    metavar="X",
    help="What --replay sends to the application: FILE.json, FILE.npz, or module:callable that returns a list.",
)
@click.option("--no-predictions", is_flag=True, help="Receipts without what the simulator expects of each decision.")
@click.option("--out", metavar="DIR", help="Directory for journal and results.  [default: runs/serve]")
def serve(
    run_file: str | None,
    scenario: str | None,
    policy: str | None,
    rule: str | None,
    replay: str | None,
    duration: float | None,
    speed: float,
    day: int | None,
    start_hour: float,
    seed: int,
    address: str | None,
    port: int,
    metrics_port: int,
    models: tuple[str, ...],
    nodes: str,
    serverless: str,
    aws_file: str | None,
    mode: str | None,
    dry_run: bool,
    admin_port: int,
    admin_host: str,
    no_admin: bool,
    rehearsals: bool,
    token_file: str | None,
    attach: str | None,
    on_exit: str,
    inputs: str | None,
    no_predictions: bool,
    out: str | None,
) -> int:
    """Serve live on Ray, driven by a policy.

    A request names constraints, never a model: POST /v1/infer with an input and a request_class, or max_latency_ms and
    min_accuracy. With --replay the requests of a trace are sent at their times, and the table shows the live minutes
    beside what the simulator says of them. On a Ray that is joined, the packages controller, serving, envs and
    traces are shipped as py_modules; its nodes must offer the resources slot_POOL.

    `provisor status`, `mode` and `policy` talk to the run's admin API. The run file's `trust:` sets the alarms by
    which the rule takes over, and the quiet after which the policy drives again; its `audit:` sets how the guarantees
    of tolerance tiers are watched.

    With --nodes aws every instance is a machine of EC2: --aws FILE says where and how they are bought, and `provisor
    cloud plan` shows it first. They join the Ray at --address by themselves and are given back at the end; `provisor
    cloud down` gives back what a run that was killed has left. With --serverless aws what overflows is answered by
    functions of Lambda with the same models, which the run makes and deletes.

    With --attach the models are those of an application that runs there already. Our router is an application of its
    own in front of it, and of theirs only the replica targets of the mapped deployments are set (it must have
    external_scaler_enabled); in mode replay nothing is. The mapping names the scenario; `provisor init` writes a first
    one.

    \b
    Example:
      provisor serve --policy mpc --replay scenario --duration 120 --speed 20 --start-hour 9
      provisor serve RUN.yaml --port 8080
      provisor serve --scenario mine.yaml --nodes aws --aws aws.yaml --address 10.0.0.5:6379
      provisor serve --attach theirs/mapping.yaml --address 10.0.0.5:6379 --dry-run
      curl localhost:8080/v1/infer --json '{"input": [0, ...], "max_latency_ms": 2000}'
    """
    from controller.errors import UsageError, mismatch
    from controller.policies.registry import GENERALIST
    from controller.tiers.audit_config import AuditConfig
    from controller.trust.config import TrustConfig
    from controller.trust.mode import Mode
    from envs.world import WorldChoice
    from experiments.live import WORLD_MODEL, LiveOptions
    from experiments.run_config import load_run
    from experiments.show_live import parse_models, show_live

    chosen_mode = _mode(mode, dry_run)
    terms = _terms({"--nodes": nodes, "--serverless": serverless}, aws_file, speed, attach)
    if terms is not None and nodes == "aws":
        _check_node_terms(terms, address)
        if chosen_mode is Mode.REPLAY:
            raise UsageError(
                mismatch("--mode", "one that applies something, with --nodes aws: a fleet is bought", mode)
            )
    if terms is not None and serverless == "aws" and terms.functions is None:
        raise UsageError(mismatch("--aws", "a file with `functions`, for --serverless aws", aws_file))
    if nodes == "local" and address is not None:
        raise UsageError("--nodes local: expected a Ray that is started here, got --address; its nodes are its own")
    if attach is None:
        from experiments.serve import serve as run_live
    else:
        from experiments.attached_run import serve_attached as run_live
        from experiments.live import require_unnamed

        require_unnamed(scenario, run_file)

    run = load_run(run_file) if run_file else None
    choice = WorldChoice() if run is None else run.choice
    if replay is not None and replay != OWN_TRACE:
        choice = choice.model_copy(update={"trace": replay})
    if day is not None:
        choice = choice.model_copy(update={"days": (day, day)})
    chosen = policy or (run.policies[0] if run is not None and run.policies else GENERALIST)
    options = LiveOptions(
        scenario=scenario or (run.scenario if run is not None else "demo"),
        policy=chosen,
        rule=rule,
        choice=choice,
        is_replaying=replay is not None,
        duration_s=duration,
        speed=speed,
        start_hour=start_hour,
        seed=seed,
        address=address,
        port=port,
        metrics_port=metrics_port,
        has_local_nodes=nodes == "local",
        node_terms=terms if nodes == "aws" else None,
        function_terms=terms if serverless == "aws" else None,
        mode=chosen_mode,
        trust=TrustConfig() if run is None else run.trust,
        audit=AuditConfig() if run is None else run.audit,
        has_admin=not no_admin,
        has_rehearsals=rehearsals,
        admin_host=admin_host,
        admin_port=admin_port,
        token_file=Path(token_file) if token_file else None,
        out=Path(out or "runs/serve"),
        models=parse_models(models),
        attach=None if attach is None else Path(attach),
        on_exit=on_exit,
        inputs=inputs,
        world_model=None if no_predictions else WORLD_MODEL,
    )
    result = run_live(options, lambda line: click.echo(line, err=True))
    show_live(result)
    if result.is_partial:
        raise KeyboardInterrupt
    return EXIT_DONE


def _terms(chosen: dict[str, str], aws_file: str | None, speed: float, attach: str | None) -> AwsTerms | None:
    from controller.errors import UsageError, mismatch
    from serving.aws.terms import load_terms

    asked = [f"{option} aws" for option, value in chosen.items() if value == "aws"]
    if not asked:
        if aws_file is not None:
            raise UsageError(mismatch("--aws", f"nothing without {' aws or '.join(chosen)} aws", aws_file))
        return None
    if aws_file is None:
        raise UsageError(mismatch("--aws", f"a file, with {asked[0]}", None))
    if attach is not None:
        raise UsageError(mismatch(asked[0], "no --attach: an application's capacity is its cluster's", attach))
    if speed != 1.0:
        raise UsageError(mismatch("--speed", f"1 with {asked[0]}: what is real takes the time it takes", speed))
    return load_terms(aws_file)


def _check_node_terms(terms: AwsTerms, address: str | None) -> None:
    from controller.errors import UsageError, mismatch

    if address is None and terms.endpoint_url is None:
        raise UsageError(
            mismatch("--address", "host:port of the Ray that machines join, but for a rehearsal (endpoint_url)", None)
        )


def _mode(text: str | None, is_dry_run: bool) -> Mode | None:
    from controller.errors import UsageError, mismatch
    from controller.trust.mode import Mode, read_mode

    if not is_dry_run:
        return None if text is None else read_mode(text, "--mode")
    if text not in (None, Mode.REPLAY):
        raise UsageError(mismatch("--mode", "replay, with --dry-run", text))
    return Mode.REPLAY
