"""The verb that serves live; it imports Ray when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE

OWN_TRACE = "scenario"
"""Word that stands for the scenario's own trace after `--replay`."""


@click.command()
@click.argument("run_file", metavar="[RUN.yaml]", required=False)
@click.option("--scenario", metavar="S", help="Scenario, by name or path.  [default: demo]")
@click.option("--policy", metavar="P", help="Rule or policy file.  [default: mpc]")
@click.option("--rule", default="mpc", show_default=True, metavar="R", help="Drives when the policy fails.")
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
@click.option("--dry-run", is_flag=True, help="Decide and journal, apply nothing after the first fleet.")
@click.option("--no-predictions", is_flag=True, help="Receipts without what the simulator expects of each decision.")
@click.option("--out", metavar="DIR", help="Directory for journal and results.  [default: runs/serve]")
def serve(
    run_file: str | None,
    scenario: str | None,
    policy: str | None,
    rule: str,
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
    dry_run: bool,
    no_predictions: bool,
    out: str | None,
) -> int:
    """Serve live on Ray, driven by a policy.

    A request names constraints, never a model: POST /v1/infer with an input and a request_class, or max_latency_ms and
    min_accuracy. With --replay the requests of a trace are sent at their times, and the table shows the live minutes
    beside what the simulator says of them. On a Ray that is joined, the packages controller, serving, envs and
    traces are shipped as py_modules; its nodes must offer the resources slot_POOL.

    \b
    Example:
      provisor serve --policy mpc --replay scenario --duration 120 --speed 20 --start-hour 9
      provisor serve RUN.yaml --port 8080
      curl localhost:8080/v1/infer --json '{"input": [0, ...], "max_latency_ms": 2000}'
    """
    from envs.world import WorldChoice
    from experiments.live import WORLD_MODEL, LiveOptions
    from experiments.run_config import load_run
    from experiments.serve import serve as run_live
    from experiments.show_live import parse_models, show_live

    run = load_run(run_file) if run_file else None
    choice = WorldChoice() if run is None else run.choice
    if replay is not None and replay != OWN_TRACE:
        choice = choice.model_copy(update={"trace": replay})
    if day is not None:
        choice = choice.model_copy(update={"days": (day, day)})
    chosen = policy or (run.policies[0] if run is not None and run.policies else "mpc")
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
        is_dry_run=dry_run,
        out=Path(out or "runs/serve"),
        models=parse_models(models),
        world_model=None if no_predictions else WORLD_MODEL,
    )
    result = run_live(options, lambda line: click.echo(line, err=True))
    show_live(result)
    if result.is_partial:
        raise KeyboardInterrupt
    return EXIT_DONE
