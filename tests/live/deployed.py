"""A deployed application that a test drives by hand, without a controller."""

import asyncio
import time

import httpx
import numpy as np

from controller.arrays import empty_actions, empty_plan
from serving import ray_compat, zoo
from serving.actuator import RayServe
from serving.app import APP_NAME, layout_of
from serving.fleet import Fleet
from serving.market import calm_market
from serving.metrics import ObservationBuilder


class Live:
    """A deployed application, of the demo where nothing else is said, with an actuator of its own."""

    def __init__(self, cluster, setting, run):
        self.cluster, self.setting, self._run = cluster, setting, run
        self.layout = layout_of(setting)
        self.began_s = time.monotonic()
        self.fleet = Fleet(setting.catalog, calm_market(1), 0, setting.control.retry_after_s)
        builder = ObservationBuilder(setting)
        self.world = RayServe(setting, self.layout, APP_NAME, self.fleet, builder, self.now_s)
        self.plan = empty_plan(1, setting.shape)
        num_variants, self.num_pools, num_classes = setting.shape
        self.shares = np.zeros((1, num_classes, num_variants, self.num_pools))
        images, digits = zoo.images()[2:]
        self.images, self.digits = [row.tolist() for row in images], digits.tolist()

    def now_s(self):
        """Seconds since it was deployed."""
        return time.monotonic() - self.began_s

    def act(self, until, timeout_s=60.0, **counts):
        """Applies actions and follows Serve until a condition holds."""
        actions = empty_actions(1, self.setting.shape)
        for name, entries in counts.items():
            for at, count in entries.items():
                getattr(actions, name)[(0, *at)] = count
        self.world.apply(actions, self.plan, self.shares)

        async def follow():
            end_s = time.monotonic() + timeout_s
            while not (await self.world.follow() and until()):
                assert time.monotonic() < end_s, self.fleet.instances
                await asyncio.sleep(0.1)

        self._run(follow())

    def share(self, variant, pool):
        self.shares[:] = 0.0
        self.shares[:, :, variant, pool] = 1.0

    def serving(self, variant, pool):
        return int(self.world.serving()[variant * self.num_pools + pool])

    def post(self, count=1, headers=None, **fields):
        """Sends requests at once; returns the responses in order."""

        async def send():
            async with httpx.AsyncClient(base_url=self.cluster.url, timeout=30) as client:
                bodies = [{"input": self.images[i % len(self.images)], **fields} for i in range(count)]
                return await asyncio.gather(*[client.post("/v1/infer", json=body, headers=headers) for body in bodies])

        return self._run(send())

    def states(self):
        return self._run(ray_compat.replica_states(ray_compat.serve_controller(), APP_NAME))
