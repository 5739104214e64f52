"""Runs one policy in the simulated world, N cells at a time, and lets recorders watch.

Cells start alike for every policy: with the fleet that the `mpc` rule provisions for the first rate, already serving,
and with the expected arrivals of the hour before as history. So no policy is judged by a cold start it did not choose.
Where a class has a workflow of several operators, which no rule sizes a fleet for, the fleet is the cheapest machine
option of each operator instead, with room to spare.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from controller.arrays import F64, I64, ObservationArrays, empty_observation
from controller.batching import capacity_rps, machine_usd
from controller.compile import Setting
from controller.loop import Decision, DecisionLoop
from controller.policies.registry import PolicySpec
from controller.policies.solved import SolvedPolicy
from controller.policies.tiered import bare_policy
from controller.ports import Policy
from envs.world import Cell, World
from experiments.clairvoyant import policy_in
from experiments.results import Tally
from experiments.worker import threads_here

if TYPE_CHECKING:
    from envs.simulator import Simulator

STARTING_RULE = "mpc"
WORKFLOW_HEADROOM = 1.5
"""Capacity of the starting fleet of workflows over the first rate."""

MOST_ENVS = 64
"""Cells simulated side by side; more would cost memory and gain no speed."""


@runtime_checkable
class LoopWatcher(Protocol):
    """A recorder that wants to know what decides."""

    def begun(self, loop: DecisionLoop) -> None:
        """The loop of the rollout, before its first decision."""


class Recorder(Protocol):
    """Watches a rollout. Arrays are views that the next tick overwrites."""

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """What was seen and decided, before it is applied; `decide_s` is wall-clock time for all envs together."""

    def observed(self, window: ObservationArrays) -> None:
        """The window that followed."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a batch of cells begins; the same for every policy."""

    cells: tuple[Cell, ...]  # N
    history: F64  # (N, C, H) expected arrivals per tick
    replicas: I64  # (N, V, P) serving at once


class Timer:
    """Wall-clock seconds of each decision."""

    def __init__(self) -> None:
        self.decide_s: list[float] = []
        self._num_envs = 1

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Notes the time."""
        self.decide_s.append(decide_s)
        self._num_envs = len(observation.tick)

    def observed(self, window: ObservationArrays) -> None:
        """Nothing to note."""

    @property
    def ms_p99(self) -> float | None:
        """99th percentile over ticks of milliseconds per env and decision; None before the first."""
        if not self.decide_s:
            return None
        return float(np.quantile(self.decide_s, 0.99)) / self._num_envs * 1000.0


class Progress:
    """What a run tells while it goes on; this one is silent."""

    def started(self, steps: int) -> None:
        """All there is to do, in ticks of a batch of cells."""

    def working_on(self, text: str) -> None:
        """What is being run now."""

    def advanced(self) -> None:
        """One more tick of a batch was run."""


class Ticker:
    """Passes each tick of a rollout on to a progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Nothing was run yet."""

    def observed(self, window: ObservationArrays) -> None:
        """One tick."""
        self._progress.advanced()


def batches(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Cells in groups of at most `MOST_ENVS`."""
    return [tuple(cells[first : first + MOST_ENVS]) for first in range(0, len(cells), MOST_ENVS)]


def new_simulator(world: World, num_envs: int) -> Simulator:
    """A simulator of `num_envs` envs on every core that this process may use; on one in a worker."""
    from envs.simulator import Simulator

    return Simulator(world.setting, world.supply(), num_envs, threads_here())


def prepare(world: World, cells: Sequence[Cell]) -> Start:
    """History and fleet that the cells begin with."""
    history = world.history(cells)
    if (world.setting.workload.num_operators > 1).any():
        return Start(tuple(cells), history, _workflow_fleet(world.setting, history[:, :, -1]))
    seen = empty_observation(len(cells), world.setting.shape)
    newest = history[:, :, -1]
    seen = seen._replace(history=history.copy(), arrivals=np.rint(newest).astype(np.int64))
    plan = new_loop(world, STARTING_RULE, len(cells)).decide(seen).plan
    return Start(tuple(cells), history, plan.replicas.copy())


