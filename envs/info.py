"""What an environment tells beside observation and reward: one table, read for one env or for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import BILL_TERMS, ObservationArrays
from envs.kernels.state import TotalArrays

if TYPE_CHECKING:
    from envs.stepper import Stepper

Read = Callable[[TotalArrays, ObservationArrays], NDArray[Any]]


@dataclass(frozen=True)
class InfoKey:
    """One key of the info dict.

    Attributes:
        name: The key.
        unit: Of its value.
        meaning: What it is, of the episode so far.
        read: Values of all envs, (N,), or (N, len(parts)).
        parts: Keys of the dict that the value is; none for a number.
    """

    name: str
    unit: str
    meaning: str
    read: Read
    parts: tuple[str, ...] = ()


INFO = (
    InfoKey("cost_usd", "USD", "bill, all terms", lambda t, _: t.spend_usd.sum(axis=1)),
    InfoKey(
        "attainment",
        "share",
        "1 - missed / requests; 1 before the first request",
        lambda t, _: 1.0 - t.missed.sum(axis=1) / np.maximum(1, t.arrivals.sum(axis=1)),
    ),
    InfoKey(
        "accuracy",
        "share",
        "mean accuracy of the variants that answered; 0 before the first answer",
        lambda t, _: t.accuracy_sum.sum(axis=1) / np.maximum(1, t.answered.sum(axis=1)),
    ),
    InfoKey("cost_usd_by_term", "USD", "the bill by term", lambda t, _: t.spend_usd, BILL_TERMS),
    InfoKey("requests", "requests", "arrived", lambda t, _: t.arrivals.sum(axis=1)),
    InfoKey(
        "missed",
        "requests",
        "deadlines that passed unanswered; shed, refused and failed requests count",
        lambda t, _: t.missed.sum(axis=1),
    ),
    InfoKey("shed", "requests", "refused by a queue limit or a full serverless limit", lambda t, _: t.shed.sum(axis=1)),
    InfoKey("preempted", "instances", "taken back by the provider", lambda t, _: t.preempted.sum(axis=1)),
    InfoKey("time_s", "s", "since the episode began, in time of the (speeded) world", lambda _, o: o.time_s),
)


def info_of(stepper: Stepper, n: int) -> dict[str, Any]:
    """The info dict of env n, as plain numbers."""
    simulator = stepper.simulator
    info: dict[str, Any] = {}
    for key in INFO:
        value = key.read(simulator.totals, simulator.observation)[n].tolist()
        info[key.name] = dict(zip(key.parts, value, strict=True)) if key.parts else value
    return info


def info_of_all(stepper: Stepper) -> dict[str, Any]:
    """The info dicts of all envs as arrays (N,), each with the mask that Gymnasium's vector environments add."""
    simulator, num_envs = stepper.simulator, stepper.num_envs
    info: dict[str, Any] = {}
    for key in INFO:
        values = key.read(simulator.totals, simulator.observation)[:num_envs].copy()
        if key.parts:
            info[key.name] = {}
            for part, column in zip(key.parts, values.T, strict=True):
                info[key.name] |= {part: column.copy(), f"_{part}": np.ones(num_envs, np.bool_)}
        else:
            info[key.name] = values
        info[f"_{key.name}"] = np.ones(num_envs, np.bool_)
    return info
