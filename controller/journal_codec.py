"""Arrays of one tick as JSON: what differs from the empty array of their kind, exact to the last bit.

An array becomes `[[flat indices], [values]]`, or is left out where nothing differs. Most entries of a plan or an
observation are empty most of the time, so a tick takes a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.arrays import (
    F64,
    HISTORY_TICKS,
    ActionArrays,
    ObservationArrays,
    PlanArrays,
    empty_actions,
    empty_observation,
    empty_plan,
)

Shape = tuple[int, int, int]
ArraysT = TypeVar("ArraysT", ObservationArrays, PlanArrays, ActionArrays)


class EmptyArrays:
    """What each array of one env is compared with; writer and reader must use the same."""

    def __init__(self, shape: Shape) -> None:
        self.observation = empty_observation(1, shape)
        self.plan = empty_plan(1, shape)
        self.actions = empty_actions(1, shape)
        self.shares = np.zeros((1, shape[2], shape[0], shape[1]))


def next_history(history: F64 | None, observation: ObservationArrays, env: int) -> F64 | None:
    """History (C, H) after one more window, whose slot is (tick - 1) % H; None where it was not known before."""
    if history is None:
        return None
    after = history.copy()
    if observation.tick[env] > 0:
        after[:, (int(observation.tick[env]) - 1) % HISTORY_TICKS] = observation.arrivals[env]
    return after


def encode(arrays: ArraysT, env: int, empty: ArraysT) -> dict[str, Any]:
    """Fields of one env by name, those without a difference left out."""
    fields = zip(arrays._fields, arrays, empty, strict=True)
    encoded = {name: encode_array(array[env], of_none[0]) for name, array, of_none in fields}
    return {name: value for name, value in encoded.items() if value is not None}


def encode_array(array: NDArray[Any], empty: NDArray[Any]) -> list[Any] | None:
    """`[[flat indices], [values]]` of what differs from `empty`; None where nothing does."""
    flat, plain = np.ravel(array), np.ravel(empty)
    at = np.flatnonzero(flat != plain)
    if at.size == 0:
        return None
    return [at.tolist(), [as_json(x) for x in flat[at].tolist()]]


def as_json(value: float) -> float | int | str:
    """JSON has no word for infinity and NaN; as text they come back through `float`."""
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    return int(value) if isinstance(value, bool) else value


def decode_array(value: list[Any] | None, empty: NDArray[Any]) -> NDArray[Any]:
    """A new array; ValueError, TypeError or IndexError where the text is no difference from `empty`."""
    array = np.array(empty)
    if value is None:
        return array
    indices, values = value
    if len(indices) != len(values):
        raise ValueError("as many indices as values")
    flat = array.reshape(-1)
    for index, number in zip(indices, values, strict=True):
        if not 0 <= index < flat.size:
            raise IndexError(f"index {index} of {flat.size}")
        flat[index] = float(number) if isinstance(number, str) else number
    return array


def decode(value: Mapping[str, Any], empty: ArraysT, skip: Sequence[str] = ()) -> ArraysT:
    """All fields as new arrays with one env; those in `skip` are left as the empty ones."""
    unknown = set(value) - set(empty._fields)
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    pairs = zip(empty._fields, empty, strict=True)
    fields: dict[str, Any] = {name: a if name in skip else decode_array(value.get(name), a) for name, a in pairs}
    return empty._replace(**fields)
