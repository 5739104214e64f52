"""The verb that writes the first files of an application that runs already; it imports Ray when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, UsageError, mismatch

CATALOG, SCENARIO, MAPPING = "catalog.yaml", "scenario.yaml", "mapping.yaml"


@click.command()
@click.option("--from-serve", is_flag=True, help="Read an application that runs on Ray Serve.")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster that it runs on.")
@click.option("--app", metavar="NAME", help="Application.  [default: the only one there]")
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="POOL=USD",
    help="USD per hour of a pool or instance type; may be repeated.",
)
@click.option("--out", required=True, metavar="DIR", help="Directory for the three files.")
@click.option("--force", is_flag=True, help="Replace files.")
def init(from_serve: bool, address: str | None, app: str | None, prices: tuple[str, ...], out: str, force: bool) -> int:
    """Write a first catalog, scenario and mapping of an application that runs already.

    Deployments, replicas, resources, limits, nodes and labels are read from the cluster, and nothing on it is changed.
    What no cluster shows (prices, service times, accuracy, promises) is written as a placeholder that says so; the
    files are valid as they are, so the simulator and a dry run work with them at once.

    \b
    Example:
      provisor init --from-serve --address 10.0.0.5:6379 --app theirs --price m5.large=0.096 --out theirs
      provisor profile --attach theirs/mapping.yaml --address 10.0.0.5:6379 --input inputs.json --force
      provisor serve --attach theirs/mapping.yaml --address 10.0.0.5:6379 --dry-run
    """
    from controller.catalog import load_catalog
    from experiments.attached_cluster import joined
    from experiments.calibrated import require_new, write_whole
    from experiments.placeholders import placeholders_in
    from experiments.starting_files import chosen_app, starting_files
    from experiments.starting_text import catalog_text, mapping_text, scenario_text

    if not from_serve:
        raise UsageError(mismatch("--from-serve", "to be given: there is nothing else to start from", None))
    if address is None:
        raise UsageError(mismatch("--address", "host:port of a Ray cluster", None))
    known = parse_prices(prices)
    folder = Path(out)
    for name in (CATALOG, SCENARIO, MAPPING):
        require_new(folder / name, "--out", force)
    with joined(address) as survey:
        files = starting_files(survey, chosen_app(survey, app), known, CATALOG)
    texts = {CATALOG: catalog_text(files), SCENARIO: scenario_text(files), MAPPING: mapping_text(files)}
    for name, text in texts.items():
        write_whole(folder / name, text)
        click.echo(f"wrote {folder / name}")
    for note in files.notes:
        click.echo(f"note: {note}")
    unknown = placeholders_in(load_catalog(folder / CATALOG))
    click.echo(f"{len(unknown)} figures of {folder / CATALOG} are placeholders; so is all of {folder / SCENARIO}")
    return EXIT_DONE


def parse_prices(options: tuple[str, ...]) -> dict[str, float]:
    """`POOL=USD` options as a mapping.

    Raises:
        UsageError: An option has another form, or a name is given twice.
    """
    prices: dict[str, float] = {}
    for option in options:
        name, separator, text = option.rpartition("=")
        try:
            usd = float(text)
        except ValueError:
            usd = -1.0
        if not separator or not name or not 0 <= usd < float("inf"):
            raise UsageError(mismatch("--price", "POOL=USD with a number >= 0", option))
        if name in prices:
            raise UsageError(mismatch("--price", "each pool once", option))
        prices[name] = usd
    return prices
