"""Forms of a learned policy's action besides knobs, how many numbers each takes, and what a network sees for it.

The forms are rivals of the knobs in experiments: nothing of theirs is exported. The kernel beside
(`controller.kernels.forms`) says what each does to the rule.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ON_DEMAND, SERVERLESS, ObservationArrays
from controller.compile import Setting
from controller.observation import CLIP, OBSERVATION_SIZE
from controller.rule_arrays import NUM_KNOBS, MpcArrays, MpcState

Form = Literal["knobs", "residual", "direct", "per_option"]
FORMS: tuple[Form, ...] = ("knobs", "residual", "direct", "per_option")
KNOB_FORM, RESIDUAL, DIRECT, PER_OPTION = range(len(FORMS))

OPTION_FEATURES = (
    "whether the option is a machine that some class may use; all others are 0 where it is not",
    "log price per request / the cheapest option's",
    "log price per request / the cheapest option's of the same variant",
    "ready capacity / rate now",
    "starting capacity / rate now",
    "capacity under notice / rate now",
    "whether its pool takes launches",
    "whether a replica became ready there since the pool last took none",
    "whether the pool is on demand",
    "(accuracy - mean floor) / span of accuracies",
    "(launch + load) / horizon",
    "share of the pool's machines in use",
)
"""What a scorer sees of an option, beside what it sees of everything."""

NUM_OPTION_FEATURES = len(OPTION_FEATURES)

F32 = NDArray[np.float32]


def form_size(form: Form, shape: tuple[int, int, int]) -> int:
    """Numbers of one action; `shape` is (V, P, C)."""
    num_variants, num_pools, _ = shape
    options = num_variants * num_pools
    return {"knobs": NUM_KNOBS, "residual": num_pools, "direct": 1 + options, "per_option": options}[form]


def seen_size(form: Form, shape: tuple[int, int, int]) -> int:
    """Numbers that a network sees for one action: the observation, the last action, and of a scorer the options."""
    if form == "knobs":
        return OBSERVATION_SIZE
    size = form_size(form, shape)
    return OBSERVATION_SIZE + size + (size * NUM_OPTION_FEATURES if form == "per_option" else 0)


def seen_for(
    form: Form, setting: Setting, rule: MpcArrays, state: MpcState, observation: ObservationArrays,
    encoded: F32, acted: F64,
) -> F32:  # fmt: skip
    """What a network sees, (N, `seen_size`).

    Args:
        form: Of the action.
        setting: What is decided for.
        rule: The rule's settings.
        state: Of the rule, of N envs.
        observation: Of N envs.
        encoded: (N, OBSERVATION_SIZE), by `controller.kernels.encode`.
        acted: (N, A) the last action.
    """
    if form == "knobs":
        return encoded.copy()
    parts = [encoded, acted.astype(np.float32)]
    if form == "per_option":
        parts.append(option_features(setting, rule, state, observation).reshape(len(encoded), -1))
    return np.concatenate(parts, axis=1)


def option_features(setting: Setting, rule: MpcArrays, state: MpcState, observation: ObservationArrays) -> F32:
    """`OPTION_FEATURES` of every option, (N, V P, F)."""
    catalog, workload, control = setting.catalog, setting.workload, setting.control
    is_option = np.isfinite(rule.usd) & (rule.usd > 0.0) & workload.allowed.any(axis=0)
    is_option &= catalog.market[None, :] != SERVERLESS
    num_envs = len(observation.tick)
    shape = (num_envs, *rule.usd.shape)
    out = np.zeros((*shape, NUM_OPTION_FEATURES), np.float32)
    if not is_option.any():
        return out.reshape(num_envs, -1, NUM_OPTION_FEATURES)
    rate = observation.arrivals.sum(axis=1) / control.tick_s
    rate_rps = np.maximum(rate, 0.01 * rule.prior_rps)[:, None, None]
    log_usd = np.log(np.where(is_option, rule.usd, 1.0))
    cheapest = np.where(is_option, log_usd, np.inf)
    own = cheapest.min(axis=1, keepdims=True)
    span = max(float(np.ptp(catalog.accuracy)), 1e-3)
    floor = float(workload.share @ workload.accuracy_floor)
    used = (observation.ready + observation.starting).sum(axis=1) / np.maximum(setting.limits.pool_max, 1)
    columns: tuple[NDArray[np.floating] | NDArray[np.bool_], ...] = (
        np.broadcast_to(is_option, shape),
        log_usd - cheapest.min(),
        log_usd - np.where(np.isfinite(own), own, 0.0),
        observation.ready * rule.rps / rate_rps,
        observation.starting * rule.rps / rate_rps,
        observation.doomed * rule.rps / rate_rps,
        observation.available[:, None, :],
        state.trusted[:, None, :],
        catalog.market == ON_DEMAND,
        ((catalog.accuracy - floor) / span)[:, None],
        (catalog.launch_s + catalog.load_s) / control.horizon_s,
        used[:, None, :],
    )
    for i, column in enumerate(columns):
        out[..., i] = np.where(is_option, np.clip(column, -CLIP, CLIP), 0.0)
    return out.reshape(num_envs, -1, NUM_OPTION_FEATURES)
