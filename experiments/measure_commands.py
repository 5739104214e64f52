"""The verbs that make catalogs from measurements; each imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from controller.errors import EXIT_DONE, UsageError, mismatch

_BATCHES = "1,2,4,8"


@click.command()
@click.argument("model", metavar="[module:callable]", required=False)
@click.option(
    "--batches",
    metavar="N,N,...",
    help=f"Batch sizes to measure.  [default: {_BATCHES}; with --attach powers of two up to the profile's batch_max]",
)
@click.option("--repeats", type=click.IntRange(min=2), default=50, show_default=True, metavar="N", help="Of each size.")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help="Not timed.")
@click.option(
    "--loads",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Loads (2 or more), or starts.",
)
@click.option(
    "--input",
    "inputs",
    metavar="X",
    help="module:callable that returns a list, FILE.json, or FILE.npz with inputs and, for the accuracy, labels.  "
    "[default: the images that serve sends]",
)
@click.option("--name", metavar="V", help="Variant in the entry.  [default: from the callable]")
@click.option("--pool", metavar="P", help="Pool in the entry.  [default: this-machine; needed with --into]")
@click.option("--attach", metavar="MAPPING.yaml", help="Measure deployments of an application that runs at --address.")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster of the application.")
@click.option("--deployment", "deployments", multiple=True, metavar="D", help="Only this one; may be repeated.")
@click.option("--concurrency", type=click.IntRange(1, 16), metavar="N", help="Calls at once per replica.")
@click.option("--into", metavar="CATALOG", help="Write this whole catalog with the entry in it.")
@click.option("--out", metavar="FILE", help="File to write.  [default: print the YAML]")
@click.option("--force", is_flag=True, help="Replace the file.")
def profile(
    model: str | None,
    batches: str | None,
    repeats: int,
    warmup: int,
    loads: int,
    inputs: str | None,
    name: str | None,
    pool: str | None,
    attach: str | None,
    address: str | None,
    deployments: tuple[str, ...],
    concurrency: int | None,
    into: str | None,
    out: str | None,
    force: bool,
) -> int:
    """Measure a model of yours into a catalog entry.

    The callable takes a list of inputs and returns as many outputs; a class, or a function without parameters, is
    called once to make it. It runs here as a replica would run it, on one torch thread. The entry holds the mean
    service time of each batch size, its quantiles, the time to load in a fresh process, and with labelled inputs the
    accuracy.

    With --attach, the deployments that a mapping names are measured where they run, and what was measured is put into
    the catalog of the mapping's scenario. --loads then is how often one replica more is started, for the start time.

    \b
    Example:
      provisor profile my_models:resnet --batches 1,2,4,8 --input test.npz --out resnet.yaml
      provisor profile my_models:resnet --into demo --name digits-large --pool c5-large --out mine.yaml
      provisor profile --attach theirs/mapping.yaml --address 10.0.0.5:6379 --input inputs.json --force
    """
    if attach is not None:
        for option, value in (("module:callable", model), ("--into", into), ("--name", name), ("--pool", pool)):
            if value is not None:
                raise UsageError(mismatch(option, "nothing with --attach", value))
        return _profile_attached(
            Path(attach), address, deployments, batches, concurrency, (repeats, warmup, loads), inputs, out, force
        )
    if model is None:
        raise UsageError(mismatch("module:callable", "the model to measure, or --attach", None))
    if loads < 2:
        raise UsageError(mismatch("--loads", "2 or more", loads))
    from controller.catalog import load_catalog
    from experiments.calibrated import require_new, write_whole
    from experiments.profile_entry import catalog_yaml, entry_of, entry_yaml, naming_in, require_known
    from experiments.profiling import look_here, measure, parse_batches, read_inputs
    from experiments.show_fits import show_measured

    sizes = parse_batches(batches or _BATCHES)
    if out is not None:
        require_new(Path(out), "--out", force)
    catalog = None if into is None else load_catalog(into)
    naming = naming_in(catalog, model, name, pool)
    # What the user's code prints is no part of the entry.
    with contextlib.redirect_stdout(sys.stderr):
        look_here()
        fed = read_inputs(inputs)
        if catalog is not None:
            require_known(naming, catalog, is_labelled=fed.labels is not None)
        found = measure(
            model,
            sizes,
            fed,
            repeats=repeats,
            warmup=warmup,
            load_repeats=loads,
            say=lambda line: click.echo(line, err=True),
        )
    entry = entry_of(found, naming)
    text = entry_yaml(entry, model) if catalog is None else catalog_yaml(entry, catalog, model)
    show_measured(found, is_error=out is None)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_whole(Path(out), text)
        click.echo(f"wrote {out}")
    return EXIT_DONE


def _profile_attached(
    mapping: Path,
    address: str | None,
    deployments: tuple[str, ...],
    batches: str | None,
    concurrency: int | None,
    counts: tuple[int, int, int],
    inputs: str | None,
    out: str | None,
    force: bool,
) -> int:
    from experiments.attached_probing import ProbeOptions, attached_catalog, probe_all
    from experiments.attached_profile import with_probed
    from experiments.calibrated import require_new, write_whole
    from experiments.profiling import look_here, parse_batches, read_inputs
    from experiments.show_fits import show_probed
    from experiments.starting_text import commented_catalog

    if address is None:
        raise UsageError(mismatch("--address", "host:port of the cluster, with --attach", None))
    if inputs is None:
        raise UsageError(mismatch("--input", "what to send to the application, with --attach", None))
    attached = attached_catalog(mapping)
    path = attached.catalog_path if out is None else Path(out)
    if path is None:
        raise UsageError(mismatch("--out", "a file, since the catalog is a shipped one", None))
    require_new(path, "--out" if out is not None else "catalog", force)
    with contextlib.redirect_stdout(sys.stderr):
        look_here()
        fed = read_inputs(inputs)
    repeats, warmup, starts = counts
    sizes = None if batches is None else tuple(parse_batches(batches))
    options = ProbeOptions(mapping, address, deployments, sizes, concurrency, repeats, warmup, starts)
    probed = probe_all(options, attached, fed, lambda line: click.echo(line, err=True))
    header = f"# Catalog '{attached.catalog.name}' with what `provisor profile --attach {mapping}` measured.\n"
    text = commented_catalog(with_probed(attached.catalog, probed), header)
    show_probed(probed)
    write_whole(path, text)
    click.echo(f"wrote {path}")
    return EXIT_DONE


@click.command()
@click.argument("journals", metavar="JOURNAL...", nargs=-1, required=True)
@click.option("--catalog", "catalog_name", required=True, metavar="CATALOG", help="Catalog to calibrate, name or path.")
@click.option("--out", required=True, metavar="NEW.yaml", help="The calibrated catalog.")
@click.option(
    "--scenario-out", metavar="FILE", help="Also write the first journal's scenario with this catalog and its arrivals."
)
@click.option(
    "--warm-share",
    type=click.FloatRange(0.0, 0.9),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of each journal, from its beginning, whose service times are left out: first calls take longer.",
)
@click.option("--force", is_flag=True, help="Replace the files.")
def calibrate(
    journals: tuple[str, ...], catalog_name: str, out: str, scenario_out: str | None, warm_share: float, force: bool
) -> int:
    """Fit a catalog to what live runs measured.

    Service times (a mean per variant, pool and batch size, and their quantiles), launches, loads, swaps and cold starts
    come from the journals of `provisor serve`; so does the arrival model (rate, CV of the gaps), which --scenario-out
    writes. Every fifth window judges the fits. Figures with too few samples stay as the catalog has them, and so do
    means of few samples that do not contradict it.

    \b
    Example:
      provisor serve --replay scenario --duration 120 --speed 20 --start-hour 9 --out runs/serve
      provisor calibrate runs/serve/journal.jsonl --catalog demo --out measured.yaml --scenario-out measured-demo.yaml
      provisor evaluate --scenario ./measured-demo.yaml --policy mpc
    """
    from controller.catalog import load_catalog
    from experiments.calibrated import calibrated_scenario, calibrated_yaml, require_new, write_whole
    from experiments.calibration import Calibrator
    from experiments.journal_samples import read_samples
    from experiments.show import echo_truncations
    from experiments.show_fits import show_fits

    written = {"--out": Path(out)} | ({} if scenario_out is None else {"--scenario-out": Path(scenario_out)})
    for option, path in written.items():
        require_new(path, option, force)
    if scenario_out is not None and Path(scenario_out).resolve() == Path(out).resolve():
        raise UsageError(mismatch("--scenario-out", "another file than --out", scenario_out))
    catalog = load_catalog(catalog_name)
    with echo_truncations():
        samples = read_samples([Path(journal) for journal in journals], catalog, warm_share)
    fits = Calibrator(samples, catalog).fits()
    texts = [calibrated_yaml(catalog, fits, samples.sources)]
    if scenario_out is not None:
        texts.append(calibrated_scenario(fits, samples.sources, Path(out), Path(scenario_out)))
    show_fits(fits)
    for path, text in zip(written.values(), texts, strict=True):
        write_whole(path, text)
        click.echo(f"wrote {path}")
    return EXIT_DONE
