"""How a quantile network is fitted, and how good quantiles are; free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64
from controller.forecast import LEVELS


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted."""

    hidden: tuple[int, int] = (64, 32)
    epochs: int = 30
    batch_size: int = 1024
    learning_rate: float = 3e-3
    seed: int = 0


def pinball(found: F64, held: F64) -> F64:
    """Mean pinball loss at each level, (Q,), of quantiles (S, Q) for outcomes (S,).

    Source:
        Koenker and Bassett, Regression Quantiles, Econometrica 1978.
    """
    error = held[:, None] - found
    levels = np.array(LEVELS)
    return np.asarray(np.maximum(levels * error, (levels - 1.0) * error).mean(axis=0))


def coverage(found: F64, held: F64) -> F64:
    """Share of outcomes (S,) at or below each quantile, (Q,); calibrated quantiles cover their level."""
    return np.asarray((held[:, None] <= found).mean(axis=0))
