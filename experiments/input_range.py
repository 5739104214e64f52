"""What a policy's inputs are on the training days, and how often the drift test would cry wolf on the validation days.

The span of each input is that of all rollouts that a policy learned from; without any, that of two
replays of the same stretches, under the policy and under its rule alone, since live either may have made the fleet.
The false-alarm rate is then measured on days that had no part in the span: they come from the same traces, so every
alarm there is a false one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ObservationArrays, PlanArrays
from controller.policies.learned import LearnedPolicy
from controller.policies.policy_file import InputRange, PolicyContent
from controller.policies.tiered import bare_policy, with_tiers
from controller.trust.config import DriftConfig
from controller.trust.drift import DriftTest
from envs.world import World
from experiments.input_span import InputSpan
from experiments.stretches import Replay, stretched
from experiments.train_config import ValidationConfig

LOW, HIGH = 0.001, 0.999
"""Quantiles taken as the ends of an input's range: the rarest tick in a thousand on either side does not widen it."""

_MOST_ROWS = 10_000
_FEW_WORLDS = 16
"""As many are replayed under every policy; of more, each under one of them by turns."""


@dataclass(frozen=True)
class Stretches:
    """Which parts of the days are replayed."""

    windows: int
    window_s: float
    seed: int


class WatchedPolicy:
    """A policy that keeps its network's inputs of every tick.

    Args:
        policy: Decides.
    """

    def __init__(self, policy: LearnedPolicy) -> None:
        self.name = policy.name
        self.inputs: list[NDArray[np.float32]] = []  # (N, D) by tick
        self._policy = policy

    def reset(self, num_envs: int) -> None:
        """Forgets all state, the inputs included."""
        self._policy.reset(num_envs)
        self.inputs = []

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The policy's plan."""
        self.inputs.append(self._policy.features(observation))
        return self._policy.decide(observation)

    def raw_output(self) -> F64:
        """The policy's own."""
        return self._policy.raw_output()


def with_input_range(
    content: PolicyContent,
    rule: PolicyContent,
    worlds: Sequence[World],
    held_out: Sequence[World],
    validation: ValidationConfig,
    span: InputSpan | None = None,
) -> PolicyContent:
    """A policy's content with the range of its inputs, and with the rate of false alarms among its metrics.

    Args:
        content: The policy.
        rule: Its rule alone, as a policy of the same inputs.
        worlds: Of the training days.
        held_out: Of the validation days.
        validation: Stretches of either.
        span: Of the inputs that the policy learned from; None: what replays of the training days show.
    """
    stretches = Stretches(validation.windows, validation.window_s, validation.seed)
    known = input_range(worlds, [content, rule], stretches) if span is None else span.range
    found = false_alarms(held_out, content, known, stretches)
    drift = {"false_alarm_share": found.share, "false_alarms_per_day": found.alarms_per_day, "ticks": found.ticks}
    metrics = {**content.manifest.metrics, "drift": drift}
    manifest = content.manifest.model_copy(update={"input_range": known, "metrics": metrics})
    return PolicyContent(manifest, content.tensors)


def inputs_on(world: World, content: PolicyContent, stretches: Stretches) -> NDArray[np.float32]:
    """Inputs of a policy that drives stretches of a world's days, (ticks, stretches, D)."""
    length_s = stretches.window_s / world.setting.scenario.speed
    replay = Replay(stretched(world, stretches.windows, length_s, stretches.seed), stretches.seed)
    policy = with_tiers(world.setting, lambda setting: WatchedPolicy(LearnedPolicy(setting, content)))
    replay.outcome(policy)
    watched = bare_policy(policy)
    assert isinstance(watched, WatchedPolicy)  # as it was made
    return np.stack(watched.inputs)


def input_range(worlds: Sequence[World], contents: Sequence[PolicyContent], stretches: Stretches) -> InputRange:
    """Span of each input over the stretches of all worlds, whichever policy drives; of many worlds by turns."""
    driven = [(world, content) for world in worlds for content in contents]
    if len(worlds) > _FEW_WORLDS:
        driven = [(world, contents[index % len(contents)]) for index, world in enumerate(worlds)]
    seen = np.concatenate([_flat(inputs_on(world, content, stretches)) for world, content in driven])
    low, high = np.quantile(seen, [LOW, HIGH], axis=0)
    return InputRange(low=tuple(float(x) for x in low), high=tuple(float(x) for x in high), samples=len(seen))


@dataclass(frozen=True)
class FalseAlarms:
    """What the drift test did where nothing had drifted."""

    ticks: int
    ticks_on: int  # on which it fired
    alarms: int  # times that it began to
    alarms_per_day: float

    @property
    def share(self) -> float:
        """Of ticks."""
        return self.ticks_on / self.ticks


def false_alarms(
    worlds: Sequence[World],
    content: PolicyContent,
    known: InputRange,
    stretches: Stretches,
    config: DriftConfig | None = None,
) -> FalseAlarms:
    """Runs the drift test over stretches of days that the range was not taken from.

    Args:
        worlds: Of the validation days.
        content: The policy, which drives.
        known: What the inputs were in training.
        stretches: Parts of the days.
        config: Of the test; None: the default.
    """
    ticks = ticks_on = alarms = 0
    days = 0.0
    for world in worlds:
        inputs = inputs_on(world, content, stretches)
        control = world.setting.control
        days += inputs.shape[0] * inputs.shape[1] * control.tick_s / control.day_s
        for env in range(inputs.shape[1]):
            test = DriftTest(config or DriftConfig(), known)
            was_on = False
            for row in inputs[:, env]:
                is_on = test.update(row) is not None
                ticks += 1
                ticks_on += is_on
                alarms += is_on and not was_on
                was_on = is_on
    return FalseAlarms(ticks, ticks_on, alarms, alarms / days)


def _flat(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of inputs, evenly thinned to what many worlds together can be held of."""
    flat: NDArray[np.float32] = inputs.reshape(-1, inputs.shape[-1])
    return flat[:: -(-len(flat) // _MOST_ROWS)]
