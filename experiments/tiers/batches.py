"""What tiers save where requests are served in batches, in which big versions gain more than small ones.

Costs are those of a request's share of its batch's time, in both steps of a cascade: of a load that fills batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.tiers.calibration import Calibration
from controller.tiers.generate import Objective, Tolerance, generate
from controller.tiers.rules import outcome
from experiments.tiers.study import CALIBRATED, TOLERANCES

SEEDS = 5
"""Cuts of the calibration for each size."""


@dataclass(frozen=True)
class InBatches:
    """One size.

    Attributes:
        size: Requests of a batch.
        request_s: Of each version, a request's share of its batch's time.
        steepness: The dearest version's over the cheapest's.
        cost_shares: Cost of a tier over the best version's, by tolerance as in `TOLERANCES`, on requests not seen.
    """

    size: int
    request_s: dict[str, float]
    steepness: float
    cost_shares: tuple[float, ...]


def in_batches(table: Calibration, seeds: int = SEEDS) -> list[InBatches]:
    """Every size that was measured; none where none was."""
    found = []
    for size, row in zip(table.batch_sizes, table.batch_s, strict=True):
        sized = table.in_batches(size)
        shares = np.array([_cost_shares(sized, seed) for seed in range(seeds)])
        found.append(
            InBatches(
                size=size,
                request_s=dict(zip(table.versions, row.tolist(), strict=True)),
                steepness=float(row.max() / row.min()),
                cost_shares=tuple(shares.mean(axis=0).tolist()),
            )
        )
    return found


def _cost_shares(table: Calibration, seed: int) -> list[float]:
    calibrated, judging = table.parts(int(len(table) * CALIBRATED), seed)
    tiers = generate(calibrated, [Tolerance(value) for value in TOLERANCES], (Objective.COST,), seed=seed)
    best = float(judging.cost_usd[:, calibrated.best].mean())
    return [float(outcome(tier.rule, judging).cost_usd.mean()) / best for tier in tiers]
