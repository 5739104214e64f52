"""The simulated world: N independent envs of one setting, stepped together, request by request.

`apply` puts a decision into force, `advance` runs one tick, `observe` is what a policy may see. Results depend on
(setting, supply, seed) alone, never on N, on the order of envs or on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import (
    F64,
    HISTORY_TICKS,
    I64,
    SERVERLESS,
    ActionArrays,
    ObservationArrays,
    PlanArrays,
    empty_observation,
)
from controller.compile import Setting
from controller.errors import ScenarioError
from controller.keyed_random import stream_key
from envs.kernels.scratch import KERNELS, Events, Scratch, new_events, new_scratch
from envs.kernels.state import (
    COLLAGE,
    GROUPED,
    SERVED,
    SERVING,
    STREAMS,
    SimState,
    SupplyArrays,
    TotalArrays,
    new_state,
    new_totals,
)
from envs.plan_checks import check_plan
from envs.supply import Supply

MAX_SERVERLESS_ENVIRONMENTS = 256
"""Slots for serverless execution environments per env; a pool's quota above this cannot be filled."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that changes; restoring it continues exactly as before."""

    state: SimState
    observation: ObservationArrays
    totals: TotalArrays


def _leaves(value: object) -> Iterator[NDArray[np.generic]]:
    """Arrays of a tuple of tuples, depth first."""
    parts = (value.state, value.observation, value.totals) if isinstance(value, Snapshot) else value
    if isinstance(parts, np.ndarray):
        yield parts
    elif isinstance(parts, tuple):
        for part in parts:
            yield from _leaves(part)


