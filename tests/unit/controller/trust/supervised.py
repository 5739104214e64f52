"""A supervisor over stand-ins whose plans are fixed numbers, on the tiny catalog, driven tick by tick."""

import numpy as np

from controller.arrays import empty_observation, empty_plan
from controller.loop import DecisionLoop
from controller.plan import Reason
from controller.trust.config import TrustConfig
from controller.trust.mode import Mode
from controller.trust.store import PolicyEntry
from controller.trust.supervisor import Supervisor
from tests.tiny import OD, SMALL, tiny_setting

POLICY, RULE = 4, 7
"""Small on-demand replicas that policy and rule plan."""

TICK_S = 10.0


class Fixed:
    """Plans a number of small on-demand replicas."""

    name = "fixed"

    def __init__(self, replicas):
        self.replicas, self.error, self.asked = replicas, None, 0
        self.raw = np.zeros((1, 1))
        self.reset(1)

    def reset(self, num_envs):
        self.num_envs = num_envs

    def decide(self, observation):
        self.asked += 1
        if self.error is not None:
            raise self.error
        plan = empty_plan(self.num_envs, tiny_setting().shape)
        plan.replicas[:, SMALL, OD] = self.replicas
        return plan

    def raw_output(self):
        return self.raw


class Run:
    """A run of a supervisor; `tick` is one of ten seconds."""

    def __init__(self, mode=Mode.ACTIVE, policy=None, setting=None, check=None, **config):
        self.setting = setting or tiny_setting()
        self.policy = policy or Fixed(POLICY)
        self.rule = Fixed(RULE)
        more = {} if check is None else {"check": check}
        self.supervisor = Supervisor(
            DecisionLoop(self.setting, self.rule),
            "static",
            DecisionLoop(self.setting, self.policy),
            PolicyEntry("fixed", "fixed"),
            mode=mode,
            config=TrustConfig(**config),
            **more,
        )
        self.observation = empty_observation(1, self.setting.shape)
        self.events = []
        self.drivers = []

    def tick(self, stale_ticks=0, **fields):
        """One tick; `fields` are set in the observation first. Returns who drove."""
        for array in (self.observation.arrivals, self.observation.missed, self.observation.spend_usd):
            array[...] = 0
        self.observation.tick[:] += 1
        self.observation.time_s[:] = self.observation.tick * TICK_S
        for name, value in fields.items():
            getattr(self.observation, name)[...] = value
        verdict = self.supervisor.decide(self.observation, stale_ticks)
        self.events += verdict.events
        self.decision = verdict.decision
        self.drivers.append(str(verdict.driver))
        return str(verdict.driver)

    def ticks(self, count, **fields):
        """The same tick `count` times."""
        return [self.tick(**fields) for _ in range(count)]

    @property
    def planned(self):
        return int(self.decision.plan.replicas[0, SMALL, OD])

    @property
    def is_marked(self):
        """Whether the plan says that the rule drives."""
        return bool(self.decision.plan.reasons[0] & int(Reason.FALLBACK_RULE))

    def of(self, kind):
        """Fields of the events of a kind so far."""
        return [event.fields for event in self.events if event.kind == kind]
