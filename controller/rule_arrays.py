"""Array forms of a forecaster, of the `mpc` rule's settings and of its state, as the compiled kernels take them.

Axes as in `controller.arrays`, and F inputs, M1 and M2 hidden units, Q quantile levels, K knobs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64, Bool


class Knob(NamedTuple):
    """One number that a policy may set around the rule, in `KNOB_RANGE`; 0 is the rule's own setting.

    What it moves is the field of the same name of `controller.policies.predictive.MpcSettings`, how far is in
    `controller.policies.learned.knob_references`.
    """

    name: str
    effect: str  # a key of `KNOB_EFFECTS`


KNOB_EFFECTS = {
    "factor": "multiplies the setting by exp(scale x knob)",
    "log_odds": "adds scale x knob to the log-odds of the setting",
    "shift": "adds setting x scale x knob, which is 0 in the rule itself",
}
"""What turning a knob does to its setting."""

KNOB_SPECS = (
    Knob("headroom", "factor"),
    Knob("accuracy_tilt", "shift"),
    Knob("spot_share", "log_odds"),
    Knob("over_provision", "factor"),
    Knob("overflow_fraction", "log_odds"),
    Knob("scale_in_s", "factor"),
    Knob("on_demand_floor", "log_odds"),
)
"""Every knob, in the order of the K axis."""

KNOBS = tuple(knob.name for knob in KNOB_SPECS)
"""Names of the knobs, in the order of the K axis."""

KNOB_RANGE = (-1.0, 1.0)

NUM_KNOBS = len(KNOBS)
HEADROOM, ACCURACY_TILT, SPOT_SHARE, OVER_PROVISION, OVERFLOW_FRACTION, SCALE_IN, ON_DEMAND_SHARE = range(NUM_KNOBS)

RATE_TICKS = 6
"""Ticks of "the rate now": 60 s at the default tick."""


class ForecastArrays(NamedTuple):
    """Quantiles of log(largest rate over the horizon / rate now): a network of two layers on catalog-free inputs.

    Quantiles are `bias + cumulative softplus of increments`, so they never cross: output 0 is the lowest quantile,
    output q > 0 adds softplus(raw_q) to the one before.
    """

    input_scale: F64  # (F,) inputs are multiplied by this before the first layer
    w1: F64  # (F, M1)
    b1: F64  # (M1,)
    w2: F64  # (M1, M2)
    b2: F64  # (M2,)
    w3: F64  # (M2, Q)
    b3: F64  # (Q,)
    levels: F64  # (Q,) rising, in (0, 1)


class MpcArrays(NamedTuple):
    """`MpcSettings` as numbers; units and ranges are documented there."""

    quantile: float
    headroom: F64  # (C,)
    steady_s: float
    backlog_s: float
    need_band: float
    accuracy_margin: float
    accuracy_band: float
    accuracy_tilt: float
    repay_s: float
    spot_share: float
    over_provision: float
    spot_spread: float
    on_demand_floor: float
    replica_band: float
    scale_in_s: float
    overflow_fraction: F64  # (C,)
    miss_budget: float
    overflow_slack: float
    batch_slack: float
    shed_slack: F64  # (C,)
    prior_rps: float
    batch_size: I64  # (V, P) largest batch that fits the SLOs
    rps: F64  # (V, P) of one replica always busy with such batches; 0 where unusable
    usd: F64  # (V, P) per request at that; infinite where unusable and for serverless
    near_floor: Bool  # (C, V) variants next to the class's floor: what classes share machines by
    accuracy_usd: F64  # (C,) $ per request for a unit of mean accuracy at the floor, at usual prices; 0: it is free
    tilt_weight: F64  # (C,) reach of the accuracy tilt, relative to the class for which accuracy costs most


class MpcState(NamedTuple):
    """What the `mpc` rule remembers per env, and what it last derived (for observations and journals)."""

    held: F64  # (N, P) machines held against scale-in, decaying; infinite at first: all that exist
    target_accuracy: F64  # (N, C) mean accuracy the last plan was made for, held likewise
    growth: F64  # (N, Q) forecast quantiles of log(max rate / rate now)
    told: F64  # (N, 2) rate now and largest rate to come, requests/s, in place of the forecast; NaN: nothing is told
    trusted: Bool  # (N, P) a replica became ready there since the pool was last unavailable
    is_open: Bool  # (N, P) available and trusted at the last plan: capacity is planned there
    need_rps: F64  # (N, C) demand planned for, held while what is needed stays within a band below it
    accuracy_usd: F64  # (N, C) $ per request for a unit of mean accuracy at the floor, at the prices now; 0: not known


UNTOLD: F64 = np.zeros((0, 0, 2))
"""Tells the rule nothing, whatever the number of envs: `MpcState.told` of no tick."""


def new_mpc_state(num_envs: int, shape: tuple[int, int, int], num_levels: int) -> MpcState:
    """State of a rule that has not decided yet; `shape` is (V, P, C)."""
    _, num_pools, num_classes = shape
    return MpcState(
        held=np.full((num_envs, num_pools), np.inf),
        target_accuracy=np.zeros((num_envs, num_classes)),
        growth=np.zeros((num_envs, num_levels)),
        told=np.full((num_envs, 2), np.nan),
        trusted=np.ones((num_envs, num_pools), np.bool_),
        is_open=np.ones((num_envs, num_pools), np.bool_),
        need_rps=np.zeros((num_envs, num_classes)),
        accuracy_usd=np.zeros((num_envs, num_classes)),
    )
