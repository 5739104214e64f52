"""Node demand of a run on a cluster that was joined: what Ray's autoscaler is asked to have room for.

Ray keeps one request for the whole cluster. Each replaces the one before, it stays until it is taken back, and it is a
floor that counts what is in use already. So one owner asks, with the full demand every time, and takes it back at the
end; nodes that nobody needs leave by the autoscaler's own idle time-out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_ASSERT_S = 30.0
# Somebody else's request replaces ours without a word, so it is repeated.

_log = logging.getLogger("provisor.nodes")


class Bundle(NamedTuple):
    """Room for one replica."""

    resources: dict[str, float]
    selector: dict[str, str]


@dataclass(frozen=True)
class ReplicaNeeds:
    """What one replica of a deployment needs.

    Attributes:
        resources: Of its node, by Ray's names, each > 0.
        selector: Labels that its node carries.
    """

    resources: Mapping[str, float]
    selector: Mapping[str, str]


def bundles_of(targets: Mapping[str, int], needs: Mapping[str, ReplicaNeeds]) -> list[Bundle]:
    """One bundle for each replica, in the order of the deployments' names.

    Args:
        targets: Replicas by deployment; those without needs ask for nothing.
        needs: By deployment.
    """
    return [
        Bundle(dict(needs[name].resources), dict(needs[name].selector))
        for name in sorted(set(targets) & set(needs))
        for _ in range(targets[name])
    ]


class NodeDemand:
    """The one owner of a cluster's node demand.

    Args:
        needs: What replicas need, by deployment.
        ask: Replaces the cluster's request; may block, and raise anything.
        clock: Seconds.
    """

    def __init__(
        self, needs: Mapping[str, ReplicaNeeds], ask: Callable[[Sequence[Bundle]], None], clock: Callable[[], float]
    ) -> None:
        self._needs, self._ask, self._clock = needs, ask, clock
        self._asked: list[Bundle] | None = None  # None: not known to have arrived
        self._asked_s = 0.0

    async def follow(self, targets: Mapping[str, int]) -> None:
        """Asks for room for all replicas, where that has changed or was asked long ago; failures are tried again.

        Args:
            targets: Replicas that are to run, by deployment; none gives the demand up.
        """
        bundles = bundles_of(targets, self._needs)
        if bundles == self._asked and (not bundles or self._clock() - self._asked_s < _ASSERT_S):
            return
        self._asked = None
        try:
            await asyncio.to_thread(self._ask, bundles)
        except Exception as error:  # noqa: BLE001 - without it replicas still ask for themselves
            _log.warning("node demand not told to Ray: %s: %s", type(error).__name__, error)
            return
        self._asked, self._asked_s = bundles, self._clock()
