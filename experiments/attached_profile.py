"""Measures deployments of somebody else where they run: service times by batch size, and how long a replica starts.

A probe keeps as many batches in flight as the running replicas have credits, so that a time is what one credit takes
beside busy others, which is what a profile states. Batch sizes take turns, in an order drawn anew for each round, so
that a cluster that grows slower spoils all of them alike. Calls share the replicas with whatever else asks them:
measure when little does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from controller.catalog import Catalog, Profile
from controller.config import parse_config
from controller.errors import RunError, UsageError, mismatch
from experiments.calibrated import document_of
from experiments.catalog_derivation import Entry, derived, measured
from experiments.fitting import Estimate, mean_of, shape_of
from experiments.profile_entry import line_figures
from experiments.profiling import Inputs
from serving.mapping import MappedDeployment

_POLL_S = 0.1


class Caller(Protocol):
    """What `serving.attached_call.AttachedCaller` is."""

    async def infer(self, batch: list[Any], limit_s: float) -> list[Any]:
        """Outputs of one batch."""


@dataclass(frozen=True)
class Probe:
    """How one deployment is measured."""

    deployment: str
    mapped: MappedDeployment
    sizes: tuple[int, ...]
    concurrency: int  # batches in flight per replica
    replicas: int  # that run
    repeats: int  # timed batches of each size, at least
    warmup: int  # rounds that are not timed
    limit_s: float = 60.0


@dataclass(frozen=True)
class Probed:
    """What a deployment was measured to do."""

    probe: Probe
    services_s: Mapping[int, tuple[float, ...]]  # by batch size
    starts_s: tuple[float, ...]  # empty where none was measured
    accuracy: Estimate | None
    where: str  # host class, date and versions


def probe_of(
    name: str,
    mapped: MappedDeployment,
    profile: Profile,
    replicas: int,
    *,
    sizes: Sequence[int] | None,
    concurrency: int | None,
    repeats: int,
    warmup: int,
) -> Probe:
    """The probe of a deployment, after the catalog's profile where nothing else was asked for.

    Raises:
        UsageError: No replica runs, or several do where only one can be told from others.
    """
    if replicas < 1:
        raise UsageError(mismatch(f"deployments.{name}", "a replica that runs, to be measured", replicas))
    chosen = tuple(sizes) if sizes else tuple(2**n for n in range(profile.batch_max.bit_length()))
    if mapped.input == "single" and max(chosen) > 1 and replicas > 1:
        raise UsageError(
            f"deployments.{name}: expected one running replica, since a batch of single inputs would spread over "
            f"{replicas}, or --batches 1"
        )
    return Probe(name, mapped, chosen, concurrency or profile.concurrency, replicas, repeats, warmup)


async def time_calls(
    caller: Caller, values: Sequence[Any], probe: Probe, clock: Callable[[], float] = time.perf_counter
) -> dict[int, tuple[float, ...]]:
    """Seconds of each timed batch, by size.

    Raises:
        RunError: A call failed; the first one is named.
    """
    order, taken = random.Random(0), 0
    in_flight = probe.concurrency * probe.replicas
    rounds = -(-probe.repeats // in_flight)
    seconds: dict[int, list[float]] = {size: [] for size in probe.sizes}

    async def timed(batch: list[Any]) -> float:
        began_s = clock()
        await caller.infer(batch, probe.limit_s)
        return clock() - began_s

    for turn in range(-probe.warmup, rounds):
        for size in order.sample(list(probe.sizes), len(probe.sizes)):
            batches = []
            for _ in range(in_flight):
                batches.append([values[(taken + i) % len(values)] for i in range(size)])
                taken += size
            try:
                found = await asyncio.gather(*[timed(batch) for batch in batches])
            except Exception as error:
                shown = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
                raise RunError(f"{probe.deployment}: expected answers to batches of {size}, got {shown}") from error
            if turn >= 0:
                seconds[size] += found
    return {size: tuple(times) for size, times in seconds.items()}


async def time_starts(
    running: Callable[[], Awaitable[int]],
    set_target: Callable[[int], Awaitable[None]],
    before: int,
    repeats: int,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[float, ...]:
    """Seconds from asking for one more replica until it runs; the target that stood is set again whatever happens.

    Args:
        running: Replicas that run now.
        set_target: Sets how many are to run.
        before: How many were to run.
        repeats: Starts.
        timeout_s: Of one start or stop.
        clock: Monotonic, seconds.

    Raises:
        RunError: A replica did not start, such as for want of room.
    """

    async def until(count: int) -> None:
        began_s = clock()
        while await running() != count:
            if clock() - began_s > timeout_s:
                raise RunError(mismatch("replicas that run", f"{count} within {timeout_s:g} s", await running()))
            await asyncio.sleep(_POLL_S)

    seconds = []
    try:
        for _ in range(repeats):
            await until(before)
            began_s = clock()
            await set_target(before + 1)
            await until(before + 1)
            seconds.append(clock() - began_s)
            await set_target(before)
    finally:
        await set_target(before)
    return tuple(seconds)


async def judge_calls(caller: Caller, inputs: Inputs, probe: Probe) -> Estimate | None:
    """Share of right answers; None where no labels are known.

    Raises:
        UsageError: No answer equals its label.
    """
    if inputs.labels is None:
        return None
    outputs: list[Any] = []
    for first in range(0, len(inputs.values), max(probe.sizes)):
        outputs += await caller.infer(inputs.values[first : first + max(probe.sizes)], probe.limit_s)
    right = sum(bool(np.array_equal(out, label)) for out, label in zip(outputs, inputs.labels, strict=True))
    if not right:
        raise UsageError(f"--input: expected labels that outputs of {probe.deployment} can equal, got none that does")
    share = right / len(outputs)
    return Estimate(share, float(np.sqrt(share * (1 - share) / len(outputs))), len(outputs))


def with_probed(catalog: Catalog, probed: Sequence[Probed]) -> Entry:
    """The catalog with what was measured in its place, as plain values.

    Raises:
        ConfigError: The figures make no valid catalog.
    """
    document: dict[str, Any] = document_of(catalog)
    for one in probed:
        mapped = one.probe.mapped
        at = next(p for p in document["profiles"] if (p["variant"], p["pool"]) == (mapped.variant, mapped.pool))
        at.update(_profile(one))
        if one.accuracy is not None:
            variant = next(v for v in document["variants"] if v["name"] == mapped.variant)
            text = f"{one.accuracy.samples} labelled inputs, standard error {one.accuracy.se:.2g}; {one.where}"
            variant["accuracy"] = measured(one.accuracy.value, text)
    parse_config(document, Catalog, "profiled catalog")
    return document


def _profile(one: Probed) -> Entry:
    probe = one.probe
    means = {size: mean_of(seconds) for size, seconds in one.services_s.items()}
    how = f"{probe.deployment} with {probe.concurrency} calls of it at once on each of {probe.replicas} replicas"
    intercept, slope = line_figures(means)
    ratios = np.concatenate([np.array(seconds) / means[size].value for size, seconds in one.services_s.items()])
    found: Entry = {
        "service_intercept_s": intercept,
        "service_slope_s": slope,
        "service_by_batch_s": {
            str(size): measured(
                m.value, f"mean of {m.samples} repeats, standard error {m.se:.2g} s, {how}; {one.where}"
            )
            for size, m in means.items()
        },
        "service_shape": {
            "quantiles": shape_of(ratios),
            "measured": f"repeat / mean of its batch size, {ratios.size} repeats, {how}; {one.where}",
        },
        "batch_max": max(means),
        "concurrency": probe.concurrency,
    }
    if one.starts_s:
        value = float(np.mean(one.starts_s))
        spread = f"{min(one.starts_s):.3g} to {max(one.starts_s):.3g} s"
        text = f"asked for to running, mean of {len(one.starts_s)} starts ({spread}) on nodes that stood; {one.where}"
        found |= {
            "load_s": measured(value, text),
            "swap_s": derived(value, "as load_s: one replica stops and another starts in its place"),
        }
    return found
