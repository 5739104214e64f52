"""How many instances of a pool can exist at a moment: the quota, and for spot pools what their zone offers.

The same shares that drive preemptions in the simulator drive them here, so both worlds lose instances at the same
times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, SPOT, CatalogArrays


@dataclass(frozen=True)
class Market:
    """Spot availability of a run."""

    spot_share: F64  # (Z, ticks) share of a pool's quota that each zone offers, 0..1
    bin_s: float  # seconds per tick, at the run's speed
    start_s: float = 0.0  # where the run begins in it

    def capacity(self, catalog: CatalogArrays, pool: int, at_s: float) -> int:
        """Instances of a pool that can exist `at_s` seconds after the start of the run."""
        quota = int(catalog.quota[pool])
        if catalog.market[pool] != SPOT or catalog.zone[pool] < 0 or self.spot_share.size == 0:
            return quota
        tick = min(max(int((self.start_s + at_s) / self.bin_s), 0), self.spot_share.shape[1] - 1)
        return int(float(self.spot_share[catalog.zone[pool], tick]) * quota + 0.5)


def calm_market(num_zones: int) -> Market:
    """A market that always offers the whole quota."""
    return Market(np.ones((max(1, num_zones), 1)), bin_s=1.0)
