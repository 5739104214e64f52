"""The machines that instances run on, as Ray nodes, and the port behind which somebody starts and ends them.

A node belongs to a pool by its label and offers one slot, so one replica runs on it. There is one owner of node demand
for a run: the ledger says how many nodes each pool shall have, and the owner brings that about. Owners are told the
full demand every time, so repeating a call changes nothing, and a call that was lost is mended by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

POOL_LABEL = "provisor-pool"
"""Label of a node that says which pool it is of, where the run names no other."""


def slot_of(pool: str) -> str:
    """Custom resource of a pool: its nodes offer one, and a replica takes it."""
    return f"slot_{pool}"


@dataclass(frozen=True)
class NodeReport:
    """What an owner sees of its nodes.

    Attributes:
        alive: Ids of the nodes that have joined the cluster, by pool.
        lost: Of those reported alive before, the ones that are gone without having been given back: id to pool.
        failed: Launches that came to nothing since the last report, by pool.
    """

    alive: Mapping[str, frozenset[str]]
    lost: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)


class NodeOwner(Protocol):
    """Starts and ends the nodes of a run."""

    async def follow(self, wanted: Mapping[str, int], occupied: frozenset[str]) -> NodeReport:
        """Moves towards the wanted number of nodes of each pool, without waiting for it, and reports.

        Args:
            wanted: Nodes that shall exist, by pool.
            occupied: Ids of nodes with a replica; they are never given back.
        """

    async def take(self, node_id: str) -> None:
        """Ends a node at once, whatever runs on it, as a provider does that takes its machine back."""

    async def close(self) -> None:
        """Ends what was started and releases the demand."""


def surplus(alive: Iterable[str], occupied: frozenset[str], count: int) -> list[str]:
    """Which nodes to give back: at most `count`, none of them occupied, in a stable order."""
    return sorted(node for node in alive if node not in occupied)[: max(0, count)]


@dataclass(frozen=True)
class RayNode:
    """A living node of the cluster."""

    node_id: str
    labels: Mapping[str, str]


def living_nodes(raw: Iterable[Mapping[str, Any]]) -> list[RayNode]:
    """The living ones among what `ray.nodes()` tells."""
    return [RayNode(str(n["NodeID"]), dict(n.get("Labels") or {})) for n in raw if n["Alive"]]
