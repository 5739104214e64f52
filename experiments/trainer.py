"""Trains one seed: rollouts, updates, checkpoints and validation.

A run is a function of its settings and seed. It can be stopped at any moment and resumed from its last checkpoint, and
ends with the weights it would have ended with.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from experiments import checkpoint
from experiments.input_span import InputSpan
from experiments.objective import Score
from experiments.ppo import FromRule, KnobPpo
from experiments.selection import AS_IS, Progress, Selection, Tensors, Validate, offer_validated
from experiments.train_config import TrainConfig


def train_seed(
    env: VecEnv,
    config: TrainConfig,
    seed: int,
    folder: Path,
    validate: Validate,
    *,
    config_sha256: str,
    rule: Score | None = None,
    start: Tensors | None = None,
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
        validate: Deterministic evaluation of a network at a dial on the validation days.
        config_sha256: Identifies the settings; a checkpoint of others is refused.
        rule: The rule's score; None: that of a network of zeros, whose knobs are the rule.
        start: Network to begin with, which is offered to the selection too; None: zeros, the rule itself.
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
    model = learner(env, config, seed)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    if resume and path.exists():
        held = checkpoint.read(path, config_sha256)
        checkpoint.put(model, held)
        selection = Selection.of(held["selection"])
    else:
        nothing = {name: np.zeros_like(array) for name, array in model.tensors().items()}
        first = validate(nothing, AS_IS)
        selection = Selection(first if rule is None else rule, first, 0, nothing)
        if start is not None:
            model.put_tensors(start)
            offer_validated(selection, 0, start, validate, config, progress)
            selection.since_best = 0  # nothing has been learned yet that patience could be lost with
        held = {}
    rollouts = 0
    try:
        while model.num_timesteps < config.steps and selection.since_best < config.validation.patience:
            if stop_after_rollouts is not None and rollouts >= stop_after_rollouts:
                raise KeyboardInterrupt
            model.learn(config.ppo.rollout_steps, reset_num_timesteps=False)
            rollouts += 1
            seen = InputSpan.over(np.asarray(model.rollout_buffer.observations, np.float32))
            selection.span = seen if selection.span is None else selection.span.joined(seen)
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


def learner(env: VecEnv, config: TrainConfig, seed: int) -> FromRule:
    """The algorithm that the settings name."""
    if config.learner == "recurrent_ppo":
        from experiments.recurrent_ppo import RecurrentKnobPpo

        return RecurrentKnobPpo(env, config.ppo, seed, config.steps)
    if config.action == "per_option":
        from experiments.option_ppo import OptionPpo

        return OptionPpo(env, config.ppo, seed, config.steps)
    return KnobPpo(env, config.ppo, seed, config.steps)


def _validate(
    model: FromRule, selection: Selection, validate: Validate, config: TrainConfig, progress: Progress | None
) -> None:
    if model.rollouts_done <= config.ppo.burn_in_rollouts:
        return  # the actor has not moved
    score = offer_validated(selection, int(model.num_timesteps), model.tensors(), validate, config, progress)
    for name, value in (("value", score.value), ("cost_usd", score.cost_usd), *vars(selection.aim).items()):
        model.logger.record(f"validation/{name}", value)
    model.logger.record("validation/gain", 1.0 - score.value / selection.rule.value)
    model.logger.dump(model.num_timesteps)


def _mean_return(model: FromRule) -> float:
    episodes = model.ep_info_buffer or ()
    return float(np.mean([episode["r"] for episode in episodes])) if episodes else math.nan
