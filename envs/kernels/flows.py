"""Where the messages of workflows go: a running sum over the options of each operator."""

from __future__ import annotations

from controller import routing
from controller.arrays import WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import ANSWER
from envs.kernels.compiled import inlined, kernel
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState

_pick_option = inlined(routing.pick_option)


@inlined
def has_workflow(wl: WorkloadArrays, klass: int) -> bool:
    """Whether requests of a class are served by several operators."""
    return bool(wl.num_operators[klass] > 1)


@kernel
def workflow_routes(wl: WorkloadArrays, st: SimState, sc: Scratch, klass: int) -> None:
    """Running sums over the options of each operator that have a share."""
    num_pools = wl.allowed.shape[2]
    for operator in range(wl.num_operators[klass]):
        total, length = 0.0, 0
        for option in range(st.rules.shares.shape[1]):
            share = st.rules.shares[klass, option]
            if share > 0.0 and wl.operator[klass, option // num_pools] == operator:
                total += share
                sc.flow_share[klass, operator, length] = total
                sc.flow_option[klass, operator, length] = option
                length += 1
        sc.flow_options[klass, operator] = length


@kernel
def operator_option(st: SimState, sc: Scratch, klass: int, operator: int, identity: int) -> int:
    """Option that the shares draw for a request at an operator; -1 where it has none."""
    coin = uniform(st.clock.keys[ANSWER], identity, 1 + operator)
    picked = _pick_option(sc.flow_share[klass, operator, : sc.flow_options[klass, operator]], coin)
    return sc.flow_option[klass, operator, picked] if picked >= 0 else -1
