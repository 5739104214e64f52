"""Puts simulated envs into the state that an observation tells of: what a world model starts from.

An observation counts; it does not say which request waits since when or how long a launch still takes. What it leaves
open is filled with the mean of what it allows, never with luck, so that equal observations give equal starts:

- launches that are under way end evenly over launch + load, notices in half their span, cold starts after half of one;
- a share of the credits as large as the busy share of the window is in service, ending evenly over one service; what
  is answered then was counted in an earlier window and is not counted again;
- draining machines finish after half a service;
- queued requests are of the classes that wait, split in proportion over the options that queue and may answer them,
  and arrived evenly over the time in which as many arrive, at most one SLO where they are dropped at the deadline; of
  several routers, each gets those that its draws give it when the next tick begins;
- minimum billing of everything that runs is already paid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, ObservationArrays
from controller.compile import Setting
from controller.errors import ScenarioError, UsageError, mismatch
from controller.policies.predictive import recent_rate_rps
from envs.kernels.state import DOOMED, DRAINING, SERVING, STARTING, SimState


def check_single(observation: ObservationArrays) -> None:
    """Refuses an observation of several envs.

    Raises:
        UsageError: It has another number of envs than one.
    """
    if len(observation.tick) != 1:
        raise UsageError(mismatch("observation", "one env", f"{len(observation.tick)} envs"))


def place_observed(setting: Setting, state: SimState, into: ObservationArrays, observation: ObservationArrays) -> None:
    """Overwrites every env of a state that was just reset, and its observation, by what one env's observation tells.

    Raises:
        ScenarioError: The simulator has too few slots for what was observed, or a workflow has several operators.
    """
    if (setting.workload.num_operators > 1).any():
        raise ScenarioError(
            "workload.workflows: expected one operator each to start from an observation, which does not say how far "
            "requests have come, got several"
        )
    now_s = float(observation.tick[0]) * setting.control.tick_s
    for target, seen in zip(into, observation, strict=True):
        target[...] = seen
    into.time_s[:] = now_s
    clock = state.clock
    clock.now_s[:] = now_s
    clock.tick[:] = clock.opened[:] = observation.tick[0]
    closed = ~observation.available[0]
    state.fleet.unavailable_until_s[:] = np.where(closed, now_s + setting.control.retry_after_s / 2, -1.0)
    _place_machines(setting, state, observation, now_s)
    _place_serverless(setting, state, observation, now_s)
    _place_queues(setting, state, observation, now_s)
    for part in (state.fleet, state.containers, state.held, state.queue):
        for array in part:
            array[1:] = array[0]
    clock.next_request[:] = state.held.taken


@dataclass(frozen=True)
class _Machine:
    option: int
    state: int
    launch_s: float
    ready_s: float
    kill_s: float
    free_s: tuple[float, ...]  # of its credits that are in service


def _place_machines(setting: Setting, state: SimState, observation: ObservationArrays, now_s: float) -> None:
    catalog, fleet = setting.catalog, state.fleet
    machines: list[_Machine] = []
    for v, p in zip(*np.nonzero(catalog.usable & (catalog.market != SERVERLESS)), strict=True):
        machines += _machines_of(setting, observation, int(v), int(p), now_s)
    if len(machines) > fleet.option.shape[1]:
        raise ScenarioError(
            mismatch(
                "simulator.max_instances", f"at least {len(machines)} for the observed fleet", fleet.option.shape[1]
            )
        )
    fleet.used[0] = len(machines)
    fleet.credit_free_s[0] = now_s
    for i, machine in enumerate(machines):
        fleet.option[0, i] = machine.option
        fleet.state[0, i] = machine.state
        fleet.launch_s[0, i] = machine.launch_s
        fleet.ready_s[0, i] = machine.ready_s
        fleet.kill_s[0, i] = machine.kill_s
        fleet.credit_free_s[0, i, : len(machine.free_s)] = machine.free_s


def _machines_of(setting: Setting, observation: ObservationArrays, v: int, p: int, now_s: float) -> list[_Machine]:
    """Machines of one option in the order ready, doomed, starting, draining."""
    catalog = setting.catalog
    option, credit_count = v * catalog.market.shape[0] + p, int(catalog.concurrency[v, p])
    service_s = float(catalog.service_s[v, p, 1])
    ready, doomed = int(observation.ready[0, v, p]), int(observation.doomed[0, v, p])
    credit_s = (ready + doomed) * credit_count * setting.control.tick_s
    busy_share = 1.0 if observation.queue[0, v, p] > 0 else min(1.0, observation.busy_s[0, v, p] / max(credit_s, 1e-9))
    busy_until_s = (now_s + _spread(round(busy_share * (ready + doomed) * credit_count)) * service_s).tolist()
    paid_since_s = now_s - float(catalog.min_billing_s[p])
    machines = []
    for i in range(ready + doomed):
        # One credit of each machine in turn, so that no machine is full while another idles.
        free_s = tuple(busy_until_s[i :: ready + doomed])
        kill_s = np.inf if i < ready else now_s + float(catalog.notice_s[p]) / 2
        kind = SERVING if i < ready else DOOMED
        machines.append(_Machine(option, kind, paid_since_s, paid_since_s, kill_s, free_s))
    boot_s = float(catalog.launch_s[p] + catalog.load_s[v, p])
    for part in _spread(int(observation.starting[0, v, p])).tolist():
        ready_s = now_s + part * boot_s
        machines.append(_Machine(option, STARTING, ready_s - boot_s, ready_s, np.inf, ()))
    drained = _Machine(option, DRAINING, paid_since_s, paid_since_s, np.inf, (now_s + service_s / 2,))
    return machines + [drained] * int(observation.draining[0, v, p])


def _place_serverless(setting: Setting, state: SimState, observation: ObservationArrays, now_s: float) -> None:
    """Warm environments: the reserved ones by option, the others where calls run, or where requests overflow to."""
    catalog, containers = setting.catalog, state.containers
    num_variants, num_pools = catalog.usable.shape
    used = 0
    for p in np.flatnonzero(catalog.market == SERVERLESS).tolist():
        starting = observation.starting[0, :, p]
        reserved = observation.ready[0, :, p] + starting
        weights = np.where(catalog.usable[:, p], observation.busy_s[0, :, p], 0.0)
        if not weights.any():
            takes = setting.workload.overflow_option
            weights = np.array(
                [setting.workload.share[takes == v * num_pools + p].sum() for v in range(num_variants)], np.float64
            )
        others = _apportion(max(0, int(observation.warm[0, p] - reserved.sum())), weights)
        for v in range(num_variants):
            option, count = v * num_pools + p, int(reserved[v] + others[v])
            if used + count > containers.option.shape[1]:
                raise ScenarioError(
                    mismatch(
                        "observation.warm",
                        f"at most {containers.option.shape[1]} serverless environments over all pools",
                        int(observation.warm[0].sum()),
                    )
                )
            free_s = np.full(count, now_s)
            busy = min(count, round(float(observation.busy_s[0, v, p]) / setting.control.tick_s))
            free_s[:busy] += _spread(busy) * float(catalog.service_s[v, p, 1]) if busy else 0.0
            begun = min(count - busy, int(starting[v]))
            free_s[busy : busy + begun] += float(catalog.cold_start_s[v, p]) / 2
            containers.option[0, used : used + count] = option
            containers.free_s[0, used : used + count] = free_s
            containers.alive[0, option] = count
            containers.provisioned[0, option] = reserved[v]
            used += count
    containers.used[0] = used


def _place_queues(setting: Setting, state: SimState, observation: ObservationArrays, now_s: float) -> None:
    """Queued requests, as lists of held slots in order of arrival."""
    held, queue = state.held, state.queue
    by_option = observation.queue[0].ravel()
    total = int(by_option.sum())
    if total == 0:
        return
    if total > held.arrival_s.shape[1]:
        raise ScenarioError(
            mismatch("simulator.max_requests_held", f"at least {total} for the queue seen", held.arrival_s.shape[1])
        )
    counts = _by_class(setting, observation, by_option)
    arrivals, classes, options = _waiting_since(setting, observation, counts, now_s)
    slot_order = np.argsort(arrivals, kind="stable")
    held.arrival_s[0, :total] = arrivals[slot_order]
    held.klass[0, :total] = classes[slot_order]
    held.id[0, :total] = np.arange(total)
    routers = setting.scenario.control.routers
    for option in np.flatnonzero(by_option).tolist():
        slots, lane = np.flatnonzero(options[slot_order] == option), option * routers
        held.next[0, slots] = np.append(slots[1:], -1)
        queue.head[0, lane], queue.tail[0, lane], queue.length[0, lane] = slots[0], slots[-1], len(slots)
    held.free[0] = total if total < held.arrival_s.shape[1] else -1
    held.taken[0] = total


def _by_class(setting: Setting, observation: ObservationArrays, by_option: I64) -> I64:
    """Queued requests by class and option, (C, O): those of each option shared among the classes that wait."""
    waiting = observation.waiting[0].clip(min=0)
    left = _apportion(int(by_option.sum()), waiting if waiting.any() else setting.workload.share)
    counts = np.zeros((len(left), len(by_option)), np.int64)
    allowed = setting.workload.allowed.reshape(len(left), -1)
    for option in np.flatnonzero(by_option).tolist():
        fitting = np.where(allowed[:, option], left, 0)
        first = min(int(by_option[option]), int(fitting.sum()))
        counts[:, option] = _apportion(first, fitting)
        left = left - counts[:, option]
        # What no class that waits may use is still in the queue: the counts win over the rules.
        rest = _apportion(int(by_option[option]) - first, left)
        counts[:, option] += rest
        left = left - rest
    return counts


def _waiting_since(setting: Setting, observation: ObservationArrays, counts: I64, now_s: float) -> tuple[F64, I64, I64]:
    """Arrival, class and option of each queued request."""
    workload = setting.workload
    rates = recent_rate_rps(setting, observation) * workload.share
    arrivals, classes, options = [], [], []
    for klass, row in enumerate(counts):
        span_s = float(row.sum()) / max(float(rates[klass]), 1e-9)
        if workload.drop_at_deadline[klass]:
            span_s = min(span_s, float(workload.slo_s[klass]))
        for option in np.flatnonzero(row).tolist():
            arrivals.append(now_s - _spread(int(row[option])) * span_s)
            classes.append(np.full(row[option], klass))
            options.append(np.full(row[option], option))
    return np.concatenate(arrivals), np.concatenate(classes), np.concatenate(options)


def _spread(count: int) -> F64:
    """Middles of `count` equal parts of 0..1."""
    return (np.arange(count) + 0.5) / max(count, 1)


def _apportion(total: int, weights: F64 | I64) -> I64:
    """Whole numbers in proportion to weights that sum to `total`, by largest remainder; zeros where no weight is."""
    if total <= 0 or not weights.any():
        return np.zeros(len(weights), np.int64)
    exact = total * weights / weights.sum()
    parts: I64 = np.floor(exact + 1e-9).astype(np.int64)
    for i in np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]:
        parts[i] += 1
    return parts
