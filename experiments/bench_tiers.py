"""What a request pays for stating a tier: its headers are read and its class is found."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from controller.compile import Setting
from controller.workload import ClassTier
from serving.rules import router_tables
from serving.tier_request import OBJECTIVES, TieredRequest, TierTable, asked_tier, match_request

TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
DEADLINES_S = (0.5, 1.0, 2.0, 4.0)
_REQUESTS, _BLOCKS = 2000, 5


def tier_lookup(setting: Setting) -> dict[str, Any]:
    """Microseconds per request, over headers that lead to every tier of a service with several dozen."""
    tables = router_tables(setting)
    tiers = [
        ClassTier(
            tolerance=tolerance,
            is_relative=is_relative,
            objective=objective,
            variants=tables.variant_names[:1],
            bound=tolerance,
            confidence=0.999,
        )
        for tolerance in TOLERANCES
        for is_relative in (False, True)
        for objective in OBJECTIVES
        for _ in DEADLINES_S
    ]
    names = tuple(f"tier-{number}" for number in range(len(tiers)))
    tables = replace(
        tables,
        class_names=names,
        operators=(tables.operators[0],) * len(names),
        slo_s=np.resize(DEADLINES_S, len(names)),
        tiers=tuple(tiers),
    )
    table, body = TierTable(tables), TieredRequest(input=0)
    headers = [
        (
            f"{100 * tier.tolerance:g}%" if tier.is_relative else f"{tier.tolerance:g}",
            tier.objective,
            f"{1e3 * slo_s:g}",
        )
        for tier, slo_s in zip(tiers, tables.slo_s, strict=True)
    ]
    for c, given in enumerate(headers):
        if match_request(body, asked_tier(body, *given), table, tables) != c:
            raise AssertionError(f"{given}: expected {names[c]}")
    spent_s = []
    for _ in range(_BLOCKS):
        started_s = time.process_time()
        for at in range(_REQUESTS):
            match_request(body, asked_tier(body, *headers[at % len(headers)]), table, tables)
        spent_s.append((time.process_time() - started_s) / _REQUESTS)
    return {"tiers": len(tiers), "tier_headers_and_lookup_us": round(min(spent_s) * 1e6, 2)}