class Simulator:
    """N envs of one world.

    Args:
        setting: Compiled scenario.
        supply: Arrivals and spot availability.
        num_envs: N, >= 1.
        threads: Threads that share the envs; results do not depend on it.
    """

    def __init__(self, setting: Setting, supply: Supply, num_envs: int = 1, threads: int = 1) -> None:
        if num_envs < 1:
            raise ScenarioError(f"num_envs: expected at least 1, got {num_envs}")
        if len(setting.zones) > supply.spot_share.shape[0]:
            raise ScenarioError(
                f"supply.spot_share: expected a row for each of the zones {list(setting.zones)}, "
                f"got {supply.spot_share.shape[0]} rows"
            )
        self.setting = setting
        self.supply = supply
        self.num_envs = num_envs
        size = setting.scenario.simulator
        catalog = setting.catalog
        most_credits = int(catalog.concurrency.max())
        most_on_one = int((catalog.concurrency * catalog.batch_max).max())
        in_service = size.max_instances * most_on_one + MAX_SERVERLESS_ENVIRONMENTS
        held = max(size.max_requests_held, in_service)
        routers = setting.scenario.control.routers
        sizes = (size.max_instances, most_credits, MAX_SERVERLESS_ENVIRONMENTS, held, routers)
        peak = float(supply.rate_rps.max()) * setting.control.tick_s
        most_arrivals = int(peak * max(1.0, supply.gap_cv) + 12 * np.sqrt(peak + 1) * max(1.0, supply.gap_cv) + 64)
        workload = setting.workload
        has_workflows = bool((workload.num_operators > 1).any())
        if has_workflows and size.kernel == "fast":
            raise ScenarioError(
                "simulator.kernel: expected 'auto' or 'event' for a workflow of several operators, got 'fast'"
            )
        self.state = new_state(num_envs, setting.shape, sizes, has_workflows)
        self.observation = empty_observation(num_envs, setting.shape)
        self.totals = new_totals(num_envs, setting.shape)
        self._blank = Snapshot(
            new_state(1, setting.shape, sizes, has_workflows),
            empty_observation(1, setting.shape),
            new_totals(1, setting.shape),
        )
        self.supply_arrays = SupplyArrays(
            rate_rps=np.ascontiguousarray(supply.rate_rps, np.float64),
            rate_bin_s=float(supply.rate_bin_s),
            gaps=supply.gap_table(),
            is_poisson=supply.gap_cv == 1.0,
            spot_share=np.ascontiguousarray(
                supply.spot_share if supply.spot_share.size else np.ones((1, 1)), np.float64
            ),
            spot_bin_s=float(supply.spot_bin_s),
        )
        threads = max(1, min(threads, num_envs))
        edges = np.linspace(0, num_envs, threads + 1).astype(int)
        kernel = KERNELS.index(size.kernel)
        flows = (workload.num_inputs.shape[1], workload.answer_accuracy.shape[1])
        self._parts = [
            (int(lo), int(hi), new_scratch(setting.shape, sizes, most_arrivals, kernel, *flows))
            for lo, hi in pairwise(edges)
        ]
        # At most a copy for every operator that begins, and for every message but the first that one sends.
        copies = max(4, workload.num_inputs.shape[1] + int(workload.feeds.sum(axis=(1, 2)).max()))
        self._event_sizes = (setting.shape, sizes, most_arrivals, copies)
        self._has_workflows = has_workflows
        self._events: dict[int, Events] = {}
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def reset(
        self,
        seeds: I64,
        start_s: F64 | None = None,
        spot_start_s: F64 | None = None,
        initial_replicas: I64 | None = None,
        traces: I64 | None = None,
        envs: tuple[int, int] | None = None,
    ) -> ObservationArrays:
        """Starts envs afresh.

        Args:
            seeds: One seed per env, shape (N,), >= 0.
            start_s: Trace time at which each env begins, shape (N,); 0 by default.
            spot_start_s: Time of the spot availability at which it begins, shape (N,); 0 by default.
            initial_replicas: Replicas that serve from the start, shape (N, V, P); none by default.
            traces: Row of `Supply.rate_rps` per env, shape (N,); 0 by default.
            envs: Range [lo, hi) of envs to reset; all by default. The arrays cover all N envs in any case.

        Returns:
            The observation of all envs (a view that later ticks overwrite).
        """
        from envs.kernels import tick

        lo, hi = envs or (0, self.num_envs)
        for into, value in zip(_leaves(self._everything()), _leaves(self._blank), strict=True):
            into[lo:hi] = value
        clock = self.state.clock
        clock.seed[lo:hi] = seeds[lo:hi]
        for n in range(lo, hi):
            clock.keys[n] = [stream_key(int(seeds[n]), stream) for stream in range(STREAMS)]
        if traces is not None:
            clock.trace[lo:hi] = traces[lo:hi]
        if start_s is not None:
            clock.start_s[lo:hi] = start_s[lo:hi]
        if spot_start_s is not None:
            clock.spot_start_s[lo:hi] = spot_start_s[lo:hi]
        if initial_replicas is not None:
            for n in range(lo, hi):
                self._place(n, initial_replicas[n])
        self._expect_history(lo, hi)
        setting = self.setting
        tick.open_market(
            setting.catalog,
            setting.workload,
            setting.control,
            self.supply_arrays,
            self.state,
            self.observation,
            self.totals,
            lo,
            hi,
        )
        return self.observation

    def start_from(
        self,
        observation: ObservationArrays,
        seeds: I64,
        start_s: F64 | None = None,
        spot_start_s: F64 | None = None,
        traces: I64 | None = None,
    ) -> ObservationArrays:
        """Starts all envs in the state that an observation tells of; `envs.starting` says what it leaves open.

        Totals begin at zero; sums of the day, history and time go on.

        Args:
            observation: Of one env, in either world; the state of all N.
            seeds: One seed per env, shape (N,), >= 0.
            start_s: Trace time now, shape (N,); 0 by default.
            spot_start_s: Time of the spot availability now, shape (N,); 0 by default.
            traces: Row of `Supply.rate_rps` per env, shape (N,); 0 by default.

        Returns:
            The observation of all envs (a view that later ticks overwrite).

        Raises:
            UsageError: The observation is of several envs.
            ScenarioError: There are too few slots for what was observed.
        """
        from envs.starting import check_single, place_observed

        check_single(observation)
        told = ObservationArrays._make(array.copy() for array in observation)  # it may be a view of this simulator
        self.reset(seeds, traces=traces)
        place_observed(self.setting, self.state, self.observation, told)
        clock = self.state.clock
        clock.start_s[:] = (0.0 if start_s is None else start_s) - clock.now_s
        clock.spot_start_s[:] = (0.0 if spot_start_s is None else spot_start_s) - clock.now_s
        return self.observation

    def _everything(self) -> Snapshot:
        return Snapshot(self.state, self.observation, self.totals)

    def _place(self, n: int, replicas: I64) -> None:
        """Puts replicas that serve from the start into env n."""
        fleet, containers = self.state.fleet, self.state.containers
        options = np.repeat(np.arange(replicas.size), replicas.ravel())
        is_serverless = self.setting.catalog.market[options % replicas.shape[1]] == SERVERLESS
        machines, reserved = options[~is_serverless], options[is_serverless]
        for name, chosen, room in (
            ("max_instances", machines, fleet.option.shape[1]),
            ("environments", reserved, containers.option.shape[1]),
        ):
            if len(chosen) > room:
                raise ScenarioError(
                    f"simulator.{name}: expected at least {len(chosen)} for the initial replicas, got {room}"
                )
        fleet.option[n, : len(machines)] = machines
        fleet.state[n, : len(machines)] = SERVING
        fleet.used[n], containers.used[n] = len(machines), len(reserved)
        containers.option[n, : len(reserved)] = reserved
        containers.alive[n] = containers.provisioned[n] = np.bincount(reserved, minlength=replicas.size)

    def _expect_history(self, lo: int, hi: int) -> None:
        """Fills the hour before the start with the arrivals that the trace's rate leads to expect."""
        supply, workload, clock = self.supply_arrays, self.setting.workload, self.state.clock
        tick_s = self.setting.control.tick_s
        back = np.arange(HISTORY_TICKS)
        for n in range(lo, hi):
            rates = supply.rate_rps[clock.trace[n]]
            at_s = np.maximum(clock.start_s[n] - (back + 0.5) * tick_s, 0.0)
            expected = rates[np.minimum((at_s / supply.rate_bin_s).astype(int), len(rates) - 1)] * tick_s
            self.observation.history[n][:, HISTORY_TICKS - 1 - back] = expected * workload.share[:, None]

    def apply(self, actions: ActionArrays, plan: PlanArrays, shares: F64) -> None:
        """Starts every action and puts plan and shares into force for the next tick.

        Raises:
            ScenarioError: The plan hedges, or has a cascade or collages, and the scenario asks for the fast kernel, or
                the catalog has no measured answers of a cascade's variants.
        """
        from envs.kernels import tick

        check_plan(self.setting, plan)
        tick.apply(
            self.setting.catalog,
            self.setting.control,
            self.supply_arrays,
            self.state,
            self.observation,
            self.totals,
            actions,
            plan,
            shares,
            0,
            self.num_envs,
        )

    def advance(self) -> ObservationArrays:
        """Runs one tick in every env; returns the new observation (a view that later ticks overwrite)."""
        self.each_part(self._advance_part)
        return self.observation

    def observe(self) -> ObservationArrays:
        """Facts of the window that just ended."""
        return self.observation

    def snapshot(self) -> Snapshot:
        """Copies the whole state."""
        return deepcopy(self._everything())

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a snapshot of this simulator, in place."""
        for into, value in zip(_leaves(self._everything()), _leaves(snapshot), strict=True):
            into[...] = value

    @property
    def redundant(self) -> I64:
        """Duplicates, passes of collages and answers that these gave so far, shape (N, C, 3)."""
        return self.state.held.redundant

    def in_service(self) -> I64:
        """Requests in service by env and class, shape (N, C); one with a second copy that waits counts here alone."""
        counts: I64 = np.zeros((self.num_envs, self.setting.shape[2]), np.int64)
        held = self.state.held
        for n in range(self.num_envs):
            heads = np.concatenate([self.state.fleet.credit_flight[n].ravel(), self.state.containers.flight[n]])
            for slot in heads[heads >= 0]:
                while slot >= 0:
                    twin = held.twin[n, slot]  # odd where the other copy is in service too
                    klass = held.klass[n, slot]
                    if self.setting.workload.num_operators[klass] > 1:
                        counts[n, klass] += self._speaks(n, slot)
                    elif not held.steps[n, slot] & COLLAGE and (twin < 0 or twin % 2 == 0 or slot < twin // 2):
                        counts[n, klass] += 1
                    slot = held.next[n, slot]
        return counts

    def _speaks(self, n: int, slot: int) -> bool:
        """Whether a message in service is the one by which its request is counted: the first of them in the table."""
        held = self.state.held
        if not held.steps[n, slot] & GROUPED:  # left over from a request that failed
            return False
        other = held.twin[n, slot] // 2
        while other != slot:
            if held.steps[n, other] & SERVED and other < slot:
                return False
            other = held.twin[n, other] // 2
        return True

    @property
    def needs_events(self) -> bool:
        """Whether the event kernel serves every tick, whatever is planned."""
        return self._has_workflows or self.setting.scenario.simulator.kernel == "event"

    def _events_of(self, lo: int, hi: int) -> Events | None:
        """Work space of the event kernel for a part; None where all its envs can do without."""
        state = self.state
        is_needed = (
            self.needs_events
            or np.isfinite(state.rules.hedge_after_s[lo:hi]).any()
            or (state.rules.cascade_variant[lo:hi, :, 0] >= 0).any()
            or (state.rules.collage_variant[lo:hi] >= 0).any()
            or state.held.pairs[lo:hi].any()
            or state.held.escalated[lo:hi].any()
        )
        if is_needed and lo not in self._events:
            self._events[lo] = new_events(*self._event_sizes)
        return self._events[lo] if is_needed else None

    def _advance_part(self, lo: int, hi: int, scratch: Any) -> None:
        from envs.kernels import tick

        setting = self.setting
        tick.advance(
            setting.catalog,
            setting.workload,
            setting.control,
            self.supply_arrays,
            self.state,
            self.observation,
            self.totals,
            setting.answers,
            scratch,
            self._events_of(lo, hi),
            lo,
            hi,
        )

    def each_part(self, run: Callable[[int, int, Scratch], None]) -> None:
        """Calls `run` with each range of envs and its work space, one thread each."""
        if self._pool is None:
            for part in self._parts:
                run(*part)
        else:
            list(self._pool.map(lambda part: run(*part), self._parts))
