"""How fast functions answer, cold and warm, measured by calling them, and the catalog that says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from controller.catalog import Catalog
from controller.config import parse_config
from controller.errors import ClusterError
from experiments.calibrated import document_of
from experiments.catalog_derivation import Entry, derived, measured
from experiments.catalog_figures import to_yaml
from experiments.fitting import Estimate, mean_of, shape_of
from serving.aws.faults import AwsError
from serving.aws.function_calls import Answered, FunctionFaultError
from serving.aws.functions import Wanted
from serving.serverless import NotCalledError

_REFUSED_TIMEOUT_S, _STEP_S = 120.0, 0.5


@dataclass(frozen=True)
class FunctionTimes:
    """Seconds of each call of one function, as the caller sees them and as they are charged."""

    wanted: Wanted
    cold_s: tuple[float, ...]
    warm_s: tuple[float, ...]
    cold_billed_s: tuple[float, ...]
    warm_billed_s: tuple[float, ...]


def measure_function(
    wanted: Wanted, call: Callable[[list[Any]], Answered], inputs: Sequence[Any], cold: int, warm: int
) -> FunctionTimes:
    """Calls a function that was just made: first several at once, each of which needs an environment, then in turn.

    Args:
        wanted: The function.
        call: Answers one batch, from any thread.
        inputs: Taken in turn.
        cold: Calls at once, >= 1; those that found a warm environment count for nothing.
        warm: Calls in turn, >= 2.

    Raises:
        ClusterError: The function fails, or calls are refused for too long.
    """
    with ThreadPoolExecutor(cold) as threads:
        first = list(threads.map(lambda i: _answered(call, [inputs[i % len(inputs)]], wanted), range(cold)))
    then = [_answered(call, [inputs[i % len(inputs)]], wanted) for i in range(warm)]
    colds = [one for one in first + then if one.is_cold]
    # The first after a cold start still fills caches.
    warms = [one for one in then if not one.is_cold][1:]
    return FunctionTimes(
        wanted,
        tuple(one.took_s for one in colds),
        tuple(one.took_s for one in warms),
        tuple(one.billed_s for one in colds if one.billed_s is not None),
        tuple(one.billed_s for one in warms if one.billed_s is not None),
    )


def measured_catalog(catalog: Catalog, found: Sequence[FunctionTimes], where: str, day: str | None = None) -> Entry:
    """The catalog with what functions were measured to take, as plain values.

    Args:
        catalog: Whose profiles on serverless pools are replaced.
        found: Of each function.
        where: What was called, in words.
        day: Of the measurement; None: today.

    Raises:
        ConfigError: The figures make no valid catalog.
    """
    source = f"{where}, {day or datetime.now(UTC).date().isoformat()}"
    document: dict[str, Any] = document_of(catalog)
    for one in found:
        place = (one.wanted.variant, one.wanted.pool)
        profile = next(p for p in document["profiles"] if (p["variant"], p["pool"]) == place)
        profile.pop("service_by_batch_s", None)
        profile |= _figures(one, source)
    parse_config(document, Catalog, "measured catalog")
    return document


def measured_yaml(catalog: Catalog, found: Sequence[FunctionTimes], where: str) -> str:
    """Text of that catalog."""
    head = (
        f"# Written by `provisor cloud measure` from catalog '{catalog.name}'; all other figures are that catalog's.\n"
    )
    return to_yaml(measured_catalog(catalog, found, where), head)


def rows_of(found: Sequence[FunctionTimes]) -> list[Mapping[str, Any]]:
    """One row each: calls, means and quantiles, in seconds."""
    return [
        {
            "function": one.wanted.name,
            "variant": one.wanted.variant,
            "memory_mb": one.wanted.memory_mb,
            "cold_calls": len(one.cold_s),
            "cold_mean_s": float(np.mean(one.cold_s)),
            "cold_most_s": float(np.max(one.cold_s)),
            "warm_calls": len(one.warm_s),
            "warm_mean_s": float(np.mean(one.warm_s)),
            "warm_p99_s": float(np.quantile(one.warm_s, 0.99)),
            "cold_billed_mean_s": float(np.mean(one.cold_billed_s or (np.nan,))),
            "warm_billed_mean_s": float(np.mean(one.warm_billed_s or (np.nan,))),
        }
        for one in found
    ]


def _figures(one: FunctionTimes, source: str) -> Entry:
    warm = mean_of(one.warm_s)
    cold = mean_of(one.cold_s) if len(one.cold_s) > 1 else Estimate(one.cold_s[0], 0.0, 1)
    starts_s = np.maximum(np.array(one.cold_s) - warm.value, 1e-6)
    told = f"mean of {warm.samples} warm calls, standard error {warm.se:.2g} s; {source}"
    started = f"mean of {cold.samples} cold calls less a warm one, standard error {cold.se:.2g} s; {source}"
    return {
        "service_intercept_s": derived(0.0, "only one batch size was measured"),
        "service_slope_s": measured(warm.value, told),
        "service_shape": {
            "quantiles": shape_of(np.array(one.warm_s) / warm.value),
            "measured": f"call / mean, {warm.samples} warm calls; {source}",
        },
        "batch_max": 1,
        "cold_start_s": measured(float(starts_s.mean()), started),
        "cold_shape": {
            "quantiles": shape_of(starts_s / starts_s.mean()),
            "measured": f"start / mean, {cold.samples} cold calls; {source}",
        },
    }


def _answered(call: Callable[[list[Any]], Answered], batch: list[Any], wanted: Wanted) -> Answered:
    """An answer; calls refused for their number are made again."""
    end_s = time.monotonic() + _REFUSED_TIMEOUT_S
    while True:
        try:
            return call(batch)
        except NotCalledError as error:
            if not error.must_wait or time.monotonic() > end_s:
                raise ClusterError(f"function {wanted.name}: expected an answer, got a refusal: {error}") from error
            time.sleep(_STEP_S)
        except (AwsError, FunctionFaultError) as error:
            raise ClusterError(f"function {wanted.name}: expected an answer, got {error}") from error
