"""Seeded request traces with the statistics of public ones, so that everything runs without any data set.

A spec is a product of components on a base rate, plus timers and bursts of their own size, from which whole counts
are drawn. The presets named after public traces are fitted to statistics quoted beside them, measured on the sources
those comments name; a test holds the generated statistics to them.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.components import Bursts, Component, DayLevel, Diurnal, FlashCrowd, Noise, OnOff, RegimeChange, Timer
from traces.trace import DAY_S, Trace

_MOST_BINS = 50_000_000


@dataclass(frozen=True)
class GeneratorSpec:
    """What a generated load is made of."""

    name: str
    mean_rps: float  # of the expected load over the generated length, exactly
    components: tuple[Component, ...] = ()
    timers: tuple[Timer, ...] = ()
    added_bursts: tuple[Bursts, ...] = ()  # of a height that does not follow the base: heights count its mean as 1
    bin_seconds: float = 1.0
    dispersion: float = 1.0  # variance / mean of the counts in a bin given the rate: 1 Poisson, above it Gamma-Poisson

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean_rps) and self.mean_rps > 0):
            raise TraceError(mismatch(f"{self.name}: mean_rps", "a number > 0", self.mean_rps))
        if not (math.isfinite(self.bin_seconds) and self.bin_seconds > 0):
            raise TraceError(mismatch(f"{self.name}: bin_seconds", "a number > 0", self.bin_seconds))
        if not (math.isfinite(self.dispersion) and self.dispersion >= 1):
            raise TraceError(mismatch(f"{self.name}: dispersion", "a number >= 1", self.dispersion))
        if not 0 <= sum(timer.share for timer in self.timers) <= 1:
            raise TraceError(mismatch(f"{self.name}: timers", "shares that sum to at most 1", self.timers))


def generate(
    spec: GeneratorSpec | str,
    days: float,
    seed: int,
    *,
    mean_rps: float | None = None,
    bin_seconds: float | None = None,
) -> Trace:
    """A trace of whole counts, all bins valid.

    Args:
        spec: Parameters, or the name of a preset.
        days: Length in days, > 0; rounded to whole bins.
        seed: Equal arguments give equal counts; each component has its own stream.
        mean_rps: Mean of the expected load, requests/s; None: the spec's.
        bin_seconds: Bin width; None: the spec's.
    """
    chosen = preset(spec) if isinstance(spec, str) else spec
    chosen = replace(
        chosen,
        mean_rps=chosen.mean_rps if mean_rps is None else mean_rps,
        bin_seconds=chosen.bin_seconds if bin_seconds is None else bin_seconds,
    )
    if not (math.isfinite(days) and days > 0):
        raise TraceError(mismatch("days", "a number > 0", days))
    bins = max(1, round(days * DAY_S / chosen.bin_seconds))
    if bins > _MOST_BINS:
        raise TraceError(mismatch("days", f"at most {_MOST_BINS} bins of {chosen.bin_seconds:g} s", days))
    expected = expected_rate_rps(chosen, bins, seed) * chosen.bin_seconds
    counts = _drawn(expected, chosen.dispersion, _stream(seed, "counts"))
    source = f"generated: {chosen.name}, seed {seed}"
    return Trace(chosen.name, counts, chosen.bin_seconds, source=source, meta={"preset": chosen.name, "seed": seed})


def expected_rate_rps(spec: GeneratorSpec, bins: int, seed: int) -> NDArray[np.float64]:
    """The rate that counts are drawn from, requests/s, shape (bins,), with mean `spec.mean_rps`."""
    at_s = np.asarray((np.arange(bins) + 0.5) * spec.bin_seconds, dtype=np.float64)
    rate = np.ones(bins)
    for index, component in enumerate(spec.components):
        rate *= component.factor(at_s, spec.bin_seconds, _stream(seed, f"{index}.{type(component).__name__}"))
    rate *= (1 - sum(timer.share for timer in spec.timers)) / rate.mean()
    for index, timer in enumerate(spec.timers):
        rate += timer.addition(at_s, spec.bin_seconds, _stream(seed, f"timer.{index}"))
    for index, bursts in enumerate(spec.added_bursts):
        rate += bursts.factor(at_s, spec.bin_seconds, _stream(seed, f"added.{index}")) - 1
    return np.asarray(rate * (spec.mean_rps / rate.mean()), dtype=np.float64)


def preset(name: str) -> GeneratorSpec:
    """The preset of a name; the error lists the names."""
    if name not in PRESETS:
        raise TraceError(mismatch("preset", f"one of {', '.join(sorted(PRESETS))}", name))
    return PRESETS[name]


def _stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers keyed by name, so that adding a component leaves the draws of the others."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))


def _drawn(expected: NDArray[np.float64], dispersion: float, rng: np.random.Generator) -> NDArray[np.int64]:
    if dispersion > 1:
        # Gamma of mean 1 and variance (d - 1) / mean makes the counts' variance d times their mean.
        shape = np.maximum(expected, 1e-12) / (dispersion - 1)
        expected = rng.standard_gamma(shape) * (dispersion - 1)
    return rng.poisson(expected)


# Twitter stream 2021-08, 17 days of 1-s counts, recorded bins (reconfigurable-ml-pipeline/web-service-datasets at
# 7404ad66). Measured: mean 64.9 /s, median 54, p99 245, maximum 388; 11.5 plateaus a day of 2.5-4.2 times the base
# (10th to 90th percentile, median 3.5) lasting 2.5-15 min (median 8), rising within 20 s to about 231 /s whatever the
# hour, begun at 2 or 32 minutes past the hour, half of them at 32 past an odd one; 7 % of minutes hold them, with 21
# % of requests. Between them hourly medians run from 45 to 77 /s, the days' means vary by 2 %, minutes by 7.7 % (log,
# lag-1 correlation 0.68), and variance/mean of 1-s counts within a minute is 1.13 (median).
TWITTER_HOURLY_RPS = (
    44.7, 45.8, 49.4, 53.6, 58.9, 65.7, 71.4, 74.4, 76.6, 69.9, 60.7, 54.4,
    49.3, 47.4, 46.0, 45.1, 45.0, 44.8, 46.9, 50.2, 52.0, 51.2, 47.0, 45.6,
)  # fmt: skip

# World Cup 1998, group stage from 06-10, 17 days of 1-min counts (nimamahmoudi/worldcup98-dataset at 82460213).
# Measured: mean 471 /s, median 318, p99 2092, maximum 3554; autocorrelation of minutes 0.998 at 1 min, 0.97 at 10
# min, 0.77 at 1 h, 0.70 at 1 day; daily means 195-793 /s. Surges around the kick-offs (about 16:00 and 20:30 on the
# source clock) rise over 1-2 h and fall within minutes. Hourly medians below are of days without a surge.
WORLDCUP_HOURLY_RPS = (
    300.0, 280.0, 250.0, 240.0, 222.0, 229.0, 250.0, 265.0, 270.0, 254.0, 268.0, 290.0,
    330.0, 370.0, 420.0, 450.0, 450.0, 440.0, 430.0, 450.0, 460.0, 430.0, 340.0, 312.0,
)  # fmt: skip

# Azure Functions 2019, eight functions summed at equal mean, 14 days of 1-min counts (beomyeol/faro at b595c4ad).
# Measured: peak/mean 7.2, p99/mean 3.6, standard deviation/mean 0.80; autocorrelation 0.29 at 1 min, 0.64 at 10 min,
# 0.59 at 30 min, 0.76 at 1 day. Four functions follow the day (peak/mean 2.2-8.7); one fires every 10 min (peak/mean
# 25), one every 5 min (52), one each day and every 15 min (38), one is a square wave of 4 h (8).

PRESETS: dict[str, GeneratorSpec] = {
    spec.name: spec
    for spec in (
        GeneratorSpec(
            "twitter_like",
            mean_rps=64.9,
            components=(
                Diurnal(hourly=TWITTER_HOURLY_RPS),
                Noise(sigma=0.06, tau_s=180.0),
            ),
            added_bursts=(
                Bursts(
                    per_day=11.5,
                    height=3.95,
                    height_sigma=0.1,
                    height_max=4.8,
                    length_s=290.0,
                    length_sigma=0.5,
                    length_max_s=1_500.0,
                    rise_s=20.0,
                    fall_s=300.0,
                    slot_s=1_800.0,
                    slot_offset_s=120.0,
                    slot_weights=(1.0, 1.0, 2.0, 6.0),
                ),
            ),
            dispersion=1.13,
        ),
        GeneratorSpec(
            "worldcup_like",
            mean_rps=470.6,
            components=(
                Diurnal(hourly=WORLDCUP_HOURLY_RPS),
                DayLevel(sigma=0.25),
                Bursts(
                    per_day=1.5,
                    height=2.6,
                    height_sigma=0.4,
                    height_max=6.0,
                    length_s=9_000.0,
                    length_sigma=0.1,
                    length_max_s=12_000.0,
                    rise_s=4_500.0,
                    fall_s=900.0,
                    hours=(14.5, 19.0),
                ),
                Noise(sigma=0.05, tau_s=600.0),
            ),
            bin_seconds=10.0,
            dispersion=1.1,
        ),
        GeneratorSpec(
            "azure_like",
            mean_rps=43.3,
            components=(Diurnal(amplitude=0.7, peak_hour=14.0), DayLevel(sigma=0.2), Noise(sigma=0.25, tau_s=900.0)),
            timers=(
                Timer(share=0.12, period_s=600.0, width_s=60.0, jitter=0.1),
                Timer(share=0.12, period_s=300.0, width_s=60.0, jitter=0.6),
                Timer(share=0.06, period_s=900.0, width_s=60.0, jitter=0.3),
                Timer(share=0.05, period_s=DAY_S, width_s=1_200.0, phase_s=7_200.0),
                Timer(share=0.1, period_s=14_400.0, width_s=3_600.0, jitter=0.3),
            ),
            bin_seconds=10.0,
        ),
        GeneratorSpec("steady", mean_rps=50.0),
        GeneratorSpec("diurnal", mean_rps=50.0, components=(Diurnal(amplitude=0.6), Noise())),
        GeneratorSpec("burst", mean_rps=50.0, components=(Bursts(), Noise())),
        GeneratorSpec("flash_crowd", mean_rps=50.0, components=(Diurnal(amplitude=0.4), FlashCrowd(), Noise())),
        GeneratorSpec("flash_crowds", mean_rps=50.0, components=(FlashCrowd(every_days=0.25), Noise())),
        GeneratorSpec("regime_change", mean_rps=50.0, components=(Diurnal(amplitude=0.4), RegimeChange(), Noise())),
        GeneratorSpec("on_off", mean_rps=50.0, components=(OnOff(), Noise())),
    )
}
