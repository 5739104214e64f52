"""Rows: the tuples of one env, as views without the env axis.

An (N,) array becomes a view of length one, read at [0].
"""

from __future__ import annotations

from controller.arrays import ObservationArrays
from envs.kernels.compiled import inlined
from envs.kernels.state import Clock, Containers, Fleet, Held, Queue, Rules, SimState, TotalArrays


@inlined
def _clock(clock: Clock, n: int) -> Clock:
    return Clock(
        clock.seed[n : n + 1],
        clock.keys[n],
        clock.trace[n : n + 1],
        clock.start_s[n : n + 1],
        clock.spot_start_s[n : n + 1],
        clock.now_s[n : n + 1],
        clock.tick[n : n + 1],
        clock.next_request[n : n + 1],
        clock.gap_left[n : n + 1],
        clock.launches[n : n + 1],
        clock.opened[n : n + 1],
    )


@inlined
def _fleet(fleet: Fleet, n: int) -> Fleet:
    return Fleet(
        fleet.option[n],
        fleet.state[n],
        fleet.launch_s[n],
        fleet.ready_s[n],
        fleet.kill_s[n],
        fleet.flight_option[n],
        fleet.credit_free_s[n],
        fleet.credit_start_s[n],
        fleet.credit_flight[n],
        fleet.unavailable_until_s[n],
        fleet.used[n : n + 1],
    )


@inlined
def _containers(containers: Containers, n: int) -> Containers:
    return Containers(
        containers.option[n],
        containers.free_s[n],
        containers.flight[n],
        containers.alive[n],
        containers.provisioned[n],
        containers.used[n : n + 1],
    )


@inlined
def _held(held: Held, n: int) -> Held:
    return Held(
        held.arrival_s[n],
        held.id[n],
        held.klass[n],
        held.attempt[n],
        held.next[n],
        held.twin[n],
        held.free[n : n + 1],
        held.taken[n : n + 1],
        held.steps[n],
        held.left_s[n],
        held.loose[n : n + 1],
        held.pairs[n : n + 1],
        held.escalated[n : n + 1],
        held.redundant[n],
    )


@inlined
def _queue(queue: Queue, n: int) -> Queue:
    return Queue(
        queue.head[n],
        queue.tail[n],
        queue.length[n],
    )


@inlined
def _rules(rules: Rules, n: int) -> Rules:
    return Rules(
        rules.shares[n],
        rules.overflow_after_s[n],
        rules.overflow_fraction[n],
        rules.hedge_after_s[n],
        rules.hedge_replaces[n],
        rules.cascade_variant[n],
        rules.cascade_threshold[n],
        rules.cascade_concurrent[n],
        rules.collage_variant[n],
        rules.collage_after_s[n],
        rules.collage_passes[n],
        rules.path_accuracy[n],
        rules.shed_limit[n],
        rules.batch_size[n],
        rules.batch_wait_s[n],
    )


@inlined
def state_row(st: SimState, n: int) -> SimState:
    """State of env n."""
    return SimState(
        _clock(st.clock, n),
        _fleet(st.fleet, n),
        _containers(st.containers, n),
        _held(st.held, n),
        _queue(st.queue, n),
        _rules(st.rules, n),
    )


@inlined
def observation_row(obs: ObservationArrays, n: int) -> ObservationArrays:
    """Observation of env n."""
    return ObservationArrays(
        obs.time_s[n : n + 1],
        obs.tick[n : n + 1],
        obs.arrivals[n],
        obs.history[n],
        obs.answered[n],
        obs.missed[n],
        obs.shed[n],
        obs.failed[n],
        obs.accuracy_sum[n],
        obs.day_arrivals[n],
        obs.day_answered[n],
        obs.day_missed[n],
        obs.day_accuracy_sum[n],
        obs.latency[n],
        obs.waiting[n],
        obs.queue[n],
        obs.busy_s[n],
        obs.ready[n],
        obs.starting[n],
        obs.draining[n],
        obs.doomed[n],
        obs.warm[n],
        obs.invocations[n],
        obs.cold_starts[n],
        obs.throttled[n],
        obs.available[n],
        obs.preempted[n],
        obs.launch_failed[n],
        obs.spend_usd[n],
        obs.day_spend_usd[n],
        obs.demoted[n],
    )


@inlined
def totals_row(tot: TotalArrays, n: int) -> TotalArrays:
    """Totals of env n."""
    return TotalArrays(
        tot.arrivals[n],
        tot.answered[n],
        tot.missed[n],
        tot.shed[n],
        tot.failed[n],
        tot.accuracy_sum[n],
        tot.right[n],
        tot.latency[n],
        tot.spend_usd[n],
        tot.preempted[n],
        tot.launch_failed[n],
        tot.invocations[n],
        tot.cold_starts[n],
        tot.throttled[n],
        tot.instance_s[n],
    )
