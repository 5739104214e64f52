"""The verb `tune`; it imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE

_TRIALS = 300


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--policy", required=True, metavar="P", help="Kind (name=value after a colon), YAML file or module:Class."
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="NAME|FILE[:ROW]",
    help="Trace of the suite, or requests, in place of the scenarios' own; may be repeated.",
)
@click.option("--suite", "is_suite", is_flag=True, help="All recorded traces of the suite.")
@click.option(
    "--days",
    metavar="A:B",
    help="Days to judge on, each by itself.  [default: a suite's trace: its tuning day; else the first validation day]",
)
@click.option(
    "--trials", type=int, metavar="N", help=f"Stop after N trials.  [default: {_TRIALS}, or never with --until-gain]"
)
@click.option(
    "--until-gain",
    type=float,
    metavar="G",
    help="Stop when the last M trials brought less than this share, such as 0.005.",
)
@click.option(
    "--gain-trials",
    type=int,
    default=500,
    show_default=True,
    metavar="M",
    help="Trials that --until-gain looks back on.",
)
@click.option(
    "--start",
    "starts",
    multiple=True,
    metavar="FILE",
    help="YAML file with settings found earlier, tried first; may be repeated.",
)
@click.option(
    "--borrow",
    "borrowed",
    multiple=True,
    metavar="FILE",
    help="YAML file of another policy, whose settings of the same names are tried next; may be repeated.",
)
@click.option(
    "--fix",
    "fixed",
    multiple=True,
    metavar="NAME",
    help="Setting left as it starts; may be repeated; `none` frees all.  [default: those that cannot be judged]",
)
@click.option(
    "--as-published",
    "is_as_published",
    is_flag=True,
    help="Also leave alone what was added to a published scheme: it gets the levers it was published with, and spot.",
)
@click.option("--workers", type=int, metavar="N", help="Days run at a time.  [default: one per core]")
@click.option("--address", metavar="HOST:PORT", help="Run on this Ray cluster instead of this machine.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of the proposals.")
@click.option(
    "--batch",
    type=int,
    default=2,
    show_default=True,
    metavar="N",
    help="Trials proposed together: more keep more workers busy, and know less of each other.",
)
@click.option("--name", metavar="NAME", help="Of the result.  [default: the kind]")
@click.option("--out", metavar="DIR", help="Folder of the study.  [default: runs/tune/SCENARIO/NAME]")
@click.option("--commit-to", metavar="DIR", help="At the end, also write NAME.yaml and NAME.json here.")
@click.option(
    "--keep-trials",
    is_flag=True,
    help="With --commit-to, at the end or when stopped: also NAME.log.xz there, from which the same command goes on.",
)
@click.option("--resume", is_flag=True, help="Refuse to begin anew; a study in the folder is continued in any case.")
def tune(
    scenarios: tuple[str, ...],
    policy: str,
    traces: tuple[str, ...],
    is_suite: bool,
    days: str | None,
    trials: int | None,
    until_gain: float | None,
    gain_trials: int,
    starts: tuple[str, ...],
    borrowed: tuple[str, ...],
    fixed: tuple[str, ...],
    is_as_published: bool,
    workers: int | None,
    address: str | None,
    seed: int,
    batch: int,
    name: str | None,
    out: str | None,
    commit_to: str | None,
    keep_trials: bool,
    resume: bool,
) -> int:
    """Search the settings of a policy on whole days of all scenarios, traces and days together.

    What is minimised is cost relative to the start settings, raised where a day breaks a promise. The same command
    continues a study that was stopped; results do not depend on the number of workers. Writes settings.yaml, for
    --policy, and study.json.

    \b
    Example:
      provisor tune default --policy reactive --days 12:13 --trials 300 --out runs/tune/reactive
      provisor evaluate --scenario default --policy runs/tune/reactive/settings.yaml
      provisor tune suite-cpu --suite --policy mpc --until-gain 0.005 --commit-to experiments/tuned/suite-cpu
    """
    from controller.config import parse_config
    from controller.errors import UsageError
    from envs.world import parse_days
    from experiments.fanout import open_workers
    from experiments.search_plan import StopRule
    from experiments.study import STUDY_LOG, run_study
    from experiments.study_config import study_config
    from experiments.study_progress import RichStudyProgress
    from experiments.study_summary import SETTINGS, SUMMARY, commit_study, edges, pack_trials, unpack_trials
    from experiments.suite import TRACES
    from experiments.world_ref import named_days

    limits = {"trials": _TRIALS if trials is None and until_gain is None else trials}
    stop = parse_config({**limits, "until_gain": until_gain, "gain_trials": gain_trials}, StopRule, "tune")
    config = study_config(
        policy,
        named_days(scenarios, (*TRACES, *traces) if is_suite else traces, parse_days(days, "--days") if days else None),
        name=name,
        starts=starts,
        borrowed=borrowed,
        fixed=(() if "none" in fixed else fixed) if fixed else None,
        is_as_published=is_as_published,
        seed=seed,
        batch=batch,
    )
    folder = Path(out) if out else Path("runs/tune") / "+".join(Path(one).stem for one in scenarios) / config.name
    if keep_trials and not commit_to:
        raise UsageError("--keep-trials: expected --commit-to beside it, got none")
    if commit_to and unpack_trials(folder / STUDY_LOG, Path(commit_to), config.name):
        click.echo(f"goes on from the trials in {commit_to}", err=True)
    if resume and not (folder / STUDY_LOG).exists():
        raise UsageError(f"--resume: expected a study in {folder}, got none")
    try:
        with open_workers(workers, address) as pool, RichStudyProgress() as progress:
            result = run_study(config, stop, folder, pool, progress)
    except KeyboardInterrupt:
        if commit_to and keep_trials and (folder / STUDY_LOG).exists():
            click.echo(str(pack_trials(folder / STUDY_LOG, Path(commit_to), config.name)), err=True)
        click.echo(f"stopped; the same command continues ({folder})", err=True)
        raise
    paths = [folder / SETTINGS, folder / SUMMARY]
    if commit_to:
        paths += commit_study(result, Path(commit_to))
        if keep_trials:
            paths.append(pack_trials(folder / STUDY_LOG, Path(commit_to), config.name))
    course = result.search.course
    click.echo(
        f"{len(course)} trials: best {course[-1]:.4f}, {1 - course[-1] / course[0]:.2%} better than the start "
        f"(ended by {result.ended})"
    )
    for edge in edges(result):
        click.echo(f"{edge['name']} = {edge['value']}: at the {edge['end']} end of its range {edge['range']}")
    for path in paths:
        click.echo(str(path))
    return EXIT_DONE
