"""Policies of a user's own, which tests tune and make by name."""

import numpy as np
from pydantic import Field

from controller.arrays import empty_plan
from controller.config import StrictModel


class FleetSettings(StrictModel):
    """Machines of the first variant on the first pool."""

    machines: int = Field(default=3, ge=1, le=9)


class Fleet:
    """A fixed fleet whose size is a setting."""

    Settings = FleetSettings

    def __init__(self, setting, settings=None, name="fleet"):
        self.name = name
        self.settings = settings or FleetSettings()
        self._shape = setting.shape

    def reset(self, num_envs):
        self._plan = empty_plan(num_envs, self._shape)
        self._plan.replicas[:, 0, 0] = self.settings.machines

    def decide(self, observation):
        return self._plan

    def raw_output(self):
        return np.zeros((len(self._plan.replicas), 0))


class Bare(Fleet):
    """Has nothing to tune."""

    Settings = None


class NoPolicy:
    """Decides nothing."""

    Settings = FleetSettings

    def __init__(self, setting, settings=None, name=""): ...
