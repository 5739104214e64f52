"""The suite that the project's claims are made on: three scenarios, six recorded traces, dated splits. Kept fixed.

A *scenario* is catalog, classes and market; a *trace* is who arrives when. Every trace is scaled to the scenario's mean
rate on its own training days and split by date; spot availability is split by date as well, so a test day meets a
market that no training day has seen. One more trace is held out altogether, for policies that claim to serve what they
were not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from controller.arrays import F64
from controller.errors import UsageError, mismatch
from controller.scenario import ArrivalModel, DayRange, FileTrace, GeneratedTrace, Scenario, Splits, load_scenario
from envs.joint_world import JointWorld, join_worlds
from envs.world import World, WorldChoice, build_world
from experiments.train_config import SUITE_SCENARIOS

Split = Literal["train", "validation", "test"]

SCENARIOS = SUITE_SCENARIOS

SPOT_DAYS: dict[Split, DayRange] = {"train": (1, 30), "validation": (31, 37), "test": (38, 45)}
"""Days of the recorded spot market that each split draws from."""

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_DEMANDING = 0.75
_PEAK_S = 600.0


@dataclass(frozen=True)
class SuiteTrace:
    """A trace with its dated splits and the law of its arrivals within a bin."""

    trace: FileTrace | GeneratedTrace
    splits: Splits
    arrivals: ArrivalModel


def _recorded(
    path: str, source: str, train: DayRange, validation: DayRange, test: DayRange, arrivals: ArrivalModel | None = None
) -> SuiteTrace:
    # A client of ServeGen may be silent all through the training days, so no row is scaled up there.
    rows: Literal["equal_mean", "as_recorded"] = "as_recorded" if path.startswith("servegen") else "equal_mean"
    trace = FileTrace(path=f"$PROVISOR_DATA/requests/{path}", source=source, rows=rows)
    return SuiteTrace(trace, Splits(train=train, validation=validation, test=test), arrivals or ArrivalModel())


def _generated(preset: str) -> SuiteTrace:
    splits = Splits(train=(1, 6), validation=(7, 7), test=(8, 9))
    return SuiteTrace(GeneratedTrace(preset=preset, days=9), splits, ArrivalModel())


_SERVEGEN = "alibaba/ServeGen f891d11, clients of {}, rates in bins of 10 minutes"
_SPARSE = ArrivalModel(smooth_s=300.0)
"""For counts of less than one request a second: their own noise, scaled up, would be bursts that nobody sent."""

TRACES: dict[str, SuiteTrace] = {
    "twitter": _recorded(
        "twitter_2021_08/counts_1s_day01-17.npz",
        "reconfigurable-ml-pipeline/web-service-datasets 7404ad6, twitter_trace",
        (1, 11),
        (12, 13),
        (14, 17),
    ),
    "worldcup": _recorded(
        "worldcup_1998/counts_60s_1998-05-01_06-26.npz",
        "nimamahmoudi/worldcup98-dataset 8246021; day 1 is 1998-05-01",
        (41, 45),
        (46, 49),
        (50, 57),
    ),
    "azure-functions": _recorded(
        "azure_functions_2019/counts_60s_8func_day01-14.npz",
        "beomyeol/faro b595c4a, eight functions of Azure Functions 2019",
        (1, 9),
        (10, 11),
        (12, 14),
    ),
    "faro": _recorded(
        "faro_azure_top9/counts_60s_9func_day01-11.npz",
        "beomyeol/faro b595c4a, nine busiest functions",
        (1, 8),
        (9, 9),
        (10, 11),
    ),
    "servegen-mid": _recorded("servegen/m-mid.npz", _SERVEGEN.format("m-mid"), (1, 9), (10, 11), (12, 14)),
    "servegen-large": _recorded("servegen/m-large.npz", _SERVEGEN.format("m-large"), (1, 9), (10, 11), (12, 14)),
}
"""Traces that policies are trained, tuned and tested on."""

GENERATED: dict[str, SuiteTrace] = {
    f"generated-{preset.replace('_', '-')}": _generated(preset) for preset in ("burst", "diurnal", "flash_crowd")
}
"""Traces that a generalist is trained on beside the recorded ones; nothing is claimed on them."""

HELD_OUT: dict[str, SuiteTrace] = {
    "nasa": _recorded(
        "nasa_1995/counts_1s.npz",
        "reconfigurable-ml-pipeline/web-service-datasets 7404ad6, nasa; day 1 is 1995-07-01",
        (1, 27),
        (30, 44),
        (45, 57),
        _SPARSE,
    ),
}
"""Traces that nothing was trained or tuned on."""


def suite_trace(name: str) -> SuiteTrace:
    """A trace of the suite, one held out or a generated one, by name.

    Raises:
        UsageError: No such trace.
    """
    known = TRACES | GENERATED | HELD_OUT
    if name not in known:
        raise UsageError(mismatch("trace", f"one of {', '.join(known)}", name))
    return known[name]


def suite_scenario(scenario: str, trace: str, scale: float = 1.0) -> Scenario:
    """A scenario with one of the suite's traces in place of its own; it is named `SCENARIO.TRACE`.

    Args:
        scenario: Name or path of a scenario.
        trace: Name of a trace.
        scale: Multiplies the scenario's mean rate; above 1 the quotas of its pools, the queue limits of its classes and
            the room in the simulator too.

    Raises:
        ProvisorError: One of them does not exist or is wrong.
    """
    chosen, base = suite_trace(trace), load_scenario(scenario)
    name = f"{base.name}.{trace}" if scale == 1.0 else f"{base.name}.{trace}.x{scale:g}"
    changed: dict[str, object] = {
        "name": name,
        "trace": chosen.trace,
        "splits": chosen.splits,
        "arrivals": chosen.arrivals,
        "mean_rps": base.mean_rps * scale,
    }
    if scale > 1.0:
        quota = {pool.name: math.ceil(pool.quota * scale) for pool in base.load_catalog().pools}
        size = base.simulator
        classes = base.workload.classes
        longer = [one.model_copy(update={"queue_limit": math.ceil(one.queue_limit * scale)}) for one in classes]
        changed["workload"] = base.workload.model_copy(update={"classes": tuple(longer)})
        changed["changes"] = base.changes.model_copy(update={"quota": quota})
        changed["simulator"] = size.model_copy(
            update={
                "max_instances": math.ceil(size.max_instances * scale),
                "max_requests_held": math.ceil(size.max_requests_held * scale),
            }
        )
    return base.model_copy(update=changed)


def suite_world(scenario: str, trace: str, split: Split, days: DayRange | None = None, scale: float = 1.0) -> World:
    """The world of a scenario, a trace and a split.

    Args:
        scenario: Name or path of a scenario.
        trace: Name of a trace.
        split: Days of the trace and of the spot market.
        days: Fewer days of the split; None: all of them.
        scale: As for `suite_scenario`.

    Raises:
        ProvisorError: A file is missing, or the days lie outside the split.
    """
    chosen = suite_scenario(scenario, trace, scale)
    first, last = getattr(chosen.splits, split)
    if days is not None and not first <= days[0] <= days[1] <= last:
        raise UsageError(mismatch("days", f"A:B within {first}:{last} ({split} days of {trace})", days))
    return build_world(chosen, WorldChoice(days=days or (first, last), spot_days=market_days(chosen, split)))


def market_days(scenario: Scenario, split: Split) -> DayRange:
    """Days of a scenario's spot market that a split draws from: `SPOT_DAYS`, in proportion where there are fewer."""
    total, (first, last) = SPOT_DAYS["test"][1], SPOT_DAYS[split]
    days = total if scenario.spot.kind == "file" else min(scenario.spot.days, total)
    return (first - 1) * days // total + 1, last * days // total


