"""Behaviour cloning: a knob network that imitates, from what it sees, the rule that is told the rate to come.

Teacher and student are the same rule and differ in the demand they plan for: the teacher for the largest rate of the
next minutes, the student for a quantile of its forecast. So the teacher's decision is one number in the student's own
terms, the headroom knob that makes both needs equal, and the other knobs are left at 0: what is told of the rate says
nothing of them. The student's need is taken at a dial of 1, so that the dial still moves what the clone does.

States are those that the student meets: in the first round the rule's, then the clone's own (Ross et al., "A Reduction
of Imitation Learning and Structured Prediction to No-Regret Online Learning", arXiv 1011.0686). Imported on use only.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from controller.arrays import F64
from controller.errors import UsageError
from controller.kernels.mpc import FACTOR
from controller.observation import field_start
from controller.rule_arrays import HEADROOM, NUM_KNOBS
from envs.joint_world import JointWorld
from envs.world import World
from experiments.base_rule import BaseRule
from experiments.clairvoyant import RatesAhead
from experiments.dense import dense
from experiments.train_config import CloneConfig, TrainConfig
from experiments.training_env import TrainingEnv, training_env

F32 = NDArray[np.float32]
Tensors = dict[str, F32]

LEAST_SHARE = 0.01  # of the scenario's mean rate: below it a ratio of rates says nothing
_STREAM = 0xC10E
_LEVEL = field_start("level")
_OWN_GROWTH = field_start("growth") + 4


@dataclass(frozen=True, eq=False)
class Samples:
    """What the student saw, and how much more the teacher would have planned for."""

    seen: F32  # (S, D)
    log_ratio: F64  # (S,) log of the largest rate to come / the demand that the student plans for

    def targets(self, shift: float) -> F64:
        """Headroom knobs (S,) in [-1, 1] that make both needs equal."""
        return np.clip((self.log_ratio + shift) / FACTOR, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Clone:
    """A knob network and how well it imitates."""

    tensors: Tensors
    report: dict[str, Any]


def log_ratios(seen: F32, most_rps: F64, prior_rps: F64 | float) -> F64:
    """Log of the largest rate to come over the demand that the untouched rule plans for, (N,).

    Args:
        seen: (N, D) encoded observations, which tell the rate now and the rule's own growth factor.
        most_rps: (N,) largest rate to come.
        prior_rps: Mean rate of the scenario.
    """
    student = seen[:, _LEVEL].astype(np.float64) + 0.5 * seen[:, _OWN_GROWTH]
    floor = LEAST_SHARE * np.asarray(prior_rps)
    return np.asarray(np.log(np.maximum(most_rps, floor) / prior_rps) - np.maximum(student, np.log(LEAST_SHARE)))


def collect(
    env: TrainingEnv, seen: F32, tensors: Tensors | None, decisions: int, horizon_s: float
) -> tuple[F32, Samples]:
    """Plays decisions of every env under a knob network and notes what the teacher would have planned for.

    Args:
        env: Environments.
        seen: (N, D) their present observations.
        tensors: The network; None: the rule itself.
        decisions: Of each env.
        horizon_s: How far ahead the teacher is told.

    Returns:
        The observations at the end, and the samples in the order of decisions, then envs.
    """
    rates = [RatesAhead(stepper.world, horizon_s) for stepper in env.steppers]
    prior_rps = np.concatenate([np.full(s.num_envs, s.setting.scenario.mean_rps) for s in env.steppers])
    noted: list[F32] = []
    ratios: list[F64] = []
    for _ in range(decisions):
        told = [
            one.told(stepper.trace_s, _end_s(stepper.world, stepper.trace_s))[1]
            for one, stepper in zip(rates, env.steppers, strict=True)
        ]
        noted.append(seen)
        ratios.append(log_ratios(seen, np.concatenate(told), prior_rps))
        knobs = np.zeros((len(seen), NUM_KNOBS)) if tensors is None else dense(tensors, seen)
        found = env.step(knobs)
        seen = np.asarray(found[0], np.float32)
    return seen, Samples(np.concatenate(noted), np.concatenate(ratios))


def fit(
    samples: Samples, held_out: Samples, shift: float, hidden: Sequence[int], config: CloneConfig, seed: int
) -> Clone:
    """Fits a network to the targets by Huber loss; the epoch that is best on the held-out samples is kept.

    Args:
        samples: To learn from.
        held_out: To choose the epoch by and to report on.
        shift: Log of the teacher's headroom over the student's.
        hidden: Widths of the hidden layers.
        config: Settings.
        seed: Of weights and order.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = (samples.seen.shape[1], *hidden, 1)
    weights, biases = [], []
    for inputs, outputs in itertools.pairwise(sizes):
        drawn = torch.randn(outputs, inputs, generator=generator) / np.sqrt(inputs)
        weights.append(torch.nn.Parameter(drawn))
        biases.append(torch.nn.Parameter(torch.zeros(outputs)))
    with torch.no_grad():
        weights[-1].zero_()  # begins as the rule

    def answered(values: torch.Tensor) -> torch.Tensor:
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            values = torch.nn.functional.linear(values, weight, bias)
            values = values if layer == len(weights) - 1 else torch.tanh(values)
        return values[:, 0]

    seen, target = torch.from_numpy(samples.seen), torch.from_numpy(samples.targets(shift).astype(np.float32))
    other_seen = torch.from_numpy(held_out.seen)
    other_target = torch.from_numpy(held_out.targets(shift).astype(np.float32))
    loss_of = torch.nn.HuberLoss(delta=config.huber)
    optimizer = torch.optim.AdamW([*weights, *biases], lr=config.learning_rate, weight_decay=config.weight_decay)
    best_loss, best_epoch = np.inf, 0
    best = [one.detach().clone() for one in (*weights, *biases)]
    for epoch in range(config.epochs + 1):
        with torch.no_grad():
            loss = float(loss_of(answered(other_seen), other_target))
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best = [one.detach().clone() for one in (*weights, *biases)]
        if epoch == config.epochs:
            break
        order = torch.randperm(len(target), generator=generator)
        for first in range(0, len(order), config.batch_size):
            chosen = order[first : first + config.batch_size]
            optimizer.zero_grad()
            loss_of(answered(seen[chosen]), target[chosen]).backward()
            optimizer.step()
    tensors = _widened([one.numpy() for one in best[: len(weights)]], [one.numpy() for one in best[len(weights) :]])
    report = {
        "r2": r_squared(tensors, held_out, shift),
        "r2_train": r_squared(tensors, samples, shift),
        "samples": len(target),
        "held_out_samples": len(other_target),
        "epoch": best_epoch,
    }
    return Clone(tensors, report)


