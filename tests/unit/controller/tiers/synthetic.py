"""Versions of rising skill on requests that are hard for all of them alike."""

import numpy as np

from controller.tiers.calibration import Calibration

SKILL = np.array([0.80, 0.88, 0.93, 0.96, 0.97])
COST = np.array([1.0, 2.0, 3.5, 6.0, 8.0])


def population(count, seed=0):
    rng = np.random.default_rng(seed)
    hardness = rng.random(count)[:, None]
    margin = SKILL - hardness + rng.normal(0.0, 0.03, (count, len(SKILL)))
    confidence = 1.0 / (1.0 + np.exp(-(margin + rng.normal(0.0, 0.1, margin.shape)) * 12.0))
    latency_s = COST * 0.01 * rng.lognormal(0.0, 0.2, margin.shape)
    cost_usd = np.broadcast_to(COST * 1e-5, margin.shape).copy()
    names = tuple(f"v{i}" for i in range(len(SKILL)))
    return Calibration(names, (margin < 0.0).astype(float), confidence, latency_s, cost_usd, "synthetic")