def _workflow_fleet(setting: Setting, arrivals: F64) -> I64:
    """Replicas (N, V, P) for the arrivals (N, C) of a tick: of each class's operators, the cheapest machine option."""
    catalog, workload = setting.catalog, setting.workload
    rps = capacity_rps(catalog, np.ones_like(catalog.batch_max))
    usd = machine_usd(catalog, rps)
    needed = np.zeros((len(arrivals), *rps.shape))
    for c, count in enumerate(workload.num_operators):
        for operator in range(count):
            serves = workload.allowed[c] & (workload.operator[c] == operator)[:, None] & np.isfinite(usd)
            if serves.any():  # without one, serverless wakes by itself
                v, p = np.unravel_index(np.argmin(np.where(serves, usd, np.inf)), usd.shape)
                needed[:, v, p] += WORKFLOW_HEADROOM * arrivals[:, c] / setting.control.tick_s / rps[v, p]
    return np.minimum(np.ceil(needed), setting.limits.pool_max).astype(np.int64)


def new_loop(
    world: World, policy: str | PolicySpec | Policy, num_envs: int, cells: Sequence[Cell] | None = None
) -> DecisionLoop:
    """A decision loop with a fresh policy for `num_envs` envs.

    Args:
        world: Names the setting.
        policy: What `policy_in` takes; a policy begins anew.
        num_envs: N.
        cells: What each env runs; None: the world's first cells.
    """
    made = policy_in(world, world.cells((0,))[:num_envs] if cells is None else cells, policy)
    return DecisionLoop(world.setting, made, num_envs)


def begin(world: World, start: Start, simulator: Simulator) -> ObservationArrays:
    """Resets a simulator to a start and returns the first observation (a view)."""
    seeds = np.array([cell.env_seed for cell in start.cells], np.int64)
    seen = simulator.reset(seeds, world.start_s(start.cells), world.spot_start_s(start.cells), start.replicas)
    seen.history[...] = start.history
    return seen


def roll(
    world: World,
    start: Start,
    policy: str | PolicySpec | Policy | DecisionLoop,
    recorders: Sequence[Recorder] = (),
    ticks: int | None = None,
    simulator: Simulator | None = None,
) -> Tally:
    """Runs a policy from a start.

    Args:
        world: The world.
        start: Cells to run, with their beginning.
        policy: What `make_policy` takes, a policy, or a loop of as many envs; it begins anew.
        recorders: Watch each tick, in order.
        ticks: Ticks to run; None: the whole cell.
        simulator: One of as many envs to reuse; None: a new one.

    Returns:
        Sums by env, in the order of the start's cells.
    """
    num_envs = len(start.cells)
    simulator = simulator or new_simulator(world, num_envs)
    seen = begin(world, start, simulator)
    loop = policy if isinstance(policy, DecisionLoop) else new_loop(world, policy, num_envs, start.cells)
    loop.decide(seen)  # compiles; those seconds say nothing about deciding
    loop.reset(num_envs)
    for recorder in recorders:
        if isinstance(recorder, LoopWatcher):
            recorder.begun(loop)
    tally = Tally(world.setting, num_envs)
    for _ in range(world.cell_ticks if ticks is None else ticks):
        began = time.perf_counter()
        decision = loop.decide(seen)
        decide_s = time.perf_counter() - began
        tally.decided(decision.plan)
        for recorder in recorders:
            recorder.decided(seen, decision, decide_s)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
        tally.observed(seen)
        for recorder in recorders:
            recorder.observed(seen)
    tally.redundancy.ended(simulator.redundant)
    bare = bare_policy(loop.policy)
    if isinstance(bare, SolvedPolicy):
        tally.solver = [bare.counts(env)._asdict() for env in range(num_envs)]
    return tally
