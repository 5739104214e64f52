"""Evolution strategies on a linear knob policy: a learner without gradients of actions, values or credit assignment.

In every generation each environment plays one episode with its own perturbation of the weights; the weights move along
the perturbations, weighed by the rank of what they earned (Salimans et al., "Evolution Strategies as a Scalable
Alternative to Reinforcement Learning", arXiv 1703.03864, with antithetic pairs and Adam). Rewards are relative to the
rule under the same randomness, so two perturbations need not meet the same episode to be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from controller.arrays import F64
from controller.errors import UsageError
from experiments.checkpoint import Restorable
from experiments.selection import AS_IS, Progress, Selection, Validate, offer_validated
from experiments.train_config import EvolutionConfig, TrainConfig

CHECKPOINT = "evolution.npz"


@dataclass
class Search:
    """Weights and the optimizer's memory; a linear policy of K knobs on D observations has K (D + 1) weights."""

    weights: F64  # (W,)
    mean: F64  # (W,) Adam's running mean of the gradient
    square: F64  # (W,) and of its square
    generation: int = 0

    def step(self, gradient: F64, config: EvolutionConfig) -> None:
        """One step of Adam uphill."""
        self.generation += 1
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient * gradient - self.square)
        mean = self.mean / (1.0 - 0.9**self.generation)
        square = self.square / (1.0 - 0.999**self.generation)
        self.weights += config.learning_rate * mean / (np.sqrt(square) + 1e-8)
        self.weights *= 1.0 - config.learning_rate * config.weight_decay


def new_search(num_weights: int) -> Search:
    """Weights of zero: the rule."""
    return Search(np.zeros(num_weights), np.zeros(num_weights), np.zeros(num_weights))


def perturbations(seed: int, generation: int, population: int, num_weights: int) -> F64:
    """Standard normal draws in antithetic pairs, (population, W); of an odd population the last one is 0."""
    half = population // 2
    draws = np.random.default_rng([seed, generation, 0xE5]).standard_normal((half, num_weights))
    rest = np.zeros((population - 2 * half, num_weights))
    return np.concatenate([draws, -draws, rest])


def rank_weights(returns: F64) -> F64:
    """Centred ranks in [-0.5, 0.5], (population,); equal returns share their mean rank."""
    order = np.argsort(returns, kind="stable")
    ranks = np.empty(len(returns))
    ranks[order] = np.arange(len(returns))
    _, inverse = np.unique(returns, return_inverse=True)
    ranks = (np.bincount(inverse, ranks) / np.bincount(inverse))[inverse]
    return ranks / max(len(returns) - 1, 1) - 0.5


def act(weights: F64, observations: NDArray[np.floating[Any]], num_knobs: int) -> F64:
    """Knobs (N, K) of one set of weights per env, (N, W), clipped to [-1, 1]."""
    num_envs, size = observations.shape
    parts = weights.reshape(num_envs, num_knobs, size + 1)
    knobs = np.einsum("nkd,nd->nk", parts[:, :, :size], observations) + parts[:, :, size]
    return np.asarray(np.clip(knobs, -1.0, 1.0), np.float64)


def tensors_of(weights: F64, size: int, num_knobs: int) -> dict[str, NDArray[np.float32]]:
    """A linear policy as a policy file holds it."""
    parts = weights.reshape(num_knobs, size + 1)
    return {
        "knobs.0.weight": np.ascontiguousarray(parts[:, :size], np.float32),
        "knobs.0.bias": np.ascontiguousarray(parts[:, size], np.float32),
    }