def r_squared(tensors: Mapping[str, F32], samples: Samples, shift: float) -> float:
    """Share of the variance of the targets that a network explains; 0 where they do not vary."""
    target = samples.targets(shift)
    error = np.clip(dense(tensors, samples.seen)[:, HEADROOM], -1.0, 1.0) - target
    spread = float(((target - target.mean()) ** 2).sum())
    return 1.0 - float((error**2).sum()) / spread if spread > 0.0 else 0.0


def clone_seed(
    worlds: Sequence[World],
    held_out: Sequence[World],
    config: TrainConfig,
    base: BaseRule,
    seed: int,
    folder: Path,
    *,
    config_sha256: str,
    resume: bool = False,
) -> Clone:
    """Clones for one seed, or reads back what was cloned.

    Args:
        worlds: Worlds of the training days.
        held_out: Worlds of the validation days: they choose the epoch and give the error reported.
        config: Settings.
        base: The rule.
        seed: Of episodes and weights.
        folder: Holds `clone.npz` and `clone.json`.
        config_sha256: Identifies the settings.
        resume: Whether an earlier clone is read back.

    Raises:
        UsageError: What is read back is of other settings.
    """
    arrays_path, report_path = folder / "clone.npz", folder / "clone.json"
    if resume and arrays_path.exists() and report_path.exists():
        report = json.loads(report_path.read_text(encoding="utf-8"))
        if report.pop("config_sha256", None) != config_sha256:
            raise UsageError(f"{report_path}: expected a clone of the same settings; start anew without --resume")
        with np.load(arrays_path, allow_pickle=False) as held:
            return Clone({name: held[name] for name in held.files}, report)
    torch.set_num_threads(config.ppo.torch_threads)
    clone = _cloned(worlds, held_out, config, base, seed)
    folder.mkdir(parents=True, exist_ok=True)
    partial = arrays_path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **clone.tensors)  # type: ignore[arg-type]  # its stub takes names of options for arrays
    partial.replace(arrays_path)
    text = json.dumps({**clone.report, "config_sha256": config_sha256}, indent=1)
    report_path.write_text(text + "\n", encoding="utf-8")
    return clone


