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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(journal: str, at: str | None, tick: int | None, last: bool, summary: bool, as_json: bool) -> int:
    """Say in plain English why a plan came out as it did.

    Read from the journal alone, which may still be written: what was seen and expected, what was proposed, which limit
    changed it, what was done, what was expected of it and of the alternatives, and who drove.

    \b
    Example:
      provisor why runs/serve/journal.jsonl
      provisor why runs/serve/journal.jsonl --at 1:30
      provisor why runs/serve/journal.jsonl --summary
    """
    from controller.errors import UsageError
    from experiments.show_why import parse_clock, show_summary, show_why

    if sum((at is not None, tick is not None, last, summary)) > 1:
        raise UsageError("--at, --tick, --last, --summary: expected at most one of them")
    if summary:
        show_summary(journal, as_json)
    else:
        show_why(journal, None if at is None else parse_clock(at), tick, as_json)
    return EXIT_DONE
