"""Deadlines in the event kernel: what becomes of a request whose time is over."""

from __future__ import annotations

import numpy as np

from controller.arrays import CatalogArrays, ObservationArrays, WorkloadArrays
from envs.kernels.compiled import kernel
from envs.kernels.copies import leave_queue
from envs.kernels.flows import has_workflow
from envs.kernels.groups import depart
from envs.kernels.scratch import GONE, RUNNING, WAITING, Events
from envs.kernels.state import COLLAGE, SimState
from envs.kernels.workflows import pass_workflow_deadline


@kernel
def expire(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    ev: Events,
    joined: int,
    now_s: float,
    end_s: float,
) -> float:
    """Takes queued copies back whose deadline has passed; returns the next deadline.

    A request of which no copy is in service fails, unless its class keeps waiting. A collage does not count as one.
    """
    next_expiry_s = np.inf
    for klass in range(wl.slo_s.shape[0]):
        if ev.expiry_s[klass] <= now_s:
            place = ev.expiry_at[klass]
            ev.expiry_s[klass] = np.inf
            while place < joined:
                copy = ev.order[place]
                if ev.klass[copy] == klass and ev.stage[copy] != GONE and ev.steps[copy] & COLLAGE == 0:
                    deadline_s = ev.arrival_s[copy] + wl.slo_s[klass]
                    if deadline_s > now_s:
                        ev.expiry_s[klass] = deadline_s
                        break
                    if has_workflow(wl, klass):
                        pass_workflow_deadline(wl, obs, ev, copy)
                    else:
                        _pass_deadline(wl, obs, ev, copy)
                    if ev.stage[copy] == GONE and ev.ring[copy] >= 0:
                        depart(cat, st, ev, copy, now_s, end_s)
                place += 1
            ev.expiry_at[klass] = place
        next_expiry_s = min(next_expiry_s, ev.expiry_s[klass])
    return next_expiry_s


@kernel
def _drop_waiting(ev: Events, copy: int) -> None:
    if ev.stage[copy] == WAITING:
        leave_queue(ev, copy)
    if ev.stage[copy] != RUNNING:
        ev.stage[copy] = GONE


@kernel
def _pass_deadline(wl: WorkloadArrays, obs: ObservationArrays, ev: Events, copy: int) -> None:
    klass, twin = ev.klass[copy], ev.twin[copy]
    is_running = ev.stage[copy] == RUNNING or (twin >= 0 and ev.stage[twin] == RUNNING)
    if not is_running and not wl.drop_at_deadline[klass]:
        return
    if twin >= 0 and not (ev.stage[copy] == RUNNING and ev.stage[twin] == RUNNING):
        ev.twin[copy] = ev.twin[twin] = -1
        _drop_waiting(ev, twin)
    _drop_waiting(ev, copy)
    if not is_running:
        obs.missed[klass] += 1
        obs.failed[klass] += 1
