"""The verbs of tolerance tiers, and their study (`provisor experiment tiers`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from controller.tiers.calibration import Calibration

_TOLERANCES = "0,0.01,0.02,0.05,0.1"


Say = Callable[[str], None]


def _images(say: Say, device: str, usd_per_hour: float | None) -> Calibration:
    import torch

    from controller.errors import UsageError, mismatch
    from experiments.tiers import images
    from experiments.tiers.prices import USD_PER_CORE_S

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(mismatch("--device", "cpu, as torch finds no GPU here", device))
    if (device == "cuda") != (usd_per_hour is not None):
        expected = "the price of the GPU's machine" if device == "cuda" else "none, as a core's is known,"
        raise UsageError(mismatch("--usd-per-hour", f"{expected} with --device {device}", usd_per_hour))
    usd_per_s = USD_PER_CORE_S if usd_per_hour is None else usd_per_hour / 3600.0
    return images.calibrate(images.found_task(say), say, device=device, usd_per_s=usd_per_s)


def _speech(say: Say, device: str, usd_per_hour: float | None) -> Calibration:
    from controller.errors import UsageError, mismatch
    from experiments.tiers import speech

    if device != "cpu" or usd_per_hour is not None:
        raise UsageError(mismatch("--device", "cpu for speech, and no --usd-per-hour", device))
    return speech.calibrate(say)


_TASKS: dict[str, Callable[[Say, str, float | None], Calibration]] = {"images": _images, "speech": _speech}
# Each measures all its versions, and says lines of progress.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def tiers() -> None:
    """Let callers give up accuracy for response time or cost, with a guarantee."""


@tiers.command()
@click.argument("task", type=click.Choice(list(_TASKS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.npz", help="The calibration.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where images are trained on and classified: one core, or a GPU.",
)
@click.option("--usd-per-hour", type=click.FloatRange(min=0.0, min_open=True), help="Of a GPU's machine.")
@click.option("--force", is_flag=True, help="Replace --out where it exists.")
def calibrate(task: str, out: Path, device: str, usd_per_hour: float | None, force: bool) -> int:
    """Measure all versions of a task on this machine: error, confidence, time and cost of every request.

    The task "images" has six classifiers of Fashion-MNIST, which npm fetches, or of scikit-learn's digits where it
    cannot; they are trained once, with one budget.

    The task "speech" has five settings of PocketSphinx (`pip install 'provisor[speech]'`) on sentences that the program
    flite speaks, so all of it is synthetic speech. It takes an hour or two; when stopped, it goes on where it was.

    What is fetched, trained and recognised is kept in the cache folder, which PROVISOR_CACHE names.

    \b
    Example:
      provisor tiers calibrate images --out images.npz
      provisor tiers calibrate images --device cuda --usd-per-hour 0.526 --out images-gpu.npz
      provisor tiers calibrate speech --out speech.npz && provisor tiers generate speech.npz --out tiers.json
    """
    from experiments.calibrated import require_new

    require_new(out, "--out", force)
    table = _TASKS[task](lambda line: click.echo(line, err=True), device, usd_per_hour)
    table.save(out)
    click.echo(f"wrote {out}: {len(table)} requests, {len(table.versions)} versions")
    return EXIT_DONE


@tiers.command()
@click.argument("calibration", metavar="CALIBRATION.npz")
@click.option(
    "--tolerances", default=_TOLERANCES, show_default=True, metavar="T,...", help="More error than the best version's."
)
@click.option(
    "--relative", is_flag=True, help="Tolerances are shares of the best version's error, not of all requests."
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    type=click.Choice(["response_time", "cost"]),
    help="What a tier saves; repeatable.  [default: both]",
)
@click.option("--confidence", type=float, default=0.999, show_default=True, help="Of every tier's guarantee.")
@click.option("--thresholds", type=click.IntRange(1, 5000), default=200, show_default=True, help="Cuts of each pair.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of parts and resamples.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="TIERS.json", help="The tiers.")
@click.option("--force", is_flag=True, help="Replace --out where it exists.")
def generate(
    calibration: str,
    tolerances: str,
    relative: bool,
    objectives: tuple[str, ...],
    confidence: float,
    thresholds: int,
    seed: int,
    out: Path,
    force: bool,
) -> int:
    """Search the rule of each tier on a third of a calibration, and prove it on the rest.

    Rules are single versions, and cascades of two with a threshold: one after the other, or both at once and the second
    cancelled where the first is sure. The cheapest is kept whose degradation against the best version stays within the
    tolerance at the stated confidence.

    \b
    Example:
      provisor tiers generate digits.npz --out tiers.json
      provisor tiers generate speech.npz --relative --tolerances 0,0.05,0.1 --out tiers.json
    """
    from controller.tiers import generate as generator
    from controller.tiers.calibration import load_calibration
    from controller.tiers.tier_file import save_tiers, tier_file
    from experiments.calibrated import require_new

    require_new(out, "--out", force)
    table = load_calibration(calibration)
    found = generator.generate(
        table,
        [generator.Tolerance(value, relative) for value in _numbers(tolerances)],
        [generator.Objective(one) for one in objectives] or tuple(generator.Objective),
        confidence=confidence,
        thresholds=thresholds,
        seed=seed,
    )
    save_tiers(tier_file(table, found), out)
    _show(out)
    return EXIT_DONE


@tiers.command("table")
@click.argument("file", metavar="TIERS.json")
def table_(file: str) -> int:
    """Print the tiers of a file: contract, rule, bound, and what a request takes and costs.

    \b
    Example:
      provisor tiers table tiers.json
    """
    _show(Path(file))
    return EXIT_DONE


@tiers.command()
@click.argument("file", metavar="TIERS.json")
@click.option("--calibration", required=True, metavar="TABLE.npz", help="What the tiers were generated from.")
@click.option("--scenario", "base", default="default", show_default=True, metavar="NAME|FILE", help="Has all else.")
@click.option(
    "--mix", metavar="OBJECTIVE:TOLERANCE=SHARE,...", help="Who asks for what.  [default: every tier equally often]"
)
@click.option("--rps", type=float, metavar="N", help="Mean requests/s.  [default: as the scenario]")
@click.option("--slo-response-time", type=float, metavar="S", help="SLO.  [default: 4 times the best version's time]")
@click.option("--slo-cost", type=float, metavar="S", help="SLO.  [default: 12 times the best version's time]")
@click.option(
    "--pool", "pools", multiple=True, metavar="POOL", help="Repeatable.  [default: all without an accelerator]"
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Scenario and catalog.")
@click.option("--force", is_flag=True, help="Replace --out where it exists.")
def scenario(
    file: str,
    calibration: str,
    base: str,
    mix: str | None,
    rps: float | None,
    slo_response_time: float | None,
    slo_cost: float | None,
    pools: tuple[str, ...],
    out: Path,
    force: bool,
) -> int:
    """Write a scenario whose classes are tiers, and a catalog whose variants are the calibration's versions.

    Any verb that takes a scenario takes it: every policy plans for the steps of the tiers' cascades, and simulated
    requests are answered by the calibration's rows. Service times are the calibration's, times how fast each pool is by
    the scenario's catalog.

    \b
    Example:
      provisor tiers scenario tiers.json --calibration speech.npz --mix cost:0=0.5,cost:0.05=0.5 --out mine
      provisor evaluate --scenario mine/scenario.yaml --policy mpc
    """
    from controller.compile import compile_scenario
    from controller.errors import UsageError, mismatch
    from controller.scenario import load_scenario
    from controller.tiers.calibration import load_calibration
    from controller.tiers.generate import Objective
    from controller.tiers.tier_file import load_tiers
    from experiments.calibrated import require_new
    from experiments.tiers.scenarios import SLO_TIMES, catalog_of, even_mix, read_mix, scenario_of, write_scenario

    require_new(out / "scenario.yaml", "--out", force)
    table, found, source = load_calibration(calibration), load_tiers(file), load_scenario(base)
    if table.digest() != found.calibration_sha256:
        expected = f"the calibration that {file} was generated from (sha256 {found.calibration_sha256[:12]})"
        raise UsageError(mismatch("--calibration", expected, f"{calibration} ({table.digest()[:12]})"))
    named = found.named()
    parts = even_mix(named) if mix is None else read_mix(mix, named[0].tolerance.is_relative)
    name = f"{Path(calibration).stem.lower()}-tiers"
    catalog = catalog_of(table, source.load_catalog(), name, pools)
    best_s = min(one.service_s(1) for one in catalog.profiles if one.variant == found.best)
    given = {Objective.RESPONSE_TIME: slo_response_time, Objective.COST: slo_cost}
    slo_s = {one: SLO_TIMES[one] * best_s if own is None else own for one, own in given.items()}
    made = scenario_of(table, named, parts, source, catalog, name, mean_rps=rps, slo_s=slo_s)
    compile_scenario(made, catalog)
    click.echo(f"wrote {write_scenario(made, catalog, out)}: {len(parts)} tiers, {len(table.versions)} versions")
    return EXIT_DONE


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Exit with 1 where a value falls short of its bar.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="TASK.npz",
    help="A calibration, named after its task; repeatable.  [default: those kept with the code]",
)
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="Cuts of each calibration.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0.0, max=24.0),
    default=6.0,
    show_default=True,
    help="Of a trace day on which the whole service is simulated; 0 leaves this part out.",
)
@click.option("--out", default="runs/experiment/tiers", show_default=True, metavar="DIR", help="Folder of results.")
def judge(check: bool, tables: tuple[Path, ...], seeds: int, hours: float, out: str) -> int:
    """What tolerance tiers save, and whether they keep their promise on requests that they were not made from.

    Every calibration is cut anew for each seed: rules are searched and proved on a part of it and judged on the rest.
    Then a service is simulated whose callers ask for all tiers, on a recorded day where PROVISOR_DATA is set: answered
    by the best version alone, by the tiers' single versions, and by cascades, at equal attainment.

    Writes tables (JSON, CSV), plots (PNG) and one page (HTML).

    \b
    Example:
      provisor experiment tiers --check
      provisor experiment tiers --table mine.npz --seeds 5 --out runs/mine
    """
    from experiments.tiers.run import run_study

    holds = run_study(Path(out), lambda line: click.echo(line, err=True), tables, seeds, hours).holds
    return EXIT_DONE if holds or not check else EXIT_FAILED


def _show(path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from controller.tiers.tier_file import load_tiers

    found = load_tiers(path)
    table = Table(
        title=f"{len(found.tiers)} tiers at {found.confidence:.4%} confidence, best version {found.best}, "
        f"{found.requests} requests ({found.source})"
    )
    for name in ("objective", "tolerance", "rule", "degradation", "bound", "ms", "usd per 1000"):
        table.add_column(name, justify="left" if name in ("objective", "rule") else "right", overflow="fold")
    for one in found.tiers:
        rule = one.first
        if one.second is not None:
            rule = f"{one.first} -> {one.second} ({one.form.value}, sure from {one.threshold:.4f})"
        tolerance = f"{one.tolerance:.2%}" + (" of its error" if one.is_relative else "")
        figures = (f"{one.degradation:+.2%}", f"{one.bound:+.2%}", f"{one.latency_s * 1e3:.3f}")
        table.add_row(one.objective.value, tolerance, rule, *figures, f"{one.cost_usd * 1e3:.6f}")
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _numbers(text: str) -> list[float]:
    from controller.errors import UsageError, mismatch

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(mismatch("--tolerances", "numbers with commas between them", text)) from None
    if len(set(found)) != len(found):
        raise UsageError(mismatch("--tolerances", "different numbers", text))
    return found
