"""Quantile tables as distributions: a draw of the simulator is uniform inside one of its equally likely cells.

A service time of the simulator is its mean times a value of such a table, so the table's own moments and transform are
the exact law of what is simulated; where a formula wants exponential service, the difference can be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root
from scipy.special import gammainc
from scipy.stats import lognorm

from controller.arrays import F64, SHAPE_CELLS

Complex = NDArray[np.complex128]

MEAN_ERROR, WAITS_ERROR, TAIL_ERROR, COLD_ERROR = 2e-3, 6e-4, 5e-3, 2e-3
"""Relative errors for having `exponential()` in place of the true law, in a mean wait, in the probability of a wait, in
the share of waits or sojourns beyond some time, and in the share of cold starts; `test_shapes` measures that they are
less."""


@dataclass(frozen=True)
class Shape:
    """Distribution of a duration relative to its mean, by quantiles at even probabilities.

    Attributes:
        quantiles: Edges of the cells, shape (cells + 1,), rising; a catalog takes SHAPE_CELLS.
    """

    quantiles: F64

    @cached_property
    def table(self) -> F64:
        """The table as a catalog compiles it: scaled to mean 1 under linear interpolation."""
        return self.quantiles / float(np.mean((self.quantiles[1:] + self.quantiles[:-1]) / 2))

    @property
    def document(self) -> dict[str, Any]:
        """The shape as a catalog writes it down."""
        probabilities = np.linspace(0.0, 1.0, SHAPE_CELLS + 1)
        return {"quantiles": dict(zip(probabilities.tolist(), self.table.tolist(), strict=True)), "derived": "theory"}

    def moment(self, order: int) -> float:
        """E[X**order] of a duration X with mean 1."""
        low, high = self.table[:-1], self.table[1:]
        terms = [low**k * high ** (order - k) for k in range(order + 1)]  # of the mean of x**order on [low, high]
        return float(np.mean(np.sum(terms, axis=0) / (order + 1)))

    def tail(self, at: F64 | float) -> F64:
        """P(X > at) of a duration X with mean 1; edges must be distinct."""
        return 1.0 - np.interp(at, self.table, np.linspace(0.0, 1.0, len(self.table)))

    def transform(self, s: Complex) -> Complex:
        """E[exp(-s X)] of a duration X with mean 1, for s != 0 of shape (K,)."""
        low, width = self.table[:-1, None], np.diff(self.table)[:, None]
        z = s[None, :] * width
        small = np.abs(z) < 1e-6
        inside = np.where(small, 1.0 - z / 2, (1.0 - np.exp(-z)) / np.where(small, 1.0, z))
        return np.asarray(np.mean(np.exp(-s[None, :] * low) * inside, axis=0))

    def arrivals(self, rate: float, most: int) -> F64:
        """Chances of 0..most - 1 Poisson arrivals during a duration X with mean 1, shape (most,); edges must differ."""
        counted = np.arange(most)[:, None]
        low, high = rate * self.table[None, :-1], rate * self.table[None, 1:]
        return np.asarray(np.mean((gammainc(counted + 1, high) - gammainc(counted + 1, low)) / (high - low), axis=1))

    def earlier_of_two(self) -> tuple[float, float, Callable[[Complex], Complex]]:
        """Mean, mean square and transform of the shorter of two independent durations, of mean 1 each.

        It exceeds t with the squared chance of one, which is linear in every cell; integrated by Gauss's rule there.
        """
        nodes, weights = np.polynomial.legendre.leggauss(12)
        low, width = self.table[:-1, None], np.diff(self.table)[:, None]
        at = (low + width * (nodes + 1.0) / 2.0).ravel()
        mass = (width / 2.0 * weights).ravel() * self.tail(at) ** 2

        def transform(s: Complex) -> Complex:
            return np.asarray(1.0 - s * (np.exp(-s[:, None] * at[None, :]) @ mass))

        return float(mass.sum()), float(2.0 * (at * mass).sum()), transform


def _edges() -> F64:
    return np.linspace(0.0, 1.0, SHAPE_CELLS + 1)


def constant() -> Shape:
    """Always the mean."""
    return Shape(np.ones(SHAPE_CELLS + 1))


def exponential() -> Shape:
    """Exponential but for its last two cells, which end where the first three moments are the exponential's as well."""
    inner = -np.log(1.0 - _edges()[:-2])
    inner[0] = 1e-12  # a catalog wants values above 0

    def off(last: F64) -> list[float]:
        shape = Shape(np.append(inner, last))
        return [shape.moment(2) - 2.0, shape.moment(3) - 6.0]

    return Shape(np.append(inner, root(off, [inner[-1] + 0.6, inner[-1] + 3.4], tol=1e-12).x))


def lognormal(cv: float) -> Shape:
    """Lognormal with the given coefficient of variation, cut in the middle of what its last cell stands for."""
    edges = _edges()
    edges[0], edges[-1] = 1e-9, 1.0 - 0.5 / SHAPE_CELLS
    return Shape(np.asarray(lognorm.ppf(edges, np.sqrt(np.log1p(cv**2)))))