def _cloned(
    worlds: Sequence[World], held_out: Sequence[World], config: TrainConfig, base: BaseRule, seed: int
) -> Clone:
    settings = config.clone
    seeds = [int(one) for one in np.random.SeedSequence([seed, _STREAM]).generate_state(3)]
    envs = [
        training_env(group, config, base, own, twin=False)
        for group, own in zip((worlds, held_out), seeds[:2], strict=True)
    ]
    try:
        seen = [np.asarray(env.reset(), np.float32) for env in envs]
        parts: tuple[list[Samples], list[Samples]] = ([], [])
        clone, shift = None, 0.0
        for _ in range(settings.rounds):
            for group, env in enumerate(envs):
                tensors = None if clone is None else clone.tensors
                seen[group], found = collect(env, seen[group], tensors, settings.decisions, settings.horizon_s)
                parts[group].append(found)
            if clone is None:
                shift = (
                    -float(np.median(parts[0][0].log_ratio))
                    if settings.headroom is None
                    else float(np.log(settings.headroom / base.settings.headroom))
                )
            learned, held = (_joined(one) for one in parts)
            clone = fit(learned, held, shift, config.ppo.hidden, settings, seeds[2] % 2**31)
    finally:
        for env in envs:
            env.close()
    assert clone is not None
    teacher = base.settings.headroom * float(np.exp(shift))
    return Clone(clone.tensors, {**clone.report, "rounds": settings.rounds, "teacher_headroom": teacher})


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(np.concatenate([one.seen for one in parts]), np.concatenate([one.log_ratio for one in parts]))


def _widened(weights: Sequence[F32], biases: Sequence[F32]) -> Tensors:
    """A network of the headroom knob as one of all knobs, the others 0."""
    tensors: Tensors = {}
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if layer == len(weights) - 1:
            wide, wide_bias = np.zeros((NUM_KNOBS, weight.shape[1]), np.float32), np.zeros(NUM_KNOBS, np.float32)
            wide[HEADROOM], wide_bias[HEADROOM] = weight[0], bias[0]
            weight, bias = wide, wide_bias
        tensors[f"knobs.{layer}.weight"], tensors[f"knobs.{layer}.bias"] = weight.copy(), bias.copy()
    return tensors


def _end_s(world: World, at_s: F64) -> F64:
    """Trace time at which what may be told of moments ends, (N,): the end of their day, or of all days."""
    if isinstance(world, JointWorld):
        cells = np.searchsorted(world.begins_s, at_s + 1e-6, side="right") - 1
        return np.asarray(world.begins_s)[np.maximum(cells, 0)] + world.cell_s
    last_s = min(world.days[-1] * world.setting.control.day_s, world.rate_rps.shape[1] * world.bin_s)
    return np.full(len(at_s), last_s)
