"""The verbs that compare what was learned with what was tuned: `experiment evidence` and `experiment scale`."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, EXIT_FAILED


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--full", is_flag=True, help="With solver-based rivals and a training from scratch, whose result is kept."
)
@click.option("--quick", is_flag=True, help="In minutes: hours of a day at own points; shows that all runs, no more.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="A part of the suite; repeatable.")
@click.option("--only", metavar="ROW", help="Compute this row of a leaderboard alone and print it as CSV.")
@click.option("--workers", type=int, metavar="N", help="Processes.  [default: one per core]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to run on, in place of this machine.")
@click.option("--out", default="runs/experiment/evidence", show_default=True, metavar="DIR", help="Folder of results.")
def evidence(
    check: bool,
    full: bool,
    quick: bool,
    scenarios: tuple[str, ...],
    only: str | None,
    workers: int | None,
    address: str | None,
    out: str,
) -> int:
    """Compare the learned policies with every rival at its best, and with clairvoyance.

    Computes everything anew from the tuned settings and the policy files of this package, on the test days of the
    suite: each policy is swept by its dials and compared at equal attainment and accuracy, and tuned settings are run
    again on the days of their study. Needs $PROVISOR_DATA and one to two hours on two cores; what is finished in DIR
    is not run again. Rivals that solve programs and a training take hours: they are measured with --full, and without
    it their last result is printed apart.

    \b
    Example:
      provisor experiment evidence --check
      provisor experiment evidence --quick --out runs/quick
      provisor experiment evidence --only 'suite-cpu/twitter/learned@mpc'
    """
    from dataclasses import replace

    from controller.errors import UsageError
    from controller.scenario import load_scenario
    from experiments.checks import show_checks
    from experiments.evidence_plan import Extent
    from experiments.evidence_run import QUICK_TITLE, EvidenceRun, keep_record, kept_record, training_check
    from experiments.fanout import open_workers
    from experiments.progress import CellProgress
    from experiments.show import show_leaderboard

    if quick and full:
        raise UsageError("--quick: expected without --full, got both")
    for name in scenarios:
        load_scenario(name)
    # A row may be about a rival that solves programs; of the others' cells none is run then.
    has_solved = full or only is not None
    extent = replace(Extent(), scenarios=scenarios or Extent().scenarios, has_solved=has_solved)
    folder = Path(out)
    run = EvidenceRun(folder, extent.quick() if quick else extent)
    with open_workers(workers, address) as pool, CellProgress() as progress:
        if only is not None:
            click.echo(run.only(only, pool, progress), nl=False)
            return EXIT_DONE
        run.cells(pool, progress)
    if full and run.extent.is_whole:
        keep_record([*run.solved(), training_check(run.artefacts, folder / "training")])
    found = run.checks()
    tables = run.tables()
    for path in run.write(found, tables):
        click.echo(f"wrote {path}")
    for table in tables:
        show_leaderboard(table)
    holds = show_checks(QUICK_TITLE if quick else "the evidence", found)
    if quick:
        click.echo(QUICK_TITLE)
    else:
        holds = show_checks(*kept_record()) and holds
    return EXIT_DONE if holds or not check else EXIT_FAILED


@click.command()
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Default: the scenarios of the suite.")
@click.option("--trace", "traces", multiple=True, metavar="NAME", help="Default: the recorded traces of the suite.")
@click.option(
    "--rate",
    "scales",
    multiple=True,
    type=click.FloatRange(min=0.01, max=100.0),
    metavar="X",
    help="Of the scenarios' own; repeatable.  [default: 0.3, 1, 10]",
)
@click.option("--policy", "policies", multiple=True, metavar="P", help="Added: rule, file or module:Class; repeatable.")
@click.option("--workers", type=int, metavar="N", help="Processes.  [default: one per core]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to run on, in place of this machine.")
@click.option("--out", default="runs/experiment/scale", show_default=True, metavar="DIR", help="Folder of results.")
def scale(
    scenarios: tuple[str, ...],
    traces: tuple[str, ...],
    scales: tuple[float, ...],
    policies: tuple[str, ...],
    workers: int | None,
    address: str | None,
    out: str,
) -> int:
    """Run the tuned rule and what was learned at 0.3, 1 and 10 times the rate they were made for.

    Settings and policy files stay as they are; above the scenario's own rate quotas grow with it. On the first test day
    of each trace, with the rails of a live run. Needs $PROVISOR_DATA and some fifteen minutes on two cores; --rate
    (repeatable) names other multiples.

    \b
    Example:
      provisor experiment scale
      provisor experiment scale --scenario suite-cpu --trace twitter --rate 0.3 --rate 1 --policy paragon
    """
    from experiments.fanout import open_workers
    from experiments.progress import CellProgress
    from experiments.scale_transfer import (
        SCALES,
        run_scales,
        scale_jobs,
        scale_lines,
        shipped,
        show_lines,
        write_scales,
    )
    from experiments.suite import SCENARIOS, TRACES

    compared = [*shipped(), *((one, lambda _scenario, one=one: one) for one in policies)]
    jobs = scale_jobs(compared, scenarios or SCENARIOS, traces or tuple(TRACES), scales or SCALES)
    with open_workers(workers, address) as pool, CellProgress() as progress:
        rows = run_scales(jobs, pool, progress)
    lines = scale_lines(rows)
    show_lines(lines)
    click.echo(f"wrote {write_scales(rows, lines, Path(out))}")
    return EXIT_DONE
