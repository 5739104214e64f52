"""Seeded spot availability with the features that break naive policies: common regional losses and heavy-tailed spells.

Each zone is open while its *pressure* is below a level set by the share of time it is up. Pressure is a Gaussian
process: a part common to the zones of a region, which takes them away together, and a part of the zone's own, both a
mix of a fast, a slow and a very slow component; the mix is what makes up-spells short at the median and long at the
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.spot import SpotAvailability
from traces.trace import DAY_S

_STREAM_REGION = 0x5207
_STREAM_ZONE = 0x5208


@dataclass(frozen=True)
class ZoneSpec:
    """One zone: its region and how much of the time a launch works there."""

    name: str
    region: str
    up_share: float  # in (0, 1)


# Names, regions and up-shares of p3.2xlarge (V100), 45 days from 2023-02-15, skypilot-org/spot-traces at 221da1ab;
# Wu et al., "Can't Be Late", NSDI 2024.
V100_ZONES = (
    ZoneSpec("us-east-1a", "us-east-1", 0.167),
    ZoneSpec("us-east-1c", "us-east-1", 0.467),
    ZoneSpec("us-east-1d", "us-east-1", 0.447),
    ZoneSpec("us-east-1f", "us-east-1", 0.591),
    ZoneSpec("us-east-2b", "us-east-2", 0.682),
    ZoneSpec("us-west-2a", "us-west-2", 0.883),
    ZoneSpec("us-west-2c", "us-west-2", 0.891),
)


@dataclass(frozen=True)
class SpotSpec:
    """Parameters of the generator; the defaults are fitted to the traces `V100_ZONES` names.

    Fitted over eight seeds of 45.5 days against the source's seven zones, generated (measured): up-spells of median
    0.5-1.5 h (0.3-1.1), mean 0.8-6.9 h (0.7-6.8), standard deviation / mean 1.5-2.6 (1.5-2.6); down-spells of mean
    0.7-5.7 h (0.8-3.6); 168-332 losses (142-343); correlation inside a region 0.29-0.51 (0.25-0.53), across regions
    0 (0.03-0.27).
    """

    zones: tuple[ZoneSpec, ...] = V100_ZONES
    gap_s: float = 195.0  # the source's probe interval
    regional_share: float = 0.68  # of the pressure's variance; gives the correlation of open zones quoted above
    # Correlation times of the components: below an hour sets the median spell, days set the tail.
    time_scales_s: tuple[float, ...] = (1_440.0, 18_000.0, 360_000.0)
    weights: tuple[float, ...] = (0.3, 0.3, 0.4)
    smooth_s: float = 300.0  # the source has no spell of a single tick, so pressure moves smoothly below this
    nodes: int = 1  # instances a zone gives when fully open
    # Width of the pressure band in which a zone of several nodes is partly open. At 0.3 of a standard deviation an
    # up-share of one half is partly open 12 % of the time; 16-node traces are at neither none nor all for 10-20 %.
    partial_width: float = 0.3

    def __post_init__(self) -> None:
        if not self.zones or len({zone.name for zone in self.zones}) != len(self.zones):
            raise TraceError(mismatch("spot.zones", "zones with different names", [zone.name for zone in self.zones]))
        for zone in self.zones:
            if not 0 < zone.up_share < 1:
                raise TraceError(mismatch(f"spot.zones.{zone.name}.up_share", "a share in (0, 1)", zone.up_share))
        if not 0 <= self.regional_share <= 1:
            raise TraceError(mismatch("spot.regional_share", "a share in [0, 1]", self.regional_share))
        if len(self.weights) != len(self.time_scales_s) or min(self.weights) < 0 or not sum(self.weights) > 0:
            raise TraceError(mismatch("spot.weights", "one number >= 0 per time scale, not all 0", self.weights))
        if min(self.time_scales_s) <= 0 or self.smooth_s < 0 or self.gap_s <= 0 or self.partial_width < 0:
            raise TraceError("spot: expected time_scales_s and gap_s > 0, smooth_s and partial_width >= 0")
        if not 1 <= self.nodes <= np.iinfo(np.int16).max:
            raise TraceError(mismatch("spot.nodes", "a whole number in 1..32767", self.nodes))

    def for_zones(self, names: tuple[str, ...]) -> SpotSpec:
        """The same law for zones of other names, which take up-shares and regions in the order of this spec."""
        cycled = [self.zones[i % len(self.zones)] for i in range(len(names))]
        return replace(self, zones=tuple(replace(z, name=n) for n, z in zip(names, cycled, strict=True)))


STORM = SpotSpec(
    zones=tuple(ZoneSpec(f"us-east-1{letter}", "us-east-1", 0.6) for letter in "acdf"),
    gap_s=60.0,
    regional_share=0.95,
    time_scales_s=(900.0, 7_200.0),
    weights=(0.7, 0.3),
    smooth_s=120.0,
)
"""A market in a storm, after no measurement: open 60 % of the time, closed in one region at once every hour or so."""


def generate_spot(days: float, seed: int, spec: SpotSpec | None = None) -> SpotAvailability:
    """Availability of several zones.

    Args:
        days: Length in days, > 0.
        seed: Equal seeds give equal traces; zones have streams of their own, so adding one leaves the others.
        spec: Parameters; None: the fitted defaults.
    """
    chosen = spec or SpotSpec()
    if not (math.isfinite(days) and days > 0):
        raise TraceError(mismatch("days", "a number > 0", days))
    ticks = max(1, round(days * DAY_S / chosen.gap_s))
    regions = list(dict.fromkeys(zone.region for zone in chosen.zones))
    common = {region: _pressure(chosen, ticks, [seed, _STREAM_REGION, i]) for i, region in enumerate(regions)}
    own_share = 1 - chosen.regional_share
    rows = []
    for i, zone in enumerate(chosen.zones):
        own = _pressure(chosen, ticks, [seed, _STREAM_ZONE, i])
        pressure = math.sqrt(chosen.regional_share) * common[zone.region] + math.sqrt(own_share) * own
        room = NormalDist().inv_cdf(zone.up_share) - pressure
        if chosen.nodes == 1 or chosen.partial_width == 0:
            rows.append(np.where(room > 0, chosen.nodes, 0))
        else:
            rows.append(np.round(chosen.nodes * np.clip(room / chosen.partial_width + 0.5, 0, 1)))
    names = tuple(zone.name for zone in chosen.zones)
    source = f"generated, seed {seed}, fitted to skypilot-org/spot-traces (V100, 2023-02-15)"
    return SpotAvailability("generated", names, chosen.gap_s, np.stack(rows).astype(np.int16), source)


def _pressure(spec: SpotSpec, ticks: int, key: list[int]) -> NDArray[np.float64]:
    """Gaussian process of variance 1 with the spec's spectrum, shape (ticks,).

    White noise shaped in the frequency domain: a sum of Ornstein-Uhlenbeck spectra, cut off above 1 / smooth_s. The
    series is periodic over its padded length, which is at least 1.5 times what is returned.
    """
    rng = np.random.default_rng(np.random.SeedSequence(key))
    # Very short traces are cut from a longer one, so that the slow component exists in them too.
    padded = 1 << math.ceil(math.log2(max(1.5 * ticks, 4 * max(spec.time_scales_s) / spec.gap_s)))
    angular = 2 * math.pi * np.fft.rfftfreq(padded, spec.gap_s)
    spectrum = sum(
        (w * 2 * tau / (1 + (angular * tau) ** 2) for w, tau in zip(spec.weights, spec.time_scales_s, strict=True)),
        start=np.zeros_like(angular),
    )
    spectrum = spectrum / (1 + (angular * spec.smooth_s) ** 2) ** 2
    variance = (spectrum[0] + 2 * spectrum[1:-1].sum() + spectrum[-1]) / padded
    series = np.fft.irfft(np.sqrt(spectrum / variance) * np.fft.rfft(rng.standard_normal(padded)), padded)
    return np.asarray(series[:ticks], dtype=np.float64)
