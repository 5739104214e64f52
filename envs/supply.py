"""What the simulated world is fed: arrival intensities and spot availability, on regular grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, SHAPE_CELLS
from controller.errors import ScenarioError


@dataclass(frozen=True)
class Supply:
    """Inputs of a simulator; R traces, Z zones.

    Attributes:
        rate_rps: Intensity of all classes together, shape (R, bins), >= 0.
        rate_bin_s: Seconds per bin.
        spot_share: Share of a pool's quota that each zone offers, shape (Z, ticks), 0..1; Z may be 0.
        spot_bin_s: Seconds per spot tick.
        gap_cv: Coefficient of variation of the gaps of the unit-rate renewal process; 1 is Poisson.
    """

    rate_rps: F64
    rate_bin_s: float
    spot_share: F64
    spot_bin_s: float
    gap_cv: float = 1.0

    def __post_init__(self) -> None:
        """Checks shapes and ranges."""
        if self.rate_rps.ndim != 2 or self.rate_rps.size == 0:
            raise ScenarioError(
                f"supply.rate_rps: expected shape (R, bins) with at least one bin, got {self.rate_rps.shape}"
            )
        if not np.isfinite(self.rate_rps).all() or self.rate_rps.min() < 0:
            raise ScenarioError("supply.rate_rps: expected finite rates >= 0")
        if self.spot_share.ndim != 2 or (
            self.spot_share.size and not 0 <= self.spot_share.min() <= self.spot_share.max() <= 1
        ):
            raise ScenarioError(
                f"supply.spot_share: expected shape (Z, ticks) with values in 0..1, got shape {self.spot_share.shape}"
            )
        for name, value in (("rate_bin_s", self.rate_bin_s), ("spot_bin_s", self.spot_bin_s), ("gap_cv", self.gap_cv)):
            if not value > 0:
                raise ScenarioError(f"supply.{name}: expected a value above 0, got {value}")

    def gap_table(self) -> F64:
        """Quantiles of a Gamma gap with CV `gap_cv` on SHAPE_CELLS cells, scaled to mean 1 under interpolation."""
        if self.gap_cv == 1.0:
            return np.ones(SHAPE_CELLS + 1)
        from scipy.stats import gamma

        shape = 1.0 / self.gap_cv**2
        edges = np.linspace(0.0, 1.0, SHAPE_CELLS + 1)
        # The ends stand inside their cells: one quantile is infinite, and the other, 0, is far off an even gap.
        edges[0], edges[-1] = 0.1 / SHAPE_CELLS, 1.0 - 0.1 / SHAPE_CELLS
        table = np.asarray(gamma.ppf(edges, shape, scale=1.0 / shape), np.float64)
        return table / float(np.mean((table[1:] + table[:-1]) / 2))
