"""Preemption notices as they are posted: of a node by its id, or of any node of a pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.errors import UsageError, mismatch

_LONGEST_S = 86400.0


@dataclass(frozen=True)
class Notice:
    """Somebody takes a node in a while; exactly one of node and pool is named."""

    node_id: str
    pool: str
    left_s: float


def read_notice(fields: Mapping[str, Any], pools: tuple[str, ...]) -> Notice:
    """A notice from the JSON object of a request.

    Args:
        fields: `node_id` or `pool`, and `left_s`.
        pools: That there are.

    Raises:
        UsageError: A field is missing, unknown or out of range.
    """
    unknown = sorted(set(fields) - {"node_id", "pool", "left_s"})
    if unknown:
        raise UsageError(mismatch("body", "fields node_id or pool, and left_s", unknown))
    node, pool, left_s = fields.get("node_id"), fields.get("pool"), fields.get("left_s")
    is_seconds = isinstance(left_s, (int, float)) and not isinstance(left_s, bool) and math.isfinite(left_s)
    if not is_seconds or not 0 <= float(left_s or 0.0) <= _LONGEST_S:
        raise UsageError(mismatch("left_s", f"seconds in 0..{_LONGEST_S:g}", left_s))
    if (node is None) == (pool is None):
        raise UsageError(mismatch("node_id, pool", "exactly one of them", [node, pool]))
    if pool is not None and pool not in pools:
        raise UsageError(mismatch("pool", f"one of {', '.join(pools)}", pool))
    if node is not None and not (isinstance(node, str) and node):
        raise UsageError(mismatch("node_id", "a node's id", node))
    return Notice(node or "", pool or "", float(left_s or 0.0))
