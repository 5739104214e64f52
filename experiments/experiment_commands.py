"""`provisor experiment`: what this project claims, measured anew."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from experiments.collage_commands import study as collage_study
from experiments.evidence_commands import evidence, scale
from experiments.placement_commands import a2, jellybean
from experiments.tiers_commands import judge

_FILE = click.Path(path_type=Path)


@click.group()
def experiment() -> None:
    """Measure what the project claims, each value beside its bar.

    \b
    Example:
      provisor experiment simulator --check
    """


@experiment.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option("--full", is_flag=True, help="Compare with live runs anew, and keep the result.")
@click.option("--repeats", type=click.IntRange(min=2), default=3, show_default=True, metavar="N", help="Of --full.")
@click.option(
    "--duration", type=click.FloatRange(min=20.0), default=90.0, show_default=True, metavar="S", help="Of each."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the live runs.")
@click.option("--out", default="runs/experiment/simulator", show_default=True, metavar="DIR", help="Folder of results.")
def simulator(check: bool, full: bool, repeats: int, duration: float, port: int, out: str) -> int:
    """Hold the simulator to theory, a peer, its laws, its speed and live runs.

    Runs the suites of a checkout and the speed measurements; some ten minutes on two cores. The comparison with live
    runs takes some forty minutes more and a machine with nothing else to do: it is made with --full, one run after the
    other, goes on where it was interrupted, and without --full its last result is printed apart.

    \b
    Example:
      provisor experiment simulator --check
      provisor experiment simulator --full --repeats 3 --duration 90
    """
    from experiments.checks import Check, show_checks, write_checks
    from experiments.record import read_record, write_record
    from experiments.sim_to_live import checks_of, predictions
    from experiments.simulator_checks import checks

    def say(line: str) -> None:
        click.echo(line, err=True)

    if full:
        live = Path(out) / "live"
        made = checks_of(list(predictions(live, repeats=repeats, duration_s=duration, port=port, say=say)))
        write_record(made, {"repeats": repeats, "duration_s": duration})
    found = list(checks(say))
    kept = read_record()
    if kept is None:
        found.append(Check("live against simulated", "never measured", "provisor experiment simulator --full", False))
    write_checks(found, Path(out) / "checks.json")
    holds = show_checks("the simulator", found)
    if kept is not None:
        holds = show_checks(*kept) and holds
    return EXIT_DONE if holds or not check else EXIT_FAILED


@experiment.command()
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Default: the scenarios of the suite.")
@click.option("--policy", default="mpc", show_default=True, metavar="SPEC", help="Rule to start from, with settings.")
@click.option(
    "--stretches", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="Of each trace's day."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Of the stretches.")
@click.option("--out", default="runs/experiment/levers", show_default=True, metavar="DIR", help="Folder of results.")
def levers(scenarios: tuple[str, ...], policy: str, stretches: int, seed: int, out: str) -> int:
    """Measure what a free choice of each knob is worth, before training.

    Replays stretches of two hours of the suite's training days under the rule with one knob held at five values: the
    best value for each stretch against the best constant one. Two minutes for a scenario on two cores.

    \b
    Example:
      provisor experiment levers --scenario suite-cpu --policy mpc
    """
    import json
    from dataclasses import asdict

    from experiments.levers import measure_levers, rule_of, show_levers
    from experiments.suite import SCENARIOS, TRACES, joint_world, tuning_day

    results = {}
    for scenario in scenarios or SCENARIOS:
        world = joint_world(scenario, {trace: [tuning_day(scenario, trace)] for trace in TRACES})
        found = measure_levers(world, rule_of(policy, world.setting), stretches_per_day=stretches, seed=seed)
        show_levers(scenario, found)
        results[scenario] = [asdict(one) for one in found]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "levers.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    click.echo(f"wrote {folder / 'levers.json'}")
    return EXIT_DONE


@experiment.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--quick", is_flag=True, help="A minute's worth: few moments, short fits; says nothing about who is best."
)
@click.option("--test", "is_test", is_flag=True, help="Judge on the test days, once all choices are made.")
@click.option("--write", "is_write", is_flag=True, help="Fit the network of the decision path anew and ship it.")
@click.option("--out", default="runs/experiment/forecast", show_default=True, metavar="DIR", help="Folder of results.")
def forecast(check: bool, quick: bool, is_test: bool, is_write: bool, out: str) -> int:
    """Compare forecasters on days they never saw: pinball loss and coverage by trace.

    Learns from the training days of every public trace but one that is held out and of generated ones, and judges on
    the validation days. Goes on where it was interrupted; half an hour on two cores, most of it for the networks that
    read the hour tick by tick. With --write only the network of the decision path is fitted, in two minutes.

    \b
    Example:
      provisor experiment forecast --check
      provisor experiment forecast --write
    """
    from controller.forecaster_file import FOLDER
    from envs.world import DATA_VARIABLE, expand_path
    from experiments.checks import show_checks, write_checks
    from experiments.forecast_report import shipped_checks, show_scores, study_checks, write_scores
    from experiments.forecast_study import QUICK, StudyConfig, data_sha256, run_study, shipped_score, write_shipped
    from experiments.forecast_traces import Part, load_series

    def say(line: str) -> None:
        click.echo(line, err=True)

    root, folder = Path(expand_path(f"${DATA_VARIABLE}", DATA_VARIABLE)), Path(out)
    config = QUICK if quick else StudyConfig()
    if is_write:
        target = folder / "default.json" if quick else FOLDER / "default.json"
        write_shipped(root, config, target, say)
        click.echo(f"wrote {target} and its weights")
        return EXIT_DONE
    part: Part = "test" if is_test else "validation"
    scores = run_study(root, config, part, folder / "candidates", say)
    shipped = shipped_score(root, StudyConfig(), part)
    show_scores([*scores, shipped])
    for path in write_scores([*scores, shipped], part, folder):
        click.echo(f"wrote {path}")
    if quick or is_test:
        return EXIT_DONE
    found = [*study_checks(scores), *shipped_checks(shipped, data_sha256(load_series(root)))]
    write_checks(found, folder / "checks.json")
    return EXIT_DONE if show_checks("the forecaster", found) or not check else EXIT_FAILED


@experiment.command()
@click.argument("scenario")
@click.option("--policy", default="mpc", show_default=True, metavar="P", help="Rule or policy file to hold beside it.")
@click.option("--trace", metavar="FILE[:ROW]", help="Requests in place of the scenario's.")
@click.option("--days", metavar="A:B", help="Days of the trace.  [default: the first test day]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option("--ticks", type=click.IntRange(min=1), metavar="N", help="Stop each day after N ticks.")
@click.option("--step", type=float, default=60.0, show_default=True, metavar="S", help="Step of the program, seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of the table.")
def bound(
    scenario: str,
    policy: str,
    trace: str | None,
    days: str | None,
    seed: int,
    ticks: int | None,
    step: float,
    as_json: bool,
) -> int:
    """Show how little each day could have cost by hindsight, beside what a policy spent.

    The bound is that of the run: its own arrivals, misses and accuracy. No policy that answers as many requests as well
    can be cheaper, whatever it knows.

    \b
    Example:
      provisor experiment bound default --policy mpc --days 14:15 --seed 0
    """
    from controller.scenario import load_scenario
    from envs.world import WorldChoice, parse_days
    from experiments.bounds import bound_days, show_bounds
    from experiments.progress import RichProgress

    span = parse_days(days, "--days") if days else None
    if span is None and trace is None:
        first = load_scenario(scenario).splits.test[0]
        span = (first, first)
    choice = WorldChoice(trace=trace, days=span)
    with RichProgress() as progress:
        rows = bound_days(scenario, policy, choice=choice, seed=seed, ticks=ticks, step_s=step, progress=progress)
    show_bounds(rows, as_json)
    return EXIT_DONE


@experiment.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option("--out", default="runs/experiment/schemes", show_default=True, metavar="DIR", help="Folder of results.")
def schemes(check: bool, out: str) -> int:
    """Characterise resources, models and the five published schemes.

    Machines against serverless over rates and models, functions over memory, constraint-aware against naive choice,
    and reactive, util_aware, exascale, mixed and paragon on Twitter, NASA and a flat trace with cold starts. Some five
    minutes on two cores; needs $PROVISOR_DATA. Writes tables (JSON, CSV), plots (PNG) and one page (HTML).

    \b
    Example:
      provisor experiment schemes --check
    """
    from experiments.schemes.run import run_schemes

    holds, is_partial = run_schemes(Path(out), lambda line: click.echo(line, err=True))
    if is_partial:
        return EXIT_INTERRUPTED
    return EXIT_DONE if holds or not check else EXIT_FAILED


@experiment.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--only",
    "names",
    multiple=True,
    metavar="PART",
    help="A fault, by how its name begins, or `compare`, `router`, `steadiness`; repeatable.",
)
@click.option("--learned", type=_FILE, metavar="FILE", help="Policy learned there.  [default: shipped]")
@click.option("--generalist", type=_FILE, metavar="FILE", help="That for any catalog.  [default: shipped]")
@click.option("--rule", type=_FILE, metavar="YAML", help="Settings of the best rule.  [default: tuned mpc]")
@click.option("--native", type=_FILE, metavar="YAML", help="Settings of `ray_serve`.  [default: tuned]")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Runs of each policy."
)
@click.option(
    "--duration", type=click.FloatRange(min=10.0), default=120.0, show_default=True, metavar="S", help="Of each."
)
@click.option("--out", default="runs/experiment/live", show_default=True, metavar="DIR", help="Folder of results.")
def live(
    check: bool,
    names: tuple[str, ...],
    learned: Path | None,
    generalist: Path | None,
    rule: Path | None,
    native: Path | None,
    repeats: int,
    duration: float,
    out: str,
) -> int:
    """Break a live run, count what it loses, and serve side by side with Ray Serve's own autoscaler.

    Starts `provisor serve` on Ray nodes of this machine, three pools of machines with emulated service times, under an
    open load of 16 requests a second; kills and freezes processes and nodes, posts a notice, spoils the policy file,
    hides the router and sets the clock. Then the journal is decided again, the router is measured beside a bare Serve
    application, and changes of capacity are counted in a simulated constant load.

    The comparison serves the same requests of a test day with the policy learned there, that for any catalog, the tuned
    rule, and Ray Serve's own tuned autoscaler in turn, with replicas that sleep. Sixteen minutes on two cores in all.

    \b
    Example:
      provisor experiment live --check
      provisor experiment live --only 'a node goes' --out runs/nodes
      provisor experiment live --only compare --learned policy.provisor --repeats 3
    """
    from experiments.checks import show_checks
    from experiments.compared_run import Stretch
    from experiments.live_compare import CompareOptions
    from experiments.live_study import checks_of, run_study, show_faults
    from experiments.show_compare import show_compared

    asked = CompareOptions(
        learned=learned,
        generalist=generalist,
        rule=rule,
        native=native,
        repeats=repeats,
        stretch=Stretch(duration_s=duration),
    )
    study = run_study(Path(out), lambda line: click.echo(line, err=True), names, asked)
    if study.faults:
        show_faults(study.faults)
    if study.compared:
        show_compared(study.compared, asked.stretch)
    holds = show_checks("live", checks_of(study))
    return EXIT_DONE if holds or not check else EXIT_FAILED


@experiment.command("cloud")
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--only",
    "names",
    multiple=True,
    metavar="PART",
    help="`contract`, `lifecycle`, `sequences`, `overflow`, `nodes` or `functions`; repeatable.",
)
@click.option("--sequences", type=click.IntRange(min=1), default=200, show_default=True, metavar="N", help="Of faults.")
@click.option("--out", default="runs/experiment/cloud", show_default=True, metavar="DIR", help="Folder of results.")
def cloud_(check: bool, names: tuple[str, ...], sequences: int, out: str) -> int:
    """Buy, lose, replace and give back machines and functions against stand-ins of AWS over HTTP.

    EC2 is moto's server behind a front that adds what EC2 does beside; Lambda is a front over processes of AWS's own
    runtime emulator. A fleet's life; random sequences of faults; a live run whose load overflows to functions, its
    bill against the calls; a live run on machines of which one is taken; cold and warm calls. Needs the test extra.
    Some twelve minutes on two slow cores.

    \b
    Example:
      provisor experiment cloud --check
      provisor experiment cloud --only overflow --out runs/overflow
    """
    from experiments.checks import show_checks
    from experiments.cloud.study import checks_of, run_study

    study = run_study(Path(out), lambda line: click.echo(line, err=True), names, sequences)
    holds = show_checks("cloud", checks_of(study))
    return EXIT_DONE if holds or not check else EXIT_FAILED


experiment.add_command(evidence)
experiment.add_command(scale)
experiment.add_command(judge, "tiers")
experiment.add_command(jellybean)
experiment.add_command(a2)
experiment.add_command(collage_study)
