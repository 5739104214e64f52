"""The verbs that run experiments; each imports what it needs when it is called."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from experiments.run_config import RunConfig

_DEFAULT_OUT = "runs/evaluate"


@click.command()
@click.argument("run_file", metavar="[RUN.yaml]", required=False)
@click.option("--scenario", "scenarios", multiple=True, metavar="S", help="Scenario, by name or path; may be repeated.")
@click.option("--policy", "policies", multiple=True, metavar="P", help="Rule or policy file; may be repeated.")
@click.option("--trace", metavar="FILE[:ROW]", help="Requests in place of the scenario's.")
@click.option("--spot", metavar="FILE", help="Spot availability (npz, index.csv beside it) in place of the scenario's.")
@click.option("--days", metavar="A:B", help="Days of the trace, 1-based, both included.  [default: the test days]")
@click.option("--spot-days", metavar="A:B", help="Days of the spot availability to draw starts from.")
@click.option("--scale", type=float, metavar="X", help="Multiply the rate by X.  [default: to the scenario's mean]")
@click.option("--seeds", type=int, metavar="N", help="Seeds 0..N-1, the same for every policy.  [default: 3]")
@click.option("--out", metavar="DIR", help=f"Directory for results and report.  [default: {_DEFAULT_OUT}]")
@click.option("--workers", type=int, metavar="N", help="Processes.  [default: this one, on all cores]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to run on, in place of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of the table.")
def evaluate(run_file: str | None, as_json: bool, workers: int | None, address: str | None, **options: Any) -> int:
    """Compare policies on days they never saw, under the same requests.

    Writes results.json, results.csv and report.html. Options given beside RUN.yaml replace its fields. Any number of
    workers finds the same numbers, but for the time that decisions took.

    \b
    Example:
      provisor evaluate --scenario default --policy static --policy mpc --days 14:15 --seeds 2 --out runs/first
      provisor evaluate RUN.yaml
    """
    from experiments.evaluate import run_evaluation
    from experiments.fanout import open_workers
    from experiments.progress import RichProgress
    from experiments.run_config import load_run
    from experiments.show import show_evaluation

    config = _merged(load_run(run_file) if run_file else None, options)
    is_fanned_out = address is not None or workers not in (None, 1)
    with open_workers(workers, address) if is_fanned_out else nullcontext() as pool:
        with RichProgress() as progress:
            result, written = run_evaluation(config, progress, pool)
        show_evaluation(result, written, as_json)
        if result.is_partial:
            raise KeyboardInterrupt  # within: workers end at once
    return EXIT_DONE


@click.command()
@click.argument("scenario")
@click.option("--policy", required=True, metavar="P", help="Rule or policy file.")
@click.option("--trace", metavar="FILE[:ROW]", help="Requests in place of the scenario's.")
@click.option("--days", metavar="A:B", help="Days of the trace.  [default: the first test day]")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N")
@click.option("--ticks", type=int, metavar="N", help="Stop each day after N ticks.")
@click.option("--out", default="runs/simulate", show_default=True, metavar="DIR", help="Directory for the journal.")
@click.option("--no-journal", is_flag=True, help="Write nothing.")
@click.option(
    "--receipts",
    type=click.IntRange(min=1),
    metavar="N",
    help="Journal why each plan is what it is and, every N ticks, what it and alternatives are expected to lead to.",
)
def simulate(
    scenario: str,
    policy: str,
    trace: str | None,
    days: str | None,
    seed: int,
    ticks: int | None,
    out: str,
    no_journal: bool,
    receipts: int | None,
) -> int:
    """Run one policy in the simulated world and journal every decision.

    \b
    Example:
      provisor simulate default --policy mpc --days 14:14 --seed 1 --out runs/one
    """
    from controller.scenario import load_scenario
    from envs.world import WorldChoice, parse_days
    from experiments.progress import RichProgress
    from experiments.show import show_simulation
    from experiments.simulate import simulate as run

    span = parse_days(days, "--days") if days else None
    if span is None and trace is None:
        first = load_scenario(scenario).splits.test[0]
        span = (first, first)
    choice = WorldChoice(trace=trace, days=span)
    with RichProgress() as progress:
        done = run(
            scenario,
            policy,
            choice=choice,
            seed=seed,
            ticks=ticks,
            out=None if no_journal else Path(out),
            progress=progress,
            receipts_every=receipts,
        )
    show_simulation(done)
    if done.is_partial:
        raise KeyboardInterrupt
    return EXIT_DONE


@click.command()
@click.argument("journal")
@click.option("--policy", metavar="P", help="Decide with this instead of what the journal names.")
def replay(journal: str, policy: str | None) -> int:
    """Decide a journal again and report every decision that comes out differently.

    Exits with 0 when all are equal, with 1 otherwise.

    \b
    Example:
      provisor replay runs/one/journal.jsonl.gz
    """
    from experiments.show import show_replay

    return EXIT_DONE if show_replay(journal, policy) else EXIT_FAILED


def _merged(config: RunConfig | None, options: dict[str, Any]) -> RunConfig:
    """The run file with every option that was given in place of its field."""
    from controller.config import parse_config
    from controller.errors import UsageError, mismatch
    from envs.world import parse_days
    from experiments.run_config import RunConfig

    fields: dict[str, Any] = {} if config is None else config.model_dump(mode="json")
    if options["scenarios"]:
        first, *others = options["scenarios"]
        fields |= {"scenario": first, "more_scenarios": others}
    if options["policies"]:
        fields["policies"] = list(options["policies"])
    if options["seeds"] is not None:
        if options["seeds"] < 1:
            raise UsageError(mismatch("--seeds", "a number >= 1", options["seeds"]))
        fields["seeds"] = list(range(options["seeds"]))
    for name, field in (("days", "days"), ("spot_days", "spot_days")):
        if options[name] is not None:
            fields[field] = list(parse_days(options[name], f"--{name.replace('_', '-')}"))
    for name in ("trace", "spot", "scale", "out"):
        if options[name] is not None:
            fields[name] = options[name]
    return parse_config(fields, RunConfig, "evaluate")
