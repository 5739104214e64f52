"""Random sequences of faults against an owner of nodes: nothing is bought twice, nothing is left, what is wanted comes.

Each sequence draws what is wanted, what EC2 does wrong, which machines it takes and when another owner takes over; then
EC2 behaves again and the owner has some time; then everything is given back. The truth is what the stand-in holds,
not what a listing says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from experiments.cloud.aws_stand_in import StandIn
from serving.aws.ec2_nodes import Ec2Nodes
from serving.aws.giving_back import give_back
from serving.aws.machines import Machines
from serving.aws.terms import AwsTerms, Purchase

_ACTIONS = ("CreateFleet", "DescribeInstances", "TerminateInstances", "DescribeLaunchTemplates")
_EVENTS = ("want", "want", "throttle", "lose_before", "lose_after", "capacity", "lag", "take", "owner")
_STEP_S = 5.0
_SETTLE_S = 40.0
_STEPS, _QUIET_STEPS = 10, 80
_MOST = 3
_JOIN_TIMEOUT_S = 1e9


@dataclass
class Verdict:
    """What a sequence came to.

    Attributes:
        bought: Machines that were bought.
        needed: The most that a perfect owner can have bought: each rise of what is wanted, and each machine taken.
        missing: Machines that were wanted at the end of the quiet time and not there, by pool.
        left: Machines that are there after everything was given back.
    """

    seed: int
    bought: int = 0
    needed: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing was bought twice, nothing lacks and nothing is left."""
        return self.bought <= self.needed and not self.missing and not self.left


def run_sequence(
    aws: StandIn, terms: AwsTerms, buys: Mapping[str, Purchase], kinds: Sequence[tuple[str, str]], seed: int
) -> Verdict:
    """Runs a sequence of faults.

    Args:
        aws: Emptied.
        terms: Of its account.
        buys: How pools are bought.
        kinds: Instance types and subnets among them, whose capacity may run out.
        seed: Of everything drawn.
    """
    return asyncio.run(_Run(aws, terms, buys, kinds, seed).all())


class _Run:
    def __init__(
        self, aws: StandIn, terms: AwsTerms, buys: Mapping[str, Purchase], kinds: Sequence[tuple[str, str]], seed: int
    ) -> None:
        self._aws, self._terms, self._buys, self._kinds = aws, terms, buys, kinds
        self._random = Random(seed)
        self._word = f"run-{seed}"
        self._now_s = 0.0
        self._wanted = dict.fromkeys(buys, 0)
        self._cluster: dict[str, str] = {}
        self._verdict = Verdict(seed)
        self._owner = self._new_owner()

    async def all(self) -> Verdict:
        for _ in range(_STEPS):
            self._disturb()
            await self._step()
        behaviour = self._aws.behaviour
        for rules in (behaviour.capacity, behaviour.throttle, behaviour.lose_before, behaviour.lose_after):
            rules.clear()
        for _ in range(_QUIET_STEPS):
            await self._step()
            if self._lacks() == {} and self._extra() == 0:
                break
        self._verdict.missing = self._lacks()
        self._verdict.bought = len(behaviour.created)
        give_back(self._machines(), clock=lambda: self._now_s, sleep=self._pass)
        self._verdict.left = tuple(self._aws.there())
        return self._verdict

    # Steps

    def _disturb(self) -> None:
        """Draws one thing that happens, or nothing."""
        random, behaviour = self._random, self._aws.behaviour
        what = random.choice(_EVENTS)
        if what == "want":
            pool = random.choice(sorted(self._wanted))
            wanted = random.randint(0, _MOST)
            self._verdict.needed += max(0, wanted - self._wanted[pool])
            self._wanted[pool] = wanted
        elif what in ("throttle", "lose_before", "lose_after"):
            getattr(behaviour, what)[random.choice(_ACTIONS)] = random.randint(1, 2)
        elif what == "capacity":
            behaviour.capacity[random.choice(list(self._kinds))] = random.randint(0, 2)
        elif what == "lag":
            behaviour.seen_late, behaviour.gone_late = random.randint(0, 3), random.randint(0, 3)
        elif what == "take":
            self._take()
        else:
            self._owner = self._new_owner()

    def _take(self) -> None:
        """EC2 takes a machine, and its node is gone."""
        there = self._aws.there()
        if there:
            taken = self._random.choice(there)
            self._aws.client("ec2", retries={"total_max_attempts": 5}).terminate_instances(InstanceIds=[taken])
            self._cluster.pop(f"node-{taken}", None)
            self._verdict.needed += 1

    async def _step(self) -> None:
        self._pass(_STEP_S)
        there = self._aws.there()
        self._cluster = {f"node-{one}": one for one in there}
        await self._owner.follow(self._wanted, frozenset())
        await self._owner.settled()

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds

    def _lacks(self) -> dict[str, int]:
        counts = self._counts()
        return {p: n - counts.get(p, 0) for p, n in self._wanted.items() if counts.get(p, 0) < n}

    def _extra(self) -> int:
        return len(self._aws.there()) - sum(self._wanted.values())

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for machine in self._machines(is_plain=True).all():
            if machine.is_here:
                counts[machine.pool] = counts.get(machine.pool, 0) + 1
        return counts

    def _machines(self, *, is_plain: bool = False) -> Machines:
        from experiments.cloud.aws_stand_in import client

        url = self._aws.plain_url if is_plain else self._aws.url
        return Machines(client("ec2", url), self._word, self._terms, self._buys)

    def _new_owner(self) -> Ec2Nodes:
        async def joined() -> Mapping[str, str]:
            return dict(self._cluster)

        return Ec2Nodes(
            self._machines(),
            tuple(self._buys),
            self._word,
            joined,
            lambda: self._now_s,
            Random(self._random.random()),
            join_timeout_s=_JOIN_TIMEOUT_S,
            settle_s=_SETTLE_S,
        )
