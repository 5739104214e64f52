"""The window of one tick in the observation, and the sums it is added to."""

from __future__ import annotations

from controller.arrays import HISTORY_TICKS, ControlArrays, ObservationArrays
from envs.kernels.compiled import inlined, merged
from envs.kernels.state import SimState, TotalArrays


@merged
def _clear(obs: ObservationArrays) -> None:
    """Zeroes everything that belongs to one window."""
    for klass in range(obs.arrivals.shape[0]):
        obs.arrivals[klass] = 0
        obs.answered[klass] = 0
        obs.missed[klass] = 0
        obs.shed[klass] = 0
        obs.failed[klass] = 0
        obs.accuracy_sum[klass] = 0.0
        obs.waiting[klass] = 0
        for bucket in range(obs.latency.shape[1]):
            obs.latency[klass, bucket] = 0
    for p in range(obs.invocations.shape[0]):
        obs.invocations[p] = 0
        obs.cold_starts[p] = 0
        obs.throttled[p] = 0
        obs.preempted[p] = 0
        obs.launch_failed[p] = 0
        for v in range(obs.busy_s.shape[0]):
            obs.busy_s[v, p] = 0.0
    for term in range(obs.spend_usd.shape[0]):
        obs.spend_usd[term] = 0.0


@inlined
def open_window(st: SimState, obs: ObservationArrays) -> None:
    """Clears the window of the tick to come, once: a decision and what it books come before the tick itself."""
    if st.clock.opened[0] <= st.clock.tick[0]:
        st.clock.opened[0] = st.clock.tick[0] + 1
        _clear(obs)


@merged
def close_window(ctl: ControlArrays, st: SimState, obs: ObservationArrays, tot: TotalArrays) -> None:
    """Advances day sums, totals and the history ring by the window that just ended."""
    start_s = st.clock.now_s[0] - ctl.tick_s
    if start_s > 0.0 and int(start_s / ctl.day_s + 1e-9) != int((start_s - ctl.tick_s) / ctl.day_s + 1e-9):
        for klass in range(obs.arrivals.shape[0]):
            obs.day_arrivals[klass] = 0
            obs.day_answered[klass] = 0
            obs.day_missed[klass] = 0
            obs.day_accuracy_sum[klass] = 0.0
        for term in range(obs.spend_usd.shape[0]):
            obs.day_spend_usd[term] = 0.0
    slot = (st.clock.tick[0] - 1) % HISTORY_TICKS
    for klass in range(obs.arrivals.shape[0]):
        obs.history[klass, slot] = obs.arrivals[klass]
        obs.day_arrivals[klass] += obs.arrivals[klass]
        obs.day_answered[klass] += obs.answered[klass]
        obs.day_missed[klass] += obs.missed[klass]
        obs.day_accuracy_sum[klass] += obs.accuracy_sum[klass]
        tot.arrivals[klass] += obs.arrivals[klass]
        tot.answered[klass] += obs.answered[klass]
        tot.missed[klass] += obs.missed[klass]
        tot.shed[klass] += obs.shed[klass]
        tot.failed[klass] += obs.failed[klass]
        tot.accuracy_sum[klass] += obs.accuracy_sum[klass]
        for bucket in range(obs.latency.shape[1]):
            tot.latency[klass, bucket] += obs.latency[klass, bucket]
    for term in range(obs.spend_usd.shape[0]):
        obs.day_spend_usd[term] += obs.spend_usd[term]
        tot.spend_usd[term] += obs.spend_usd[term]
    for p in range(obs.preempted.shape[0]):
        tot.preempted[p] += obs.preempted[p]
        tot.invocations[p] += obs.invocations[p]
        tot.cold_starts[p] += obs.cold_starts[p]
        tot.throttled[p] += obs.throttled[p]
