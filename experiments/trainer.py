"""Trains one seed: rollouts, updates, checkpoints, validation and the choice of what is exported.

A run is a function of its settings and seed. It can be stopped at any moment and resumed from its last checkpoint, and
ends with the weights it would have ended with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from experiments import checkpoint
from experiments.objective import Score
from experiments.ppo import KnobPpo, zero_tensors
from experiments.train_config import TrainConfig

Tensors = Mapping[str, NDArray[np.float32]]
Validate = Callable[[Tensors, float], Score]

DIAL_STEP = 1.4
"""Factor between the dial in use and the one tried beside it at each validation."""

DIAL_RANGE = (0.25, 4.0)
"""Dials that training has seen."""


class Progress(Protocol):
    """Told how far a training is; shows it."""

    def rollout(self, steps: int, mean_return: float) -> None:
        """A rollout and its update are done."""

    def validated(self, steps: int, score: Score, rule: Score) -> None:
        """The policy was evaluated on the validation days."""


@dataclass
class Selection:
    """The best policy by validation so far; begins with the rule itself."""

    rule: Score
    best: Score
    best_steps: int  # 0: the rule
    best_tensors: dict[str, NDArray[np.float32]]
    best_dial: float = 1.0
    dial: float = 1.0  # the one that suits the present weights
    since_best: int = 0  # validations
    last_steps: int = 0  # at the last validation
    curve: list[tuple[int, float]] = field(default_factory=list)  # (steps, value)

    def offer(self, steps: int, tensors: Tensors, score: Score, least_gain: float) -> bool:
        """Takes over weights better than the best, and than the rule by the least gain; says whether it did."""
        self.curve.append((steps, score.value))
        self.last_steps = steps
        is_better = score.value < min(self.best.value, self.rule.value * (1.0 - least_gain))
        if is_better:
            self.best, self.best_steps, self.best_dial, self.since_best = score, steps, self.dial, 0
            self.best_tensors = {name: array.copy() for name, array in tensors.items()}
        else:
            self.since_best += 1
        return is_better

    def plain(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        import torch

        return {
            "rule": _plain_score(self.rule),
            "best": _plain_score(self.best),
            "best_steps": self.best_steps,
            "best_tensors": {name: torch.from_numpy(array.copy()) for name, array in self.best_tensors.items()},
            "best_dial": self.best_dial,
            "dial": self.dial,
            "since_best": self.since_best,
            "last_steps": self.last_steps,
            "curve": [list(point) for point in self.curve],
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Selection:
        """The selection a checkpoint holds."""
        return Selection(
            rule=_score_of(plain["rule"]),
            best=_score_of(plain["best"]),
            best_steps=plain["best_steps"],
            best_tensors={name: tensor.numpy() for name, tensor in plain["best_tensors"].items()},
            best_dial=plain["best_dial"],
            dial=plain["dial"],
            since_best=plain["since_best"],
            last_steps=plain["last_steps"],
            curve=[(int(steps), float(value)) for steps, value in plain["curve"]],
        )


def train_seed(
    env: VecEnv,
    config: TrainConfig,
    seed: int,
    folder: Path,
    validate: Validate,
    *,
    config_sha256: str,
    resume: bool = False,
    progress: Progress | None = None,
    stop_after_rollouts: int | None = None,
) -> Selection:
    """Trains until the steps are used up or validation no longer improves.

    Args:
        env: Environments made with this seed; they have `snapshot` and `restore`.
        config: Settings.
        seed: Of weights and exploration.
        folder: Holds `checkpoint.pt` and TensorBoard's files.
        validate: Deterministic evaluation of a knob network at a dial on the validation days.
        config_sha256: Identifies the settings; a checkpoint of others is refused.
        resume: Go on from the checkpoint in `folder`, if there is one.
        progress: Told of every rollout and validation.
        stop_after_rollouts: Stop, as an interruption would, after this many rollouts of this call.

    Returns:
        The selection.

    Raises:
        UsageError: The checkpoint cannot be used.
        KeyboardInterrupt: As given, after the checkpoint was written.
    """
    path = folder / "checkpoint.pt"
    model = KnobPpo(env, config.ppo, seed, config.steps)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    if resume and path.exists():
        held = checkpoint.read(path, config_sha256)
        checkpoint.put(model, held)
        selection = Selection.of(held["selection"])
    else:
        sizes = [space.shape for space in (env.observation_space, env.action_space)]
        assert sizes[0] is not None
        assert sizes[1] is not None
        zero = zero_tensors(sizes[0][0], config.ppo.hidden, sizes[1][0])
        rule = validate(zero, 1.0)
        selection = Selection(rule, rule, 0, zero)
        held = {}
    rollouts = 0
    try:
        while model.num_timesteps < config.steps and selection.since_best < config.validation.patience:
            if stop_after_rollouts is not None and rollouts >= stop_after_rollouts:
                raise KeyboardInterrupt
            model.learn(config.ppo.rollout_steps, reset_num_timesteps=False)
            rollouts += 1
            if progress is not None:
                progress.rollout(model.num_timesteps, _mean_return(model))
            is_last = model.num_timesteps >= config.steps
            if model.rollouts_done % config.validation.every_rollouts == 0 or is_last:
                _validate(model, selection, validate, config, progress)
            held = checkpoint.take(model, selection.plain(), config_sha256)
            if model.rollouts_done % config.checkpoint_every_rollouts == 0:
                checkpoint.write(path, held)
        if rollouts:
            checkpoint.write(path, held)
    except KeyboardInterrupt:
        # The state after the last whole rollout: what was begun since is drawn again, equal, on resume.
        if held:
            checkpoint.write(path, held)
        raise
    finally:
        model.logger.close()
    return selection


def _validate(
    model: KnobPpo, selection: Selection, validate: Validate, config: TrainConfig, progress: Progress | None
) -> None:
    if model.rollouts_done <= config.ppo.burn_in_rollouts:
        return  # the actor has not moved
    tensors = model.knob_tensors()
    score = validate(tensors, selection.dial)
    if config.randomise_dial:
        # Too many misses ask for a higher value of a miss, unused room for a lower one.
        other = selection.dial * (DIAL_STEP if score.excess_miss > 0 else 1.0 / DIAL_STEP)
        other = min(max(other, DIAL_RANGE[0]), DIAL_RANGE[1])
        beside = validate(tensors, other)
        if beside.value < score.value:
            score, selection.dial = beside, other
    selection.offer(int(model.num_timesteps), tensors, score, config.validation.least_gain)
    for name, value in (("value", score.value), ("cost_usd", score.cost_usd), ("dial", selection.dial)):
        model.logger.record(f"validation/{name}", value)
    model.logger.record("validation/gain", 1.0 - score.value / selection.rule.value)
    model.logger.dump(model.num_timesteps)
    if progress is not None:
        progress.validated(int(model.num_timesteps), score, selection.rule)


def _mean_return(model: KnobPpo) -> float:
    episodes = model.ep_info_buffer or ()
    return float(np.mean([episode["r"] for episode in episodes])) if episodes else math.nan


def _plain_score(score: Score) -> dict[str, Any]:
    return {**vars(score), "miss_share": list(score.miss_share), "accuracy": list(score.accuracy)}


def _score_of(plain: Mapping[str, Any]) -> Score:
    return Score(**{**plain, "miss_share": tuple(plain["miss_share"]), "accuracy": tuple(plain["accuracy"])})
