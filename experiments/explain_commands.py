"""The verbs that explain what a run did and might have done; each imports what it needs when it is called."""

from __future__ import annotations

import click

from controller.errors import EXIT_DONE


@click.command()
@click.argument("journal")
@click.option("--at", metavar="T", help="The decision in force T into the run: seconds, M:S or H:M:S.")
@click.option("--tick", type=click.IntRange(min=0), metavar="N", help="The decision of tick N, from 0.")
@click.option("--last", is_flag=True, help="The last decision.  [default]")
@click.option("--summary", is_flag=True, help="How good the receipts' predictions were, over the whole journal.")
@click.option("--shadow-gate", is_flag=True, help="Exit with 1 unless the policy in shadow is expected no worse.")
@click.option("--from-tick", type=click.IntRange(min=0), default=0, metavar="N", help="First tick for --shadow-gate.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(
    journal: str,
    at: str | None,
    tick: int | None,
    last: bool,
    summary: bool,
    shadow_gate: bool,
    from_tick: int,
    as_json: bool,
) -> int:
    """Say in plain English why a plan came out as it did.

    Read from the journal alone, which may still be written: what was seen and expected, what was proposed, which limit
    changed it, what was done, what was expected of it and of the alternatives, and who drove.

    \b
    Example:
      provisor why runs/serve/journal.jsonl
      provisor why runs/serve/journal.jsonl --at 1:30
      provisor why runs/serve/journal.jsonl --summary
    """
    from controller.errors import EXIT_FAILED, UsageError
    from experiments.show_why import parse_clock, show_shadow_gate, show_summary, show_why

    if sum((at is not None, tick is not None, last, summary, shadow_gate)) > 1:
        raise UsageError("--at, --tick, --last, --summary, --shadow-gate: expected at most one of them")
    if shadow_gate:
        return EXIT_DONE if show_shadow_gate(journal, from_tick) else EXIT_FAILED
    if summary:
        show_summary(journal, as_json)
    else:
        show_why(journal, None if at is None else parse_clock(at), tick, as_json)
    return EXIT_DONE


@click.command("what-if")
@click.argument("journal")
@click.option(
    "--policy", "policies", multiple=True, required=True, metavar="P", help="Rule or policy file; repeatable."
)
@click.option("--recorded", metavar="P", help="The policy that ran, where its file has moved.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Seeds 0..N-1.")
@click.option("--catalog", metavar="C", help="Figures for the simulator, such as those of `provisor calibrate`.")
@click.option("--gate", metavar="P", help="Exit with 1 unless this one of the policies is surely no worse.")
@click.option("--out", metavar="DIR", help="Also write what-if.json and what-if.csv.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def what_if(
    journal: str,
    policies: tuple[str, ...],
    recorded: str | None,
    seeds: int,
    catalog: str | None,
    gate: str | None,
    out: str | None,
    as_json: bool,
) -> int:
    """Run other policies on the traffic that a run captured.

    The scenario, the catalog, the first fleet, the traffic and what was seen of the spot market come from the journal.
    The recorded policy is simulated too: how far that is from the run itself says how far to trust the table. With
    --gate the policy's cost must be lower, and attainment and accuracy not lower by 0.2 points, all for sure (95 %).

    \b
    Example:
      provisor what-if runs/serve/journal.jsonl --policy reactive --policy new/policy.provisor
      provisor what-if runs/serve/journal.jsonl --policy new/policy.provisor --gate new/policy.provisor
    """
    import json
    from pathlib import Path

    from controller.errors import EXIT_FAILED, UsageError, mismatch
    from experiments.progress import RichProgress
    from experiments.recorded import read_recorded, recorded_policy
    from experiments.run_config import policy_labels
    from experiments.show import echo_truncations
    from experiments.show_what_if import as_values, show_gate, show_what_if, write_what_if
    from experiments.what_if import what_if as compare

    if gate is not None and gate not in policies:
        raise UsageError(mismatch("--gate", "one of the policies", gate))
    with echo_truncations():
        run = read_recorded(Path(journal), catalog)
    chosen = recorded_policy(run.header, recorded)
    with RichProgress() as progress:
        found = compare(run, chosen, policies, seeds, progress)
    if as_json:
        click.echo(json.dumps(as_values(found), indent=1))
    else:
        show_what_if(found)
    for path in [] if out is None else write_what_if(found, Path(out)):
        click.echo(f"wrote {path}", err=as_json)
    if gate is None:
        return EXIT_DONE
    every = [chosen, *(policy for policy in policies if policy != chosen)]
    label = policy_labels(every)[every.index(gate)]
    passed = show_gate(next(one for one in found.outcomes if one.policy == label), is_error=as_json)
    return EXIT_DONE if passed else EXIT_FAILED


@click.command()
@click.argument("journal")
@click.option("--out", required=True, metavar="FILE.npz|DIR", help="Trace to write; with --write-run a folder.")
@click.option("--write-run", is_flag=True, help="Also write catalog.yaml, scenario.yaml and run.yaml for a training.")
@click.option("--like", metavar="RUN.yaml", help="Take training settings and policies from this run file.")
@click.option("--force", is_flag=True, help="Replace files.")
def capture(journal: str, out: str, write_run: bool, like: str | None, force: bool) -> int:
    """Write the traffic that a run captured as a trace, or all that a training on it needs.

    A trace is read by every option that takes one. The run may still go on.

    \b
    Example:
      provisor capture runs/serve/journal.jsonl --out arrivals.npz
      provisor capture runs/serve/journal.jsonl --write-run --out captured
      provisor train captured/run.yaml
    """
    from pathlib import Path

    from controller.errors import UsageError
    from controller.journal import Journal
    from experiments.calibrated import require_new
    from experiments.captured_run import write_captured_run, write_trace
    from experiments.show import echo_truncations

    if like is not None and not write_run:
        raise UsageError("--like: expected --write-run beside it")
    target = Path(out)
    with echo_truncations():
        if write_run:
            done = write_captured_run(Journal(journal), target, like, force)
            found, files = done.capture, done.files
            if done.is_repeated:
                click.echo("less than three days: three parts of the capture were repeated, each to fill one day")
        else:
            require_new(target, "--out", force)
            found, files = write_trace(Journal(journal), target), (target,)
    trace = found.trace
    click.echo(
        f"{int(trace.counts.sum())} requests of {trace.num_rows} classes in {found.ticks} ticks, in bins of "
        f"{trace.bin_seconds:g} s; multiply its rate by {found.rate_factor:g} for that of the run"
    )
    for file in files:
        click.echo(f"wrote {file}")
    return EXIT_DONE
