"""The rest of a sweep of which only the two lines through the policy's own point were run.

It is taken as separable: what the accuracy dial does to costs and misses it does by the same factor at every setting of
the attainment dial, and it moves accuracy by the same amount. Exact on the two lines, and off by the product of both
distances from them elsewhere; in return I + J - 1 points are run instead of I x J.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64
from experiments.frontier import Sweep

_HALF = 0.5  # of a request, so that a factor of a count that may be 0 is finite


def separated(sweep: Sweep, own: tuple[int, int]) -> Sweep:
    """The sweep with every point off the two lines worked out from them.

    Args:
        sweep: Right where i = own[0] or j = own[1]; anything elsewhere.
        own: The policy's own point.
    """
    i, j = own
    cost = sweep.cost_usd[:, j : j + 1] * sweep.cost_usd[i : i + 1] / np.maximum(sweep.cost_usd[i, j], 1e-12)
    missed = np.clip(_product(sweep.missed, own), 0.0, sweep.requests)
    answered = np.clip(_product(sweep.answered, own), 0.0, sweep.requests)
    accuracy = np.zeros(sweep.answered.shape)
    np.divide(sweep.accuracy_sum, sweep.answered, out=accuracy, where=sweep.answered > 0)
    moved = accuracy[:, j : j + 1] + accuracy[i : i + 1] - accuracy[i, j]
    is_run = np.zeros(sweep.cost_usd.shape[:2], np.bool_)
    is_run[i], is_run[:, j] = True, True

    def kept(run: F64, worked_out: F64) -> F64:
        mask = is_run.reshape(*is_run.shape, *[1] * (run.ndim - 2))
        return np.where(mask, run, worked_out)

    return Sweep(
        cost_usd=kept(sweep.cost_usd, cost),
        requests=np.broadcast_to(sweep.requests[i, j], sweep.requests.shape).copy(),
        missed=kept(sweep.missed, missed),
        answered=kept(sweep.answered, answered),
        accuracy_sum=kept(sweep.accuracy_sum, np.clip(moved, 0.0, 1.0) * answered),
    )


def _product(counts: F64, own: tuple[int, int]) -> F64:
    i, j = own
    product = (counts[:, j : j + 1] + _HALF) * (counts[i : i + 1] + _HALF) / (counts[i, j] + _HALF)
    return np.asarray(product - _HALF)
