"""Owner of nodes that are machines of EC2: what the tags say is compared with what is wanted, and the rest bought.

Three things make it safe to repeat. What exists is read anew each time, by tags alone; only machines that a call has
just returned, and that EC2 does not list yet, are remembered for a while. A launch is named by a token made from what
was seen and wanted, so the same need seen twice is one launch, by this owner or by one that takes over. And a launch
that got no answer is sent again as it was until it gets one. An owner that takes over looks for `settle_s` before it
buys: what the one before it bought may not be listed yet.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from serving.aws.breaker import Breaker
from serving.aws.faults import AwsError, Fault
from serving.aws.machines import Launched, Machine, Machines
from serving.nodes import NodeReport, surplus
from serving.tasks import end_task

UNSEEN_S = 120.0
"""A machine that was bought and is not listed after this long does not exist."""

AGAIN_S = 30.0
"""A machine that was given back and is listed as there after this long is given back again."""

SETTLE_S = 10.0

EVERY_S = 5.0
"""EC2 is looked at this often, and at once where the need has changed: listings are metered."""

_CLOSE_TIMEOUT_S = 300.0
_CLOSE_STEP_S = 1.0

_log = logging.getLogger("provisor.aws")

Joined = Callable[[], Awaitable[Mapping[str, str]]]
"""Living nodes of the cluster that are machines of EC2: id of the node to id of the machine."""


@dataclass
class _Pool:
    """What is remembered of one pool."""

    breaker: Breaker
    bought: dict[str, float] = field(default_factory=dict)  # not listed yet: id to when
    attempt: int = 0  # launches that got an answer
    open: tuple[int, str] | None = None  # count and token of one that got none
    failed: int = 0  # machines that could not be had, since the last report


@dataclass
class _Given:
    """A machine that is given back."""

    since_s: float
    sent_s: float = float("-inf")  # when EC2 was last told


class Ec2Nodes:
    """Owner of the nodes of one run.

    Args:
        machines: Of the run.
        pools: Names, in the catalog's order.
        run: Word that the run is marked with.
        joined: Lists the cluster.
        clock: Seconds.
        random: Draws pauses.
        join_timeout_s: A machine that has not joined by then is given back and counts as failed.
        settle_s: Time after which what was bought is listed.
        is_first: Nobody has bought for this run before.
    """

    def __init__(
        self,
        machines: Machines,
        pools: Sequence[str],
        run: str,
        joined: Joined,
        clock: Callable[[], float],
        random: Random,
        *,
        join_timeout_s: float,
        settle_s: float = SETTLE_S,
        is_first: bool = False,
    ) -> None:
        self._machines, self._run, self._joined, self._clock = machines, run, joined, clock
        self._pools = {name: _Pool(Breaker(random)) for name in pools}
        self._account = Breaker(random, base_s=1.0, most_s=60.0)
        self._join_timeout_s, self._settle_s, self._is_first = join_timeout_s, settle_s, is_first
        self._began_s: float | None = None
        self._wanted: dict[str, int] = {}
        self._occupied: frozenset[str] = frozenset()  # machines
        self._seen: dict[str, Machine] = {}
        self._given: dict[str, _Given] = {}
        self._nodes: dict[str, tuple[str, str]] = {}  # living nodes: id to machine and pool
        self._since_s: dict[str, float] = {}  # machines here: when they were first listed
        self._lost: dict[str, str] = {}
        self._untold: dict[str, int] = {}  # machines that are gone, by pool, which what is wanted does not know of
        self._task: asyncio.Task[None] | None = None
        self._compared_s = float("-inf")
        self._compared: dict[str, int] = {}  # what was wanted then
        self.last_error = ""

    # Port

    async def follow(self, wanted: Mapping[str, int], occupied: frozenset[str]) -> NodeReport:
        """Looks at the cluster, lets a comparison with EC2 run beside, and reports what is known now."""
        joined = await self._joined()
        self._wanted, self._untold = dict(wanted), {}
        for pool in self._lost.values():
            self._untold[pool] = self._untold.get(pool, 0) + 1
        self._note_nodes(joined)
        self._occupied = frozenset(joined[node] for node in occupied if node in joined)
        if (self._task is None or self._task.done()) and self._is_due():
            self._compared_s, self._compared = self._clock(), self._wanted
            self._task = asyncio.create_task(self._compare_once())
        return self._report()

    def warned(self, machine: str) -> str:
        """The living node that a machine under notice is; empty where there is none.

        One of ours on its way is given back, and another bought: it would be taken about when it is of use.
        """
        for node, (its, _) in self._nodes.items():
            if its == machine:
                return node
        seen = self._seen.get(machine)
        for name, pool in self._pools.items():
            is_coming = seen is not None and seen.is_here and seen.pool == name and machine not in self._given
            if pool.bought.pop(machine, None) is not None or is_coming:
                self._given.setdefault(machine, _Given(self._clock()))  # sent with the next comparison
                pool.failed += 1
        return ""

    async def settled(self) -> None:
        """Waits for the comparison that runs, if one does."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def take(self, node_id: str) -> None:
        """Gives the machine of a node back, whatever runs on it."""
        machine, _ = self._nodes.get(node_id, ("", ""))
        if machine:
            await self._give([machine])

    async def close(self) -> None:
        """Gives all machines of the run back and waits until none is there; deletes its templates.

        Raises:
            TimeoutError: Some are still there.
            AwsError: A refusal.
        """
        if self._task is not None:
            await end_task(self._task)
        self._wanted = {}
        began_s = self._clock()
        # A launch without an answer may have bought what is not listed yet.
        until_s = began_s + (self._settle_s if any(pool.open for pool in self._pools.values()) else 0.0)
        while (left := await self._give_all()) is None or left or self._clock() < until_s:
            if self._clock() - began_s > _CLOSE_TIMEOUT_S:
                what = "nobody knows which" if left is None else ", ".join(left)
                raise TimeoutError(f"machines that are still there after {_CLOSE_TIMEOUT_S:g} s: {what}")
            await asyncio.sleep(_CLOSE_STEP_S)
        await asyncio.to_thread(self._machines.forget_templates)

    # The comparison

    def _is_due(self) -> bool:
        is_unsent = any(given.sent_s == float("-inf") for given in self._given.values())
        return is_unsent or self._wanted != self._compared or self._clock() - self._compared_s >= EVERY_S

    async def _compare_once(self) -> None:
        try:
            await self.compare()
        except Exception as error:  # noqa: BLE001 - an owner that stops comparing would leave machines running
            self.last_error = f"{type(error).__name__}: {error}"
            _log.exception("a comparison with EC2 failed; the next one starts anew")

    async def compare(self) -> None:
        """One comparison of EC2 with what is wanted; what fails is tried again by a later one."""
        now_s = self._clock()
        if self._account.is_open(now_s):
            return
        try:
            seen = await asyncio.to_thread(self._machines.all)
        except AwsError as error:
            self._complain(error)
            return
        self._account.succeed()
        if self._began_s is None:
            self._began_s = now_s
        self._note_machines(seen, now_s)
        spare = self._useless(now_s)
        for name in self._pools:
            missing = self._needed(name) - self._count(name)
            if missing > 0:
                await self._buy(name, missing)
            elif missing < 0:
                spare += self._surplus(name, -missing)
        await self._give(spare)

    def _needed(self, name: str) -> int:
        """Machines wanted of a pool. One that was lost is replaced when its loss is known and one is still wanted."""
        return max(0, self._wanted.get(name, 0) - self._untold.get(name, 0))

    def _count(self, name: str) -> int:
        """Machines of a pool that are there or coming."""
        here = sum(m.pool == name and m.is_here and i not in self._given for i, m in self._seen.items())
        return here + len(self._pools[name].bought)

    async def _buy(self, name: str, missing: int) -> None:
        pool, now_s = self._pools[name], self._clock()
        is_settled = self._began_s is not None and now_s - self._began_s >= self._settle_s
        if not (self._is_first or is_settled) or pool.breaker.is_open(now_s) or self._account.is_open(now_s):
            return
        count, token = pool.open or self._next_launch(name, 1 if pool.breaker.is_trying else missing)
        pool.open = count, token
        result: Launched = await asyncio.to_thread(self._machines.launch, name, count, token)
        now_s = self._clock()
        for one in result.ids:
            # An answer that is repeated may name machines that came and went meanwhile.
            if one not in self._given and one not in self._seen:
                pool.bought[one] = now_s
        if result.fault in (Fault.NO_ANSWER, Fault.THROTTLED):
            self._complain(AwsError(result.fault, result.text))
            return
        pool.open, pool.attempt = None, pool.attempt + 1
        if result.fault is None:
            pool.breaker.succeed()
            return
        self._complain(AwsError(result.fault, result.text), is_account=False)
        pool.failed += max(0, count - len(result.ids))
        pool.breaker.fail(now_s)

    def _next_launch(self, name: str, count: int) -> tuple[int, str]:
        known = sorted(i for i, m in self._seen.items() if m.pool == name)
        words = [self._run, name, str(self._pools[name].attempt), str(count), *known]
        return count, hashlib.sha256("\0".join(words).encode()).hexdigest()[:64]

    def _surplus(self, name: str, count: int) -> list[str]:
        """Which machines of a pool to give back: those that have not joined first, the newest first; none occupied."""
        joined = {machine for machine, _ in self._nodes.values()}
        here = [m for i, m in self._seen.items() if m.pool == name and m.is_here and i not in self._given]
        coming = [m.instance_id for m in reversed(here) if m.instance_id not in joined]
        idle = surplus([m.instance_id for m in here if m.instance_id in joined], self._occupied, len(here))
        return [*coming, *idle][:count]

    def _useless(self, now_s: float) -> list[str]:
        """Machines of ours that nobody can use: of no pool, or too long on their way into the cluster."""
        joined = {machine for machine, _ in self._nodes.values()}
        found = []
        for one, machine in self._seen.items():
            if not machine.is_here or one in self._given:
                continue
            pool = self._pools.get(machine.pool)
            if pool is None:
                found.append(one)
            elif one not in joined and now_s - self._since_s[one] > self._join_timeout_s:
                found.append(one)
                pool.failed += 1
                pool.breaker.fail(now_s)
                _log.warning("%s of pool %s did not join within %g s", one, machine.pool, self._join_timeout_s)
        return found

    # What is known

    def _note_nodes(self, joined: Mapping[str, str]) -> None:
        """Takes in what the cluster says: nodes that joined, and those that are gone and leave a useless machine."""
        for node, (machine, _) in list(self._nodes.items()):
            there = self._seen.get(machine)
            if node in joined and (there is None or there.is_here):
                continue
            self._lose(node)
            self._given.setdefault(machine, _Given(self._clock()))  # sent with the next comparison
        for node, machine in joined.items():
            found = self._seen.get(machine)
            if node not in self._nodes and found is not None and found.is_here and machine not in self._given:
                self._nodes[node] = machine, found.pool

    def _note_machines(self, seen: Iterable[Machine], now_s: float) -> None:
        self._seen = {machine.instance_id: machine for machine in seen}
        here = {i for i, machine in self._seen.items() if machine.is_here}
        self._since_s = {one: self._since_s.get(one, now_s) for one in here}
        for name, pool in self._pools.items():
            for one, at_s in list(pool.bought.items()):
                if one in self._seen or now_s - at_s > UNSEEN_S:
                    del pool.bought[one]
                    if one not in here:
                        pool.failed += 1
                        _log.warning("%s of pool %s went as soon as it was bought", one, name)
        for node, (machine, _) in list(self._nodes.items()):
            if machine in self._seen and machine not in here:
                self._lose(node)
        for one, given in list(self._given.items()):
            is_unlisted = one not in self._seen and now_s - given.since_s <= UNSEEN_S
            if one not in here and not is_unlisted:
                del self._given[one]

    def _lose(self, node: str) -> None:
        """A node is gone; that is a loss where its machine was not given back."""
        machine, pool = self._nodes.pop(node)
        if machine not in self._given:
            self._lost[node] = pool
            self._untold[pool] = self._untold.get(pool, 0) + 1

    def _report(self) -> NodeReport:
        alive: dict[str, frozenset[str]] = {}
        for node, (machine, pool) in self._nodes.items():
            if machine not in self._given:
                alive[pool] = alive.get(pool, frozenset()) | {node}
        failed = {name: pool.failed for name, pool in self._pools.items() if pool.failed}
        lost, self._lost = self._lost, {}
        for pool_state in self._pools.values():
            pool_state.failed = 0
        return NodeReport(alive, lost, failed)

    # Giving back

    async def _give(self, ids: Iterable[str]) -> None:
        now_s = self._clock()
        for one in ids:
            self._given.setdefault(one, _Given(now_s))
        due = [one for one, given in self._given.items() if now_s - given.sent_s > AGAIN_S]
        if not due or self._account.is_open(now_s):
            return
        try:
            await asyncio.to_thread(self._machines.terminate, due)
        except AwsError as error:
            self._complain(error)
            return
        for one in due:
            self._given[one].sent_s = now_s

    async def _give_all(self) -> list[str] | None:
        """Gives everything back; returns what is still there or may still come, None where that is not known."""
        now_s = self._clock()
        if self._account.is_open(now_s):
            return None
        try:
            self._note_machines(await asyncio.to_thread(self._machines.all), now_s)
        except AwsError as error:
            self._complain(error)
            if error.fault is Fault.REFUSED:
                raise
            return None
        self._account.succeed()
        here = [i for i, machine in self._seen.items() if machine.is_here]
        coming = [one for pool in self._pools.values() for one in pool.bought]
        await self._give([*here, *coming])
        return sorted({*here, *coming})

    def _complain(self, error: AwsError, *, is_account: bool = True) -> None:
        self.last_error = str(error)
        if is_account:
            pause_s = self._account.fail(self._clock())
            _log.warning("%s; again in %.1f s", error, pause_s)
        else:
            _log.warning("%s", error)
