"""Episodes on arrays: what the vector environment and the single one share.

N envs and, where asked for, their N twins with zero knobs live in one simulator; a step is one compiled call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, I64, Bool, ObservationArrays, PlanArrays, empty_observation, empty_plan
from controller.compile import limits_for
from controller.errors import ScenarioError, UsageError, mismatch
from controller.forecaster_file import forecaster_named
from controller.forms import FORMS, KNOB_FORM, Form, form_size, seen_for, seen_size
from controller.observation import CLIP, OBSERVATION_SIZE
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.tiered import with_tiers
from controller.rule_arrays import KNOB_RANGE, NUM_KNOBS, ForecastArrays, MpcState, new_mpc_state
from controller.tiers.expansion import expand
from envs.compiled_runs import FormRun, MpcRun, buffers
from envs.simulator import Simulator
from envs.tiered_runs import TieredRun
from envs.world import World

F32 = NDArray[np.float32]
DIAL_RANGE = (0.25, 4.0)
"""Values of a miss that a randomised dial takes, log-uniform."""

_CHANGING_OF_SIMULATOR = ("state", "observation", "totals")
_CHANGING = (
    "rule_state",
    "plan",
    "actions",
    "shares",
    "knobs",
    "acted",
    "dial",
    "encoded",
    "decisions",
    "episodes",
    "episode_return",
)


@dataclass(frozen=True)
class EnvOptions:
    """What an episode is.

    Attributes:
        episode_decisions: Decisions until it is truncated.
        miss_weight: Reward lost per request missed, in units of `reference_usd` / mean requests of a step.
        accuracy_weight: Factor on what accuracy is worth: answers below their class's floor lose what the lack costs at
            the margin and at usual prices (`MpcArrays.accuracy_usd`), and answers above it gain as much.
        reward_scale: Factor on every reward.
        twin: Whether the reward is relative to the same rule with zero knobs under the same seed.
        randomise_dial: Whether the value of a miss is drawn per episode from `DIAL_RANGE`, else 1.
        random_start: Whether start, fleet and accuracy debt are drawn; else the first day, with a fleet that fits.
        start_fleet: Range of the fleet at a random start, times what the rule would buy.
        start_debt: Standard deviation of the accuracy missing so far at a random start, of an hour of requests.
        action: Form of the action; others than knobs are for experiments (`controller.forms`). The twin is the rule.
        base: Settings of the rule.
        forecast: Forecaster of the rule; None: the one that its settings name.
    """

    episode_decisions: int = 120
    miss_weight: float = 5.0
    accuracy_weight: float = 1.0
    reward_scale: float = 0.1
    twin: bool = True
    randomise_dial: bool = True
    random_start: bool = True
    start_fleet: tuple[float, float] = (0.6, 1.6)
    start_debt: float = 0.01
    action: Form = "knobs"
    base: MpcSettings | None = None
    forecast: ForecastArrays | None = None


class Stepper:
    """N episodes of one world."""

    def __init__(self, world: World, num_envs: int, options: EnvOptions, seed: int = 0, threads: int = 1) -> None:
        if num_envs < 1:
            raise ScenarioError(f"num_envs: expected at least 1, got {num_envs}")
        self.world, self.options, self.seed, self.num_envs = world, options, seed, num_envs
        self.setting = setting = world.setting
        copies = 2 if options.twin else 1
        self.size = num_envs * copies
        self.simulator = Simulator(setting, world.supply(), self.size, threads)
        self.base = options.base or MpcSettings()
        self.forecast = options.forecast or forecaster_named(self.base.forecaster)
        self._expansion = None if setting.tiers is None else expand(setting)
        if self._expansion is not None and options.action != "knobs":
            raise ScenarioError(
                mismatch(f"{setting.scenario.name}: action", "knobs where classes have tiers", options.action)
            )
        # What rule and policy decide for: where classes have tiers, the steps of their cascades.
        self._rows = rows = setting if self._expansion is None else self._expansion.setting
        self.rule_arrays = self.base.arrays(rows)
        self.rule_state = new_mpc_state(self.size, rows.shape, len(self.forecast.levels))
        self._new_rule_state = new_mpc_state(1, rows.shape, len(self.forecast.levels))
        self.plan = empty_plan(self.size, rows.shape)
        self.actions, self.shares = buffers(setting, self.size)
        num_variants, num_pools, _ = setting.shape
        self.knobs: F64 = np.zeros((self.size, NUM_KNOBS))
        width = form_size(options.action, setting.shape)
        self.acted: F64 = np.zeros((self.size, width))  # the last actions; with knobs, the knobs hold them
        self.forms: I64 = np.full(self.size, KNOB_FORM)
        self.forms[:num_envs] = FORMS.index(options.action)
        self.dial: F64 = np.ones(self.size)
        self.encoded: F32 = np.zeros((self.size, OBSERVATION_SIZE), np.float32)
        self.decisions: I64 = np.zeros(num_envs, np.int64)
        self.episodes: I64 = np.zeros(num_envs, np.int64)
        self.episode_return: F64 = np.zeros(num_envs)
        self._initial: I64 = np.zeros((self.size, num_variants, num_pools), np.int64)
        self._seeds: I64 = np.zeros(self.size, np.int64)
        self._start_s: F64 = np.zeros(self.size)
        self._spot_start_s: F64 = np.zeros(self.size)
        self._sizer = with_tiers(setting, lambda rows: MpcPolicy(rows, self.base, self.forecast))
        control = setting.control
        self.step_s = control.tick_s * control.ticks_per_decision
        self.reference_usd = self._mean_load_usd()
        self.requests_per_step = setting.scenario.mean_rps * self.step_s
        # A floor on each request is kept by the choice of variants: nothing is ever owed.
        self._binds = np.where(setting.workload.floor_each, 0.0, 1.0)
        self._floors = setting.workload.accuracy_floor * self._binds
        self._accuracy_usd = self.rule_arrays.accuracy_usd
        if self._expansion is not None:
            self._accuracy_usd = self._accuracy_usd[self._expansion.first]  # 0 for a tier, which has no choice
        seen = seen_size(options.action, setting.shape)
        self.observation_space = gym.spaces.Box(-CLIP, CLIP, (seen,), np.float32)
        self.action_space = gym.spaces.Box(*KNOB_RANGE, (width,), np.float32)
        rule = MpcRun(
            limits_for(setting, self.size),
            self.rule_arrays,
            self.forecast,
            self.knobs,
            self.dial,
            self.rule_state,
            self.plan,
            self.actions,
            self.shares,
        )
        self._run = self._run_of(rule)

    def _run_of(self, rule: MpcRun) -> MpcRun | FormRun | TieredRun:
        if self._expansion is not None:
            return TieredRun(rule, self._expansion, self._expansion.empty_plan(self.size))
        return rule if self.options.action == "knobs" else FormRun(rule, self.forms, self.acted)

    @property
    def applied(self) -> PlanArrays:
        """The plans in force, by the setting's own classes."""
        return self._run.applied if isinstance(self._run, TieredRun) else self.plan

    def reset(self) -> F32:
        """Starts a new episode in every env; returns observations (N, D)."""
        for n in range(self.num_envs):
            self._begin(n)
        self._encode(0, self.size)
        return self._seen()

    def restart(self, n: int) -> F32:
        """Starts a new episode in env n; returns the observations of all envs."""
        self._begin(n)
        self._encode(n, n + 1)
        return self._seen()

    def step(self, acted: F64) -> tuple[F32, F64, Bool]:
        """Runs one decision under actions (N, A): knobs, or what the form of the action is.

        Returns:
            Observations (N, D), rewards (N,), and whether each episode reached its length (N,).
        """
        taken = self.knobs if self.options.action == "knobs" else self.acted
        taken[: self.num_envs] = acted
        totals, options = self.simulator.totals, self.options
        spent_usd, missed = totals.spend_usd.sum(axis=1), totals.missed.sum(axis=1)
        answered, accuracy_sum = totals.answered.copy(), totals.accuracy_sum.copy()
        self._run.ticks(self.simulator, self.setting.control.ticks_per_decision)
        cost = (totals.spend_usd.sum(axis=1) - spent_usd) / self.reference_usd
        misses = (totals.missed.sum(axis=1) - missed) / self.requests_per_step
        # What is owed to the day's mean is priced, and so is a surplus: borrowed accuracy is no gain, and accuracy
        # bought while it is cheap is worth what it saves later.
        lacking = self._floors * (totals.answered - answered) - self._binds * (totals.accuracy_sum - accuracy_sum)
        borrowed = lacking @ self._accuracy_usd / self.reference_usd
        loss = cost + options.miss_weight * self.dial * misses + options.accuracy_weight * borrowed
        value = -loss * options.reward_scale
        rewards = value[: self.num_envs] - value[self.num_envs :] if options.twin else value
        self.episode_return += rewards
        self.decisions += 1
        self._encode(0, self.num_envs)
        return self._seen(), rewards, self.decisions >= self.options.episode_decisions

    @property
    def trace_s(self) -> F64:
        """Trace time of every env now, (N,)."""
        ticks = self.simulator.observation.tick[: self.num_envs]
        return self._start_s[: self.num_envs] + ticks * self.setting.control.tick_s

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of every array that changes, by name.

        The rest of an episode is a function of them, and the next one of the seed and the number of episodes so far,
        which is one of them.
        """
        return {name: array.copy() for name, array in self._changing()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a snapshot of a stepper made with the same arguments, as if nothing had happened.

        Raises:
            UsageError: The snapshot is of another setting or another number of envs.
        """
        for name, array in self._changing():
            found = arrays[name].shape if name in arrays else None
            if found != array.shape:
                raise UsageError(mismatch(f"snapshot: {name}", f"an array of shape {array.shape}", found))
        for name, array in self._changing():
            array[...] = arrays[name]

    def _changing(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name in _CHANGING_OF_SIMULATOR:
            yield from _leaves(name, getattr(self.simulator, name))
        for name in _CHANGING:
            yield from _leaves(name, getattr(self, name))

    def outcome(self, n: int) -> dict[str, float]:
        """Cost, attainment and accuracy of env n's episode so far."""
        totals = self.simulator.totals
        return {
            "cost_usd": float(totals.spend_usd[n].sum()),
            "attainment": 1.0 - float(totals.missed[n].sum()) / max(1, int(totals.arrivals[n].sum())),
            "accuracy": float(totals.accuracy_sum[n].sum()) / max(1, int(totals.answered[n].sum())),
        }

    def _mean_load_usd(self) -> float:
        """Rent per step of the machines that the rule plans for the scenario's mean rate."""
        setting = self.setting
        observation = empty_observation(1, setting.shape)
        observation.history[0] = (setting.scenario.mean_rps * setting.control.tick_s) * setting.workload.share[:, None]
        self._sizer.reset(1)
        replicas = self._sizer.decide(observation).replicas[0]
        usd = float((replicas * setting.catalog.price_usd_per_s).sum()) * self.step_s
        if usd <= 0.0:
            raise ScenarioError(f"{setting.scenario.name}: expected a scenario whose mean rate needs a machine")
        return usd

    def _begin(self, n: int) -> None:
        """Draws an episode for env n and its twin and puts them at its start."""
        options, world = self.options, self.world
        rng = np.random.default_rng([self.seed, n, int(self.episodes[n])])
        self.episodes[n] += 1
        draws = rng.random(4)
        at, spot_at = (draws[0], draws[1]) if options.random_start else (0.0, 0.0)
        start_s, spot_start_s = world.episode_start(at, spot_at, options.episode_decisions * self.step_s)
        scale = float(rng.uniform(*options.start_fleet)) if options.random_start else 1.0
        copies = [n, n + self.num_envs] if options.twin else [n]
        for m in copies:
            self._seeds[m] = int(rng.integers(0, 2**62)) if m == n else self._seeds[n]
            self._start_s[m], self._spot_start_s[m] = start_s, spot_start_s
            low, high = np.log(DIAL_RANGE)
            self.dial[m] = float(np.exp(low + (high - low) * draws[2])) if options.randomise_dial else 1.0
            self._initial[m] = 0
        debt = float(rng.normal(0.0, options.start_debt)) if options.random_start else 0.0
        for m in copies:
            self._place(m, scale, debt)
        self.knobs[n] = self.acted[n] = 0.0
        self.decisions[n] = 0
        self.episode_return[n] = 0.0

    def _place(self, m: int, scale: float, debt: float) -> None:
        """Resets env m with `scale` times the rule's machines; `debt` is the accuracy missing so far."""
        for _ in range(2):  # the first reset only tells what the rule would buy
            observation = self.simulator.reset(
                self._seeds, self._start_s, self._spot_start_s, self._initial, envs=(m, m + 1)
            )
            if self._initial[m].any():
                break
            self._sizer.reset(1)
            one = ObservationArrays._make(field[m : m + 1] for field in observation)
            wanted = self._sizer.decide(one).replicas[0]
            self._initial[m] = np.rint(wanted * scale)
        answered = int(3600 * self.setting.scenario.mean_rps)
        if debt != 0.0:
            observation.day_answered[m] = answered * self.setting.workload.share
            floors = self.setting.workload.accuracy_floor
            observation.day_accuracy_sum[m] = observation.day_answered[m] * np.clip(floors - debt, 0.0, 1.0)
            observation.day_arrivals[m] = observation.day_answered[m]
        for remembered, value in zip(self.rule_state, self._new_rule_state, strict=True):
            remembered[m] = value[0]
        for planned in self.plan:
            planned[m] = 0
        self.plan.batch_size[m] = 1
        if self._expansion is not None:  # what the guard mends in a folded plan, it does not mend in the rule's own
            self.plan.collage_variant[m], self.plan.collage_after_s[m] = -1, np.inf

    def _seen(self) -> F32:
        """What the policy sees of every env, (N, D)."""
        count = self.num_envs
        if self.options.action == "knobs":
            return self.encoded[:count].copy()
        return seen_for(
            self.options.action,
            self.setting,
            self.rule_arrays,
            MpcState._make(field[:count] for field in self.rule_state),
            ObservationArrays._make(field[:count] for field in self.simulator.observation),
            self.encoded[:count],
            self.acted[:count],
        )

    def _encode(self, lo: int, hi: int) -> None:
        from controller.kernels.encode import encode

        rows, observed = self._rows, self.simulator.observation
        encode(
            rows.catalog,
            rows.workload,
            rows.control,
            self.rule_arrays,
            self.forecast,
            self.knobs,
            self.dial,
            self.rule_state,
            observed if self._expansion is None else self._expansion.seen(observed),
            self.plan,
            self.encoded,
            lo,
            hi,
        )


def _leaves(name: str, value: object) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays of a tree of named tuples, with their paths."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, tuple):
        for field, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            yield from _leaves(f"{name}.{field}", part)
