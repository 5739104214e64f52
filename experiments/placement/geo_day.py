"""A day of the study's regions whose rates follow a real trace with the sun, planned anew in the control loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controller.arrays import F64
from controller.errors import ConfigError
from controller.planners.geo.problem import GeoProblem
from controller.policies.geo_placing import GeoPlacingSettings
from experiments.placement.geo_setting import TICK_S
from experiments.placement.geo_study import PLACES, REAL_PRICES, data_folder, study_problem
from experiments.placement.replanning import GIVEN, Ran, run_regions
from experiments.placement.table import VariantTable
from traces.readers import load_arrays

TRACE = "requests/worldcup_1998/counts_60s_1998-05-01_06-26.npz"
DAY = 38
"""8 June 1998: the busy days before the first match, whose rate has a day and a night and no gap."""

SPEED = 24.0
"""The day is played so many times as fast, in an hour."""

USD_PER_GB = REAL_PRICES["between regions"]
_MINUTES = 1440
_DEGREES_PER_HOUR = 15.0
_ANEW, _PROPOSED = "planned anew", "planned anew on the need that mpc proposes"


def day_rates(problem: GeoProblem, folder: Path) -> F64:
    """Requests a second of every region, (ticks, R): its mean times the trace's day, shifted by its longitude.

    Raises:
        ConfigError: The trace is missing.
    """
    path = folder / TRACE
    if not path.is_file():
        raise ConfigError(f"{path}: expected a trace, found none")
    counts = load_arrays(path)["counts"][DAY * _MINUTES : (DAY + 1) * _MINUTES].astype(np.float64)
    ticks = round(_MINUTES * 60.0 / SPEED / TICK_S)
    shape = counts.reshape(ticks, -1).mean(axis=1)
    shape /= shape.mean()
    shifts = [round(place.longitude / _DEGREES_PER_HOUR / 24.0 * ticks) for place in PLACES]
    # Where the sun is further on, the same hour of the day comes earlier.
    return np.stack(
        [region.rate_rps * np.roll(shape, -shift) for region, shift in zip(problem.regions, shifts, strict=True)],
        axis=1,
    )


def measure_day(table: VariantTable) -> list[Ran]:
    """A plan for every region's peak, held, and what plans anew: by its own headroom, and on a proposed need.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: Prices or the trace are missing.
    """
    problem = study_problem(table, USD_PER_GB)
    common = {"problem": GIVEN, "headroom": 1.25, "window_s": 30.0, "rest_s": 150.0, "rate_bound": 0.15}
    settings = [GeoPlacingSettings.model_validate(common | changes) for changes in ({}, {"proposer": "mpc"})]
    return run_regions(problem, day_rates(problem, data_folder()), settings, (_ANEW, _PROPOSED))