def evolve_seed(
    env: VecEnv,
    config: TrainConfig,
    seed: int,
    folder: Path,
    validate: Validate,
    *,
    config_sha256: str,
    resume: bool = False,
    progress: Progress | None = None,
    stop_after_generations: int | None = None,
) -> Selection:
    """Searches until the steps are used up or validation no longer improves.

    Args:
        env: Environments made with this seed, whose episodes all have the same length; they have `snapshot` and
            `restore`.
        config: Settings.
        seed: Of the perturbations.
        folder: Holds the checkpoint.
        validate: Deterministic evaluation of a knob network at a dial on the validation days.
        config_sha256: Identifies the settings; a checkpoint of others is refused.
        resume: Go on from the checkpoint in `folder`, if there is one.
        progress: Told of every generation and validation.
        stop_after_generations: Stop, as an interruption would, after this many generations of this call.

    Raises:
        UsageError: The checkpoint cannot be used.
        KeyboardInterrupt: As given, after the checkpoint was written.
    """
    assert isinstance(env, Restorable)
    assert env.observation_space.shape is not None
    assert env.action_space.shape is not None
    size, num_knobs = env.observation_space.shape[0], env.action_space.shape[0]
    path = folder / CHECKPOINT
    search = new_search(num_knobs * (size + 1))
    observations = np.asarray(env.reset())
    if resume and path.exists():
        search, selection, observations = _read(path, config_sha256, env)
    else:
        rule = validate(tensors_of(search.weights, size, num_knobs), AS_IS)
        selection = Selection(rule, rule, 0, tensors_of(search.weights, size, num_knobs))
    decisions = config.episode_decisions * env.num_envs
    done = 0
    while search.generation * decisions < config.steps and selection.since_best < config.validation.patience:
        if stop_after_generations is not None and done >= stop_after_generations:
            raise KeyboardInterrupt
        noise = perturbations(seed, search.generation, env.num_envs, len(search.weights))
        candidates = search.weights + config.evolution.sigma * noise
        returns = np.zeros(env.num_envs)
        for _ in range(config.episode_decisions):
            seen, rewards, _, _ = env.step(act(candidates, observations, num_knobs).astype(np.float32))
            observations = np.asarray(seen)
            returns += rewards
        gradient = rank_weights(returns) @ noise / (env.num_envs * config.evolution.sigma)
        search.step(np.asarray(gradient), config.evolution)
        done += 1
        steps = search.generation * decisions
        if progress is not None:
            progress.rollout(steps, float(returns.mean()))
        if search.generation % config.evolution.validate_every == 0 or steps >= config.steps:
            tensors = tensors_of(search.weights, size, num_knobs)
            offer_validated(selection, steps, tensors, validate, config, progress)
        _write(path, search, selection, observations, config_sha256, env)
    return selection


def _write(
    path: Path, search: Search, selection: Selection, observations: F64, config_sha256: str, env: Restorable
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    plain = selection.plain()
    tensors = {f"best.{name}": tensor.numpy() for name, tensor in plain.pop("best_tensors").items()}
    held: dict[str, Any] = {
        "weights": search.weights,
        "mean": search.mean,
        "square": search.square,
        "generation": search.generation,
        "observations": observations,
        "config_sha256": config_sha256,
        "selection": json.dumps(plain),
        **tensors,
        **{f"envs.{name}": array for name, array in env.snapshot().items()},
    }
    with partial.open("wb") as stream:
        np.savez(stream, **held)
    partial.replace(path)


def _read(path: Path, config_sha256: str, env: Restorable) -> tuple[Search, Selection, F64]:
    import torch

    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
        found = str(held["config_sha256"])
        plain: Mapping[str, Any] = json.loads(str(held["selection"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UsageError(f"{path}: expected a whole checkpoint, got: {error}; start anew without --resume") from error
    if found != config_sha256:
        raise UsageError(
            f"{path}: expected a checkpoint of the same settings, got one of others; start anew without --resume"
        )
    best = {name.removeprefix("best."): torch.from_numpy(a) for name, a in held.items() if name.startswith("best.")}
    env.restore({name.removeprefix("envs."): a for name, a in held.items() if name.startswith("envs.")})
    search = Search(held["weights"], held["mean"], held["square"], int(held["generation"]))
    return search, Selection.of({**plain, "best_tensors": best}), held["observations"]
