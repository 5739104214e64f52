"""World models for tests of what asks them, made in the process that is asked."""

import os
import sys

import numpy as np

from controller.ports import Rollout


class Counting:
    """Every plan costs its replicas in dollars; refuses observations of tick 7 and dies at tick 13."""

    num_replications = 4

    def __init__(self, setting):
        self.setting = setting

    def rollout(self, observation, plans, horizon_s):
        if observation.tick[0] == 7:
            raise ValueError("tick seven")
        if observation.tick[0] == 13:
            os._exit(3)
        print("a library that prints must not disturb the answers")
        sys.stdout.flush()
        cost = plans.replicas.sum(axis=(1, 2)).astype(float)
        nothing = np.full(len(cost), np.nan)
        return Rollout(cost, np.ones(len(cost)), nothing, nothing, np.zeros(len(cost)), nothing)
