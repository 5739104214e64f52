"""The verbs that learn: `train` and `demo`; each imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.errors import EXIT_DONE

if TYPE_CHECKING:
    from experiments.learning_progress import LearningProgress


@click.command()
@click.argument("run_file", metavar="RUN.yaml")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Decisions per seed, in place of train.steps.")
@click.option("--out", metavar="DIR", help="Run folder.  [default: runs/train/NAME]")
@click.option("--ablation", "ablations", multiple=True, metavar="NAME", help="Change laid over the run; repeatable.")
@click.option("--resume", is_flag=True, help="Go on with the training in the run folder.")
def train(run_file: str, steps: int | None, out: str | None, ablations: tuple[str, ...], resume: bool) -> int:
    """Learn a policy and export it as one file.

    Tunes the rule first, then learns to turn its knobs; what is best on the validation days is exported. Ctrl-C leaves
    a checkpoint, and so does a kill; --resume ends with the same policy as if nothing had happened. An --ablation is a
    file, or one of experiments/configs/ablations: no-warm-start, no-forecaster, ppo, evolution, schedule, constants,
    recurrent, residual, direct, per-option; the last four are judged only.

    \b
    Example:
      provisor train RUN.yaml --steps 200000 --out runs/train/first
      provisor train RUN.yaml --steps 200000 --out runs/train/first --resume
      provisor train RUN.yaml --steps 200000 --ablation residual
      provisor evaluate --scenario demo --policy mpc --policy runs/train/first/policy.provisor
    """
    from experiments.ablations import ablated_run
    from experiments.train import RULE
    from experiments.train import train as run_training

    run = ablated_run(run_file, ablations)
    folder = Path(out) if out else Path("runs/train") / run.name
    try:
        with _training_progress(run.scenario) as progress:
            found = run_training(run, folder, resume=resume, steps=steps, progress=progress)
    except KeyboardInterrupt:
        changed = "".join(f" --ablation {one}" for one in ablations)
        click.echo(f"stopped; continue with: provisor train {run_file}{changed} --out {folder} --resume", err=True)
        raise
    for one in found.policies:
        if one.path is None:
            compared = f"{abs(one.gain):.2%} {'better' if one.gain > 0.0 else 'worse'} than the rule on validation"
            click.echo(f"seed {one.seed}: {compared}; nothing is exported of this learner or action")
            continue
        what = (
            f"{one.gain:.2%} better than the rule on validation"
            if one.gain > 0.0
            else "no better than the rule: it is exported"
        )
        click.echo(f"seed {one.seed}: {what} ({one.path})")
    click.echo(f"policy {found.best}" if found.best is not None else f"rule {folder / RULE}")
    return EXIT_DONE


@click.command()
@click.option("--out", default="runs/demo", show_default=True, metavar="DIR", help="Folder of all results.")
@click.option("--no-live", is_flag=True, help="Leave out the last stage, which starts a local Ray.")
def demo(out: str, no_live: bool) -> int:
    """Do the whole job on a generated trace: learn, compare on unseen days, serve live.

    Takes less than 12 minutes on two cores and needs no file but this package.

    \b
    Example:
      provisor demo --out runs/demo
    """
    from experiments.demo import demo as run_demo
    from experiments.demo import demo_run
    from experiments.show import show_rows

    with _training_progress(demo_run().scenario) as progress:
        done = run_demo(Path(out), progress.say, is_live=not no_live, progress=progress)
    show_rows(done.evaluation.rows)
    if done.live is not None:
        from experiments.show_live import show_live

        show_live(done.live)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in done.seconds.items())
    click.echo(f"stages: {stages}; in all {sum(done.seconds.values()):.0f} s")
    click.echo(f"policy {done.training.best}")
    click.echo(f"report {done.report}")
    return EXIT_DONE


def _training_progress(scenario: str) -> LearningProgress:
    from controller.scenario import load_scenario
    from experiments.learning_progress import LearningProgress

    return LearningProgress(load_scenario(scenario).control.ticks_per_decision)
