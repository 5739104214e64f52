"""The verb `benchmark`; it imports what it needs when it is called."""

from __future__ import annotations

import shlex

import click

from controller.errors import EXIT_DONE

_ANEW = "runs/recomputed"


@click.command()
@click.argument("config", metavar="[CONFIG.yaml]", required=False)
@click.option("--quick", is_flag=True, help="In minutes: few traces, hours of few days, few points.")
@click.option("--policy", "policies", multiple=True, metavar="P", help="Added: rule, file or module:Class; repeatable.")
@click.option(
    "--trace", "traces", multiple=True, metavar="T", help="In place of CONFIG's: FILE[:ROW] or a name; repeatable."
)
@click.option("--scenario", "scenarios", multiple=True, metavar="S", help="In place of CONFIG's; repeatable.")
@click.option("--only", metavar="ROW", help="Compute this row alone and print it as CSV.")
@click.option("--workers", type=int, metavar="N", help="Processes.  [default: one per core]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to run on, in place of this machine.")
@click.option("--out", metavar="DIR", help="Folder of cells and leaderboard.  [default: runs/NAME]")
def benchmark(
    config: str | None,
    quick: bool,
    policies: tuple[str, ...],
    traces: tuple[str, ...],
    scenarios: tuple[str, ...],
    only: str | None,
    workers: int | None,
    address: str | None,
    out: str | None,
) -> int:
    """Compare policies at equal attainment and accuracy, and write a leaderboard.

    Runs every policy at every point of its dials on every scenario, trace and test day. What is finished is kept in
    DIR/cells.jsonl: the same command goes on where it was stopped, and any number of workers gives the same numbers.

    \b
    Example:
      provisor benchmark --quick --out runs/quick
      provisor benchmark CONFIG.yaml --policy my_policies:Mine --trace my_trace.csv
      provisor benchmark --quick --only 'default/own/mpc@mpc'
    """
    from experiments.benchmark_run import BenchmarkRun
    from experiments.fanout import open_workers
    from experiments.progress import CellProgress
    from experiments.show import show_leaderboard

    words = [config] if config else []
    words += ["--quick"] if quick else []
    for option, values in (("--policy", policies), ("--trace", traces), ("--scenario", scenarios)):
        words += [word for value in values for word in (option, value)]
    run = BenchmarkRun(config, quick=quick, policies=policies, traces=traces, scenarios=scenarios, out=out)

    def command(row: str) -> str:
        return shlex.join(["provisor", "benchmark", *words, "--only", row, "--out", _ANEW])

    keys = run.keys(only)
    try:
        with open_workers(workers, address) as pool, CellProgress() as progress:
            run.cells(keys, pool, progress)
    except KeyboardInterrupt:
        where = ["--out", str(run.directory)]
        click.echo(f"stopped; go on with: {shlex.join(['provisor', 'benchmark', *words, *where])}", err=True)
        raise
    if only is not None:
        from experiments.leaderboard_files import as_csv

        click.echo(as_csv(run.rows(keys, command)), nl=False)
        return EXIT_DONE
    rows, written = run.write(keys, command)
    show_leaderboard(rows)
    for path in written:
        click.echo(f"wrote {path}")
    return EXIT_DONE