def joint_world(
    scenario: str,
    days: Mapping[str, Sequence[int]] | None = None,
    split: Split | None = None,
    scale: float = 1.0,
    traces: Sequence[str] = (),
) -> JointWorld:
    """A world of days of several traces.

    Args:
        scenario: Name or path of a scenario.
        days: Days of each trace; None: those of the split.
        split: Takes all its days; None where `days` are given, each of which then brings the market of its own split.
        scale: As for `suite_scenario`.
        traces: With a split, the traces; none stand for all recorded ones of the suite.

    Raises:
        ProvisorError: A file is missing, or a day belongs to no split.
    """
    if days is None:
        if split is None:
            raise UsageError(mismatch("split", f"one of {', '.join(_SPLITS)}, or days", None))
        worlds = [suite_world(scenario, trace, split, scale=scale) for trace in traces or TRACES]
    else:
        worlds = [
            suite_world(scenario, trace, split_of_day(trace, day), (day, day), scale)
            for trace, chosen in days.items()
            for day in chosen
        ]
    markets: dict[bytes, F64] = {}
    shared = [
        replace(
            one,
            trace_name=one.setting.scenario.name.removeprefix(f"{load_scenario(scenario).name}."),
            spot_share=markets.setdefault(one.spot_share.tobytes(), one.spot_share),
        )
        for one in worlds
    ]
    return join_worlds(shared)


def tuning_day(scenario: str, trace: str) -> int:
    """The one whole day of a trace that settings are tuned on.

    Rule: of the training and validation days, the one at the 75th percentile of the ratio of the day's largest mean
    rate over ten minutes to its mean, the earlier of equals. So it is more demanding than most days, and no freak.
    """
    chosen = suite_scenario(scenario, trace)
    world = build_world(chosen, WorldChoice(days=(chosen.splits.train[0], chosen.splits.validation[1])))
    width = max(1, round(_PEAK_S / world.bin_s))
    per_day = round(world.setting.control.day_s / world.bin_s)
    ratios: list[tuple[float, int]] = []
    for day in world.days:
        rate = world.rate_rps[0, (day - 1) * per_day : day * per_day]
        whole = rate[: len(rate) // width * width].reshape(-1, width).mean(axis=1)
        ratios.append((float(whole.max() / max(rate.mean(), 1e-9)), day))
    ratios.sort()
    return ratios[int(np.floor(_DEMANDING * (len(ratios) - 1) + 0.5))][1]


def split_of_day(trace: str, day: int) -> Split:
    """The split a day of a trace belongs to.

    Raises:
        UsageError: It belongs to none.
    """
    splits = suite_trace(trace).splits
    for split in _SPLITS:
        first, last = getattr(splits, split)
        if first <= day <= last:
            return split
    raise UsageError(mismatch("day", f"a day of {splits.model_dump()}", day))
