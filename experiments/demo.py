"""The whole job on the generated trace: learn a policy, compare it with rules on unseen days, let it serve live."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from controller.config import RUN_HEADER
from controller.errors import UsageError
from experiments.evaluate import REPORT, run_evaluation
from experiments.live import LiveOptions, LiveResult
from experiments.outcome import Evaluation
from experiments.progress import RichProgress
from experiments.run_config import RunConfig, load_run
from experiments.train import RULE, Training, TrainProgress, train

LIVE_S = 120.0
LIVE_SPEED = 20.0
LIVE_START_HOUR = 18.0
"""Two minutes live are 40 minutes of the trace, in the evening, when most requests come."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """What the stages came to."""

    training: Training
    evaluation: Evaluation
    live: LiveResult | None
    report: Path
    seconds: dict[str, float]  # by stage


def demo_run() -> RunConfig:
    """The run file of the demo."""
    with resources.as_file(resources.files("experiments") / "configs" / "demo.yaml") as path:
        return load_run(path)


def demo(out: Path, say: Say, *, is_live: bool = True, progress: TrainProgress | None = None) -> Demo:
    """Trains, evaluates, serves.

    Args:
        out: Folder of the demo; an earlier demo in it is replaced.
        say: Prints one line.
        is_live: Whether to serve live at the end.
        progress: Told what the training does.

    Raises:
        ProvisorError: A stage failed, or the folder holds something else.
    """
    run = demo_run()
    _clear(out)
    seconds: dict[str, float] = {}
    say(f"1/3 learning on days {_days(run, 'train')} of the generated trace, choosing on {_days(run, 'validation')}")
    began_s = time.monotonic()
    training = train(run, out / "train", progress=progress)
    assert training.best is not None  # knobs are learned, which are exported
    seconds["train"] = time.monotonic() - began_s
    say(f"learned in {seconds['train']:.0f} s")
    say(f"2/3 comparing with rules on days {_days(run, 'test')}, which nothing has seen")
    began_s = time.monotonic()
    policies = (*run.policies, str(training.best.with_name(RULE)), str(training.best))
    compared = run.model_copy(update={"policies": policies, "out": str(out / "evaluate")})
    with RichProgress() as bars:
        evaluation, _ = run_evaluation(compared, bars)
    if evaluation.is_partial:
        raise KeyboardInterrupt
    seconds["evaluate"] = time.monotonic() - began_s
    say(f"compared in {seconds['evaluate']:.0f} s")
    live = None
    if is_live:
        from experiments.serve import serve

        say(f"3/3 serving live for {LIVE_S:.0f} s")
        began_s = time.monotonic()
        live = serve(
            LiveOptions(
                scenario=run.scenario,
                policy=str(training.best),
                is_replaying=True,
                duration_s=LIVE_S,
                speed=LIVE_SPEED,
                start_hour=LIVE_START_HOUR,
                port=free_port(),
                out=out / "serve",
            ),
            say,
        )
        seconds["serve"] = time.monotonic() - began_s
        if live.is_partial:
            raise KeyboardInterrupt
    return Demo(training, evaluation, live, out / "evaluate" / REPORT, seconds)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _days(run: RunConfig, part: str) -> str:
    from controller.scenario import load_scenario

    first, last = getattr(load_scenario(run.scenario).splits, part)
    return str(first) if first == last else f"{first}-{last}"


def _clear(out: Path) -> None:
    """Removes an earlier demo, and nothing else."""
    if not out.exists():
        return
    if any(out.iterdir()) and not (out / "train" / RUN_HEADER).exists():
        raise UsageError(f"out: expected an empty folder or that of an earlier demo, got {out}")
    for part in ("train", "evaluate", "serve"):
        shutil.rmtree(out / part, ignore_errors=True)
