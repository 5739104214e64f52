"""`provisor plan`, and what `provisor experiment` measures of placement over sites."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, EXIT_FAILED

_TWO_VIEWS = "two-views"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def plan() -> None:
    """Place a workflow on tiered workers, or models and data versions over regions: the plan, its cost, and why.

    \b
    Example:
      provisor plan jellybean workflow.yaml
      provisor plan a2 regions.yaml --json
    """


@plan.command("jellybean")
@click.argument("config", type=click.Path())
@click.option(
    "--planner",
    type=click.Choice(["exact", "fast", "published"]),
    help="[default: exact where it can enumerate workers, otherwise fast]",
)
@click.option("--target", type=float, metavar="A", help="Accuracy to reach, in place of the config's.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--scenario-out", metavar="DIR", help="Also write scenario and policy files, to plan it anew in a loop.")
@click.option("--deploy", is_flag=True, help="Serve the plan as a graph on a local Ray, a labelled node a worker.")
@click.option("--models", type=click.Path(), help="YAML for --deploy: operator.variant to module:callable.")
@click.option(
    "--requests", type=click.IntRange(min=1), metavar="N", help="For --deploy of two-views: send N, then end."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="For --deploy.")
def plan_jellybean(
    config: str,
    planner: str | None,
    target: float | None,
    as_json: bool,
    scenario_out: str | None,
    deploy: bool,
    models: str | None,
    requests: int | None,
    port: int,
) -> int:
    """Place a workflow's operators on tiered workers and choose their variants.

    CONFIG is a YAML file, a folder of the input files that JellyBean's authors published, or `two-views`: a small
    workflow with real models, two views of a digit and their fusion, which are trained and measured first.

    With --deploy the plan is served until it is interrupted: POST {"input": {source: message}} to the port.

    \b
    Example:
      provisor plan jellybean $PROVISOR_DATA/jellybean_vqa
      provisor plan jellybean workflow.yaml --target 56 --json
      provisor plan jellybean two-views --deploy --requests 100
      provisor plan jellybean workflow.yaml --scenario-out runs/flow
      provisor simulate runs/flow/scenario.yaml --policy runs/flow/policy.yaml --days 3:3
    """
    import json

    from controller.planners.workflow.compiled import compile_problem
    from controller.planners.workflow.files import load_workflow_problem
    from controller.planners.workflow.why import default_planner, plan_with
    from experiments.placement.plans import workflow_text, workflow_values

    if config == _TWO_VIEWS:
        from experiments.placement.two_views import two_views_problem

        problem = two_views_problem()
    else:
        problem = load_workflow_problem(config)
    if target is not None:
        problem = problem.model_copy(update={"accuracy_target": target})
    instance = compile_problem(problem)
    chosen = planner or default_planner(instance)
    values = workflow_values(instance, chosen)
    click.echo(json.dumps(values, indent=1) if as_json else workflow_text(values))
    if scenario_out is not None:
        from experiments.placement.loop_files import write_loop_files
        from experiments.placement.replanning import LAUNCH_S
        from experiments.placement.workflow_world import setting_of

        setting = setting_of(instance, launch_s=LAUNCH_S)
        _say_written(write_loop_files(setting, problem, "jellybean", Path(scenario_out)))
    if deploy:
        from experiments.placement.graph_run import serve_placement

        placement = plan_with(instance, chosen).placement
        assert placement is not None, "workflow_values raises without one"
        given = None if config == _TWO_VIEWS else (models or "")
        serve_placement(instance, placement, given, requests, port, click.echo)
    return EXIT_DONE


@plan.command("a2")
@click.argument("config", type=click.Path())
@click.option(
    "--planner", type=click.Choice(["fast", "exact", "greedy"]), default="fast", show_default=True, help="What plans."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--scenario-out", metavar="DIR", help="Also write scenario and policy files, to plan it anew in a loop.")
def plan_a2(config: str, planner: str, as_json: bool, scenario_out: str | None) -> int:
    """Choose where which model version runs, and which data version each region sends there.

    \b
    Example:
      provisor plan a2 regions.yaml
      provisor plan a2 regions.yaml --planner exact --json
    """
    import json

    from controller.planners.geo.compiled import compile_geo
    from controller.planners.geo.problem import load_geo_problem
    from experiments.placement.plans import geo_text, geo_values

    problem = load_geo_problem(config)
    instance = compile_geo(problem)
    values = geo_values(instance, planner)
    click.echo(json.dumps(values, indent=1) if as_json else geo_text(values))
    if scenario_out is not None:
        from experiments.placement.geo_setting import setting_of
        from experiments.placement.loop_files import write_loop_files
        from experiments.placement.replanning import LAUNCH_S

        setting = setting_of(instance, launch_s=LAUNCH_S)
        _say_written(write_loop_files(setting, problem, "a2", Path(scenario_out)))
    return EXIT_DONE


def _say_written(paths: list[Path]) -> None:
    click.echo(f"written: {', '.join(map(str, paths))}", err=True)


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--instances", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="Random ones."
)
@click.option("--out", default="runs/experiment/jellybean", show_default=True, metavar="DIR", help="Folder of results.")
def jellybean(check: bool, instances: int, out: str) -> int:
    """Hold the workflow planners to the published example, to baselines and to brute force.

    Needs $PROVISOR_DATA; some two minutes on two cores, most of it brute force. Writes tables (JSON), a plot (PNG) and
    one page (HTML). What the paper reports of vehicle tracking and of Spark cannot be measured: neither the profiles of
    the first nor the set-up of the second are public.

    \b
    Example:
      provisor experiment jellybean --check
    """
    from experiments.placement.jellybean_run import run_jellybean

    holds = run_jellybean(Path(out), instances, lambda line: click.echo(line, err=True))
    return EXIT_DONE if holds or not check else EXIT_FAILED


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option("--measure", "is_measured", is_flag=True, help="Train the models and measure the table of variants anew.")
@click.option(
    "--instances", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="Random ones."
)
@click.option("--out", default="runs/experiment/a2", show_default=True, metavar="DIR", help="Folder of results.")
def a2(check: bool, is_measured: bool, instances: int, out: str) -> int:
    """Hold joint model and data adaptation to one-sided adaptation over egress prices, and rounding to its optimum.

    The variants are measured ones, of the table that ships; with --measure they are measured anew, some five minutes.
    Plans over egress prices are replayed in the simulated world, and a day of a real trace is planned anew as its rates
    move. Needs $PROVISOR_DATA for prices of instances and the trace; three minutes of a core. Writes tables (JSON), the
    crossover figure (PNG), the study's problem as a config (YAML) and one page (HTML).

    \b
    Example:
      provisor experiment a2 --check
      provisor experiment a2 --measure --out runs/variants
    """
    from experiments.placement.geo_run import run_geo

    holds = run_geo(Path(out), instances, is_measured, lambda line: click.echo(line, err=True))
    return EXIT_DONE if holds or not check else EXIT_FAILED
