"""The ledger of an application that is attached to: its machines are real, so nothing of their life is emulated.

A launch asks for a replica at once; how long node and replica then take is what it takes, and is booked as start-up.
In a dry run their own scaling drives, and the ledger follows what exists.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import I64, SERVERLESS, ActionArrays
from controller.compile import Setting
from serving.fleet import Fleet
from serving.instances import Instance, Phase
from serving.market import calm_market


class AttachedFleet(Fleet):
    """Instances of which each is one replica of a mapped deployment."""

    def step(self, now_s: float, running: I64, stopping: I64) -> None:
        """As for any fleet; a launch that takes no time is not measured as one."""
        super().step(now_s, running, stopping)
        self.window.spans = [span for span in self.window.spans if span.kind != "launch"]


class FollowedFleet(AttachedFleet):
    """Instances that somebody else starts and stops: as many serve as Serve reports running."""

    def apply(self, actions: ActionArrays, now_s: float) -> None:
        """Nothing: what is decided is journalled only."""

    def step(self, now_s: float, running: I64, stopping: I64) -> None:
        """Time has passed and Serve reports its replicas, each of shape (V, P)."""
        self.accrue(now_s)
        for option, count in enumerate(np.asarray(running).reshape(-1)):
            if self.catalog.market[option % running.shape[1]] == SERVERLESS:
                continue
            held = sorted((i for i in self.instances if i.option == option), key=lambda i: i.launched_s)
            for instance in held[: int(count)]:
                if instance.phase is not Phase.SERVING:
                    self._enter(instance, Phase.SERVING, now_s)
            for instance in held[int(count) :]:
                self._release(instance, now_s)
            for _ in range(int(count) - len(held)):
                self.instances.append(Instance(option, now_s, Phase.SERVING, now_s))


def attached_fleet(setting: Setting, seed: int, *, is_holding: bool) -> Fleet:
    """The ledger for a run: launches take no time of their own, and no market is emulated."""
    catalog = setting.catalog._replace(launch_s=np.zeros_like(setting.catalog.launch_s))
    made = FollowedFleet if is_holding else AttachedFleet
    return made(catalog, calm_market(len(setting.zones)), seed, setting.control.retry_after_s)
