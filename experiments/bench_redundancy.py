"""Speed of the event kernel with every kind of redundancy on: cascades, hedges of their steps, and collages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from controller.arrays import ObservationArrays, PlanArrays
from controller.catalog import Catalog, load_catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.policies.predictive import MpcPolicy
from controller.scenario import Scenario
from envs.world import WorldChoice, build_world
from experiments.bench_record import record

CELLS = 9
COLLAGES = 4
"""Replicas of the variant for collages."""

HEDGE_AFTER_S, STRAGGLES_AFTER_S = 0.5, 0.5
ROWS = 1000


def redundant_setting(scenario: Scenario) -> Setting:
    """The scenario with a variant for collages in its catalog, as quick as the first one, and drawn answers."""
    catalog = load_catalog(scenario.catalog)
    source = catalog.model_dump(mode="json", exclude_none=True)
    first, machines = catalog.variants[0].name, [p.name for p in catalog.pools if p.market.value != "serverless"]
    source["variants"].append({**source["variants"][0], "name": "collage", "cells": CELLS})
    source["profiles"] += [
        {**profile, "variant": "collage", "batch_max": 1}
        for profile in source["profiles"]
        if profile["variant"] == first and profile["pool"] in machines
    ]
    names = [v.name for v in catalog.variants]
    confidence = np.random.default_rng(0).random((ROWS, len(names))).round(4)
    source["answers"] = {
        "variants": names,
        "confidence": confidence.tolist(),
        "right": (confidence > 0.2).astype(int).tolist(),
        "derived": "drawn, for speed alone",
    }
    return compile_scenario(scenario, parse_config(source, Catalog, "catalog with collages"))


class RedundantPolicy(MpcPolicy):
    """The rule, whose first class has a hedged cascade of the two variants it runs most, and the others collages."""

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The rule's plan with redundancy on top."""
        plan = super().decide(observation)
        catalog, collage = self.setting.catalog, len(self.setting.catalog.cells) - 1
        plan.replicas[:, collage] = 0
        replicas = plan.replicas.sum(axis=2)
        plan.replicas[:, collage, int(np.flatnonzero(catalog.usable[collage])[0])] = COLLAGES
        most = np.argsort(-replicas, axis=1, kind="stable")[:, :2]
        plan.cascade_variant[:, 0, :2] = np.take_along_axis(most, np.argsort(catalog.accuracy[most], axis=1), axis=1)
        plan.cascade_threshold[:, 0] = 0.5
        plan.hedge_after_s[:, 0] = HEDGE_AFTER_S
        plan.collage_variant[:, 1:], plan.collage_after_s[:, 1:] = collage, STRAGGLES_AFTER_S
        return plan


def redundant_kernel(scenario: Scenario, num_envs: int = 64, num_ticks: int = 60) -> dict[str, Any]:
    """Requests per CPU second, whole ticks, and how many copies per request were under way at the ends of ticks."""
    setting = redundant_setting(scenario)
    world = replace(build_world(scenario, WorldChoice(days=scenario.splits.train), setting), setting=setting)
    recorded = record(world, RedundantPolicy(setting), num_envs, num_ticks)
    _, requests_per_s = recorded.best()
    held = recorded.simulator.state.held
    return {
        "redundant_kernel_requests_per_s_core": round(requests_per_s),
        "redundant_kernel_copies_beyond_one": int(held.pairs.sum()),
        "redundant_kernel_in_later_steps": int(held.escalated.sum()),
    }
