"""What each knob of the rule is worth: the best value at every moment over the best constant one, before any training.

Stretches of the training days of all traces of the suite are replayed under the rule with one knob held at each of
several values. A lever matters to a learner only if different stretches want different values; that gain is what this
measures. Stretches are independent here, so it is neither an upper nor a lower bound of what a policy can gain: a
policy can change its mind within a stretch, and cannot know which stretch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.errors import UsageError, mismatch
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import make_policy
from controller.rule_arrays import KNOBS
from envs.joint_world import JointWorld
from experiments.objective import ObjectiveConfig, Outcome
from experiments.stretches import Replay, stretched

VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Where each knob is held in turn."""

ACCURACY_WEIGHT = 100.0
"""A stretch's cost rises by this share per unit of accuracy below a floor: about what accuracy costs."""


@dataclass(frozen=True)
class LeverValue:
    """What one knob came to; costs relative to the rule's, penalties included."""

    knob: str
    best_constant: float  # the value that is best for all stretches together
    constant_gain: float  # of that over the rule itself
    choice_gain: float  # of the best value for each stretch over the best constant
    by_trace: dict[str, float]  # the gain of the best constant of each trace over the one for all


class HeldKnobs(MpcPolicy):
    """The rule with knobs that stay where they are put.

    Args:
        setting: What is decided for.
        settings: The rule's settings.
        held: Knobs by name.
    """

    def __init__(self, setting: Setting, settings: MpcSettings, held: dict[str, float]) -> None:
        self._held = held
        super().__init__(setting, settings)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env."""
        for name, value in self._held.items():
            self.knobs[:, KNOBS.index(name)] = value
        return super().decide(observation)


def rule_of(policy: str, setting: Setting) -> MpcSettings:
    """Settings of the rule that a policy choice names.

    Raises:
        UsageError: It is no rule with knobs.
    """
    made = make_policy(policy, setting)
    if not isinstance(made, MpcPolicy):
        raise UsageError(mismatch("policy", "the `mpc` rule, a file of its settings or a policy file", policy))
    return made.settings


def losses(outcome: Outcome, setting: Setting, config: ObjectiveConfig, reference_usd: F64) -> F64:
    """Cost of each episode with its broken promises, in USD, (E,).

    Misses beyond the target and accuracy below the floor count per episode, in proportion to its own cost and no less
    than the reference, as in `objective.score`.

    Args:
        outcome: What happened in E episodes.
        setting: Of them all.
        config: Weight of misses and how much of what is allowed may be used up.
        reference_usd: (E,) what the rule paid in each.
    """
    workload = setting.workload
    misses = outcome.missed / np.maximum(outcome.arrivals, 1)
    excess = np.maximum(misses - (1.0 - workload.attainment_target) * config.miss_room, 0.0).sum(axis=1)
    accuracy = outcome.accuracy_sum / np.maximum(outcome.answered, 1)
    short = np.where(workload.floor_each, 0.0, np.maximum(workload.accuracy_floor - accuracy, 0.0)).sum(axis=1)
    charged_on = np.maximum(outcome.cost_usd, reference_usd)
    return np.asarray(outcome.cost_usd + (config.miss_weight * excess + ACCURACY_WEIGHT * short) * charged_on)


def measure_levers(
    world: JointWorld,
    settings: MpcSettings,
    *,
    stretches_per_day: int = 2,
    length_s: float = 7200.0,
    seed: int = 0,
    knobs: Sequence[str] = KNOBS,
) -> list[LeverValue]:
    """The value of each knob on stretches of a joint world.

    Args:
        world: Days of several traces.
        settings: The rule's settings, tuned if the answer is to mean anything.
        stretches_per_day: Stretches of each day.
        length_s: Length of each.
        seed: Of requests, market and where the stretches lie.
        knobs: Which to measure.
    """
    replay = Replay(stretched(world, stretches_per_day * len(world.days), length_s, seed), seed)
    config = ObjectiveConfig()
    setting = world.setting

    def outcome(held: dict[str, float]) -> Outcome:
        return replay.outcome(HeldKnobs(setting, settings, held))

    plain = outcome({})

    def loss(outcome: Outcome) -> F64:
        return losses(outcome, setting, config, plain.cost_usd)

    rule = loss(plain)
    traces = np.array([trace for trace, _ in world.parts]).repeat(stretches_per_day)
    found = []
    for knob in knobs:
        table = np.stack([rule if value == 0.0 else loss(outcome({knob: value})) for value in VALUES])  # (values, E)
        found.append(lever_value(knob, table, rule, traces))
    return found


def show_levers(scenario: str, found: Sequence[LeverValue]) -> None:
    """Prints a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{scenario}: gain of a free choice of one knob, others at the rule's own", title_justify="left"
    )
    for heading in ("knob", "best constant", "over the rule", "per stretch over constant", "per trace over constant"):
        table.add_column(heading, justify="left" if heading == "knob" else "right")
    for one in sorted(found, key=lambda lever: -lever.choice_gain):
        traces = ", ".join(f"{name} {100 * gain:.1f} %" for name, gain in one.by_trace.items())
        table.add_row(
            one.knob,
            f"{one.best_constant:+g}",
            f"{100 * one.constant_gain:.1f} %",
            f"{100 * one.choice_gain:.1f} %",
            traces,
        )
    Console(width=160).print(table)


def lever_value(knob: str, table: F64, rule: F64, traces: np.ndarray) -> LeverValue:
    """Gains from a table of losses.

    Args:
        knob: Its name.
        table: (values, E) loss with the knob held at each of `VALUES`.
        rule: (E,) loss of the rule itself.
        traces: (E,) name of each stretch's trace.
    """
    total = table.sum(axis=1)
    best = int(total.argmin())
    constant = total[best]
    by_trace = {}
    for trace in dict.fromkeys(traces.tolist()):
        part = table[:, traces == trace].sum(axis=1)
        by_trace[str(trace)] = float(1.0 - part.min() / part[best])
    return LeverValue(
        knob=knob,
        best_constant=VALUES[best],
        constant_gain=float(1.0 - constant / rule.sum()),
        choice_gain=float(1.0 - table.min(axis=0).sum() / constant),
        by_trace=by_trace,
    )
