"""Nodes as processes of this machine: each instance of a pool is a Ray node of its own, with the pool's label.

This is how several kinds of machines are shown on one, and how the loss of a machine is rehearsed. Nodes are started
one after the other, since two that start at once can pick the same socket, and each in a session of its own, so that
they outlive whoever started them. A node is known by a mark on its command line; an owner that takes over finds the
nodes of the one before it that way and starts none twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.nodes import POOL_LABEL, NodeReport, living_nodes, slot_of, surplus
from serving.processes import child_processes, command_line, command_lines, kill_tree

MARK_LABEL = "provisor-node"
_START_TIMEOUT_S = 60.0
# On a busy machine a node took 16 s; one that has not joined after this will not.
_OBJECT_STORE_BYTES = 80 << 20


@dataclass
class _Started:
    """A node that was started and has not joined yet."""

    pool: str
    since_s: float
    process: subprocess.Popen[bytes] | None  # None where another owner started it


@dataclass
class LocalNodes:
    """Owner of nodes on this machine.

    Args:
        address: Of the cluster's control store, `host:port`.
        run: Word that marks the nodes of one run among those of others.
        folder: For the nodes' output.
    """

    address: str
    run: str
    folder: Path
    _starting: dict[str, _Started] = field(default_factory=dict)  # by mark
    _joined: dict[str, tuple[str, str]] = field(default_factory=dict)  # node id to (pool, mark)
    _ended: set[str] = field(default_factory=set)  # node ids that were given back or taken
    _count: itertools.count[int] = field(default_factory=itertools.count)
    _is_adopted: bool = False

    async def follow(self, wanted: Mapping[str, int], occupied: frozenset[str]) -> NodeReport:
        """Starts at most one node at a time, ends those that are too many and empty, and reports."""
        if not self._is_adopted:
            self._adopt()
        alive, lost = await self._look()
        failed = self._drop_stillborn()
        for pool, count in wanted.items():
            having = len(alive.get(pool, ()))
            coming = [mark for mark, one in self._starting.items() if one.pool == pool]
            for node in surplus(alive.get(pool, ()), occupied, having - count):
                await self.take(node)
                alive[pool] = alive[pool] - {node}
            if having + len(coming) < count and self._may_start():
                self._start(pool)
            for mark in coming[max(0, count - having) :]:
                self._end_marked(mark)
                del self._starting[mark]
        return NodeReport(alive, lost, failed)

    async def take(self, node_id: str) -> None:
        """Kills all processes of a node."""
        _, mark = self._joined.get(node_id, ("", ""))
        self._ended.add(node_id)
        if mark:
            await asyncio.to_thread(self._end_marked, mark)

    async def close(self) -> None:
        """Kills all nodes of this run."""
        self._starting.clear()
        for pid in _nodes_marked(self._mark("")):
            kill_tree(pid)

    # Steps

    def _mark(self, pool_and_number: str) -> str:
        return f"{self.run}.{pool_and_number}"

    def _start(self, pool: str) -> None:
        mark = self._mark(f"{pool}-{next(self._count)}-{uuid.uuid4().hex[:6]}")
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={self.address}", "--block"]
        words += ["--num-cpus=0", f"--resources={json.dumps({slot_of(pool): 1})}", "--disable-usage-stats"]
        words += [f"--labels={POOL_LABEL}={pool},{MARK_LABEL}={mark}", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{mark}.log").open("wb") as log:
            process = subprocess.Popen(words, start_new_session=True, stdout=log, stderr=subprocess.STDOUT)
        self._starting[mark] = _Started(pool, time.monotonic(), process)

    def _may_start(self) -> bool:
        """One node at a time, over all pools, is about to choose its sockets: one whose raylet runs has chosen."""
        return all(one.process is None or _has_raylet(one.process.pid) for one in self._starting.values())

    def _adopt(self) -> None:
        """Finds nodes of this run that another owner started; those that joined are found in the cluster."""
        self._is_adopted = True
        parts = (word.split(",") for pid in _nodes_marked(self._mark("")) for word in command_line(pid))
        for label in itertools.chain.from_iterable(parts):
            name, _, mark = label.rpartition("=")
            if name.endswith(MARK_LABEL) and mark.startswith(self._mark("")):
                pool = mark.removeprefix(self._mark("")).rsplit("-", 2)[0]
                self._starting[mark] = _Started(pool, time.monotonic(), None)

    async def _look(self) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        import ray

        raw: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
        mine = [n for n in living_nodes(raw) if n.labels.get(MARK_LABEL, "").startswith(self._mark(""))]
        for node in mine:
            self._starting.pop(node.labels[MARK_LABEL], None)
            self._joined.setdefault(node.node_id, (node.labels.get(POOL_LABEL, ""), node.labels[MARK_LABEL]))
        there = {node.node_id for node in mine}
        lost = {n: pool for n, (pool, _) in self._joined.items() if n not in there and n not in self._ended}
        for node_id in [n for n in self._joined if n not in there]:
            # What is left of a node that the cluster gave up must not linger.
            self._end_marked(self._joined.pop(node_id)[1])
            self._ended.discard(node_id)
        alive: dict[str, frozenset[str]] = {}
        for node in mine:
            if node.node_id not in self._ended:
                pool = node.labels.get(POOL_LABEL, "")
                alive[pool] = alive.get(pool, frozenset()) | {node.node_id}
        return alive, lost

    def _drop_stillborn(self) -> dict[str, int]:
        failed: dict[str, int] = {}
        for mark, one in list(self._starting.items()):
            ended = one.process is not None and one.process.poll() is not None
            if ended or time.monotonic() - one.since_s > _START_TIMEOUT_S:
                self._end_marked(mark)
                del self._starting[mark]
                failed[one.pool] = failed.get(one.pool, 0) + 1
        return failed

    @staticmethod
    def _end_marked(mark: str) -> None:
        for pid in _nodes_marked(mark):
            kill_tree(pid)


def _has_raylet(root: int) -> bool:
    # A process that ends while it is looked at has no words left.
    return any("raylet" in word for pid in child_processes(root) for word in command_line(pid)[:1])


def _nodes_marked(mark: str) -> list[int]:
    """Processes that were started with a label whose mark begins so."""
    wanted = f"{MARK_LABEL}={mark}"
    return [pid for pid, words in command_lines() if "start" in words and any(wanted in word for word in words)]
