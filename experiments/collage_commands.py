"""The verbs of collages."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE, EXIT_FAILED, UsageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def collage() -> None:
    """Train networks that classify a whole collage of images in one pass.

    \b
    Example:
      provisor collage train digits --w 2,3,4 --out runs/collage
    """


@collage.command()
@click.argument("task", type=click.Choice(["digits", "fashion"]))
@click.option("--w", "sides", default="2,3,4,5", show_default=True, metavar="W,...", help="Cells of an edge.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="Each its split.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the networks.")
@click.option("--anew", is_flag=True, help="Train even where the weights are in the cache folder.")
def train(task: str, sides: str, seeds: int, out: Path, anew: bool) -> int:
    """Train collage networks and the single-image network beside them, with equal budgets.

    Of every network the folder gets the weights of the first seed (safetensors) and a manifest (JSON); the table shows
    accuracy on held-out images and the work and time of a pass. Digits take some two minutes on two cores,
    Fashion-MNIST some half an hour.

    \b
    Example:
      provisor collage train digits --w 2,3,4 --seeds 3 --out runs/collage
    """
    from experiments.collage.networks import TITLES, lines, to_json, train_task
    from experiments.collage.show import show_table

    allowed = ("2", "3", "4", "5")
    words = [word.strip() for word in sides.split(",")]
    if not words or any(word not in allowed for word in words):
        raise UsageError(f"--w: expected a list of {', '.join(allowed)}, got {sides!r}")
    chosen = sorted({int(word) for word in words})
    found = train_task(task, lambda line: click.echo(line, err=True), sides=chosen, seeds=seeds, out=out, is_anew=anew)
    (out / f"{task}.json").write_text(to_json(found), encoding="utf-8")
    show_table(f"{task}: networks, mean of {seeds} seeds", TITLES, lines(found))
    click.echo(f"wrote {out}")
    return EXIT_DONE


@click.command("collage")
@click.option("--check", is_flag=True, help="Train digits anew; exit with 1 where a value falls short of its bar.")
@click.option("--full", is_flag=True, help="Train Fashion-MNIST's networks too, for 3 seeds; keep what is measured.")
@click.option("--live", is_flag=True, help="Run the modes on a local Ray Serve too; --check always does.")
@click.option("--out", default="runs/experiment/collage", show_default=True, metavar="DIR", help="Folder of results.")
def study(check: bool, full: bool, live: bool, out: str) -> int:
    """Hold collages to re-sending, hedges and replication, on measured latencies of workers.

    Groups of 9, 16 and 25 requests whose latencies are drawn from the measured file, each by itself and in blocks;
    every mode of redundancy on the same draws, by pass ratio; an event-by-event replay under the rules' own code; the
    modes of the plan in the simulated world, where policies choose among them on a day of DIR/workers.yaml; real
    networks on a local Ray Serve whose workers straggle as measured (--live); and the accuracy of collage networks of
    digits (trained anew with --check) and of Fashion-MNIST (as it was measured; with --full now, in half an hour for
    each seed that is not in the cache folder). Some ten minutes on two cores; needs $PROVISOR_DATA.

    \b
    Example:
      provisor experiment collage --check
    """
    from envs.world import DATA_VARIABLE, expand_path
    from experiments.collage.run import run_collage

    root = Path(expand_path(f"${DATA_VARIABLE}", DATA_VARIABLE))
    holds = run_collage(
        Path(out),
        root,
        lambda line: click.echo(line, err=True),
        is_full=full,
        is_anew=check,
        is_live=live or check,
    )
    return EXIT_DONE if holds or not check else EXIT_FAILED
