"""The `mpc` rule under a rival form of the action, for experiments: an actor says it, and nothing of it is exported."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, I64, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.forms import FORMS, Form, form_size, seen_for
from controller.observation import RuleView, encode_observation
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import ForecastArrays


class Actor(Protocol):
    """What decides: a network, with a memory of each env or without."""

    def reset(self, num_envs: int) -> None:
        """Forgets everything."""

    def act(self, seen: NDArray[np.float32]) -> F64:
        """Actions (N, A) for what is seen, (N, D); clipped to [-1, 1] by whoever asks."""


class FormPolicy(MpcPolicy):
    """The rule under an actor that speaks once per decision interval.

    Args:
        setting: What is decided for.
        settings: The rule's settings.
        forecast: The rule's forecaster; None: the one that the settings name.
        form: What an action is.
        actor: Who says it.
        name: Name in tables.

    Attributes:
        forms: (N,) form of each env's action.
        acted: (N, A) the last actions; zeros after `reset`.
    """

    def __init__(
        self,
        setting: Setting,
        settings: MpcSettings | None,
        forecast: ForecastArrays | None,
        form: Form,
        actor: Actor,
        name: str = "form",
    ) -> None:
        self._form, self._actor = form, actor
        super().__init__(setting, settings, forecast, name)
        self.interval_ticks = int(setting.control.ticks_per_decision)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; the actor looks at the next observation."""
        super().reset(num_envs)
        self.forms: I64 = np.full(num_envs, FORMS.index(self._form))
        self.acted: F64 = np.zeros((num_envs, form_size(self._form, self.setting.shape)))
        self._actor.reset(num_envs)
        self._is_fresh = True

    def prepare(self, observation: ObservationArrays) -> None:
        """Sets the actions where a decision interval begins; all envs are at the same tick, as one run's are."""
        if not self._is_fresh and observation.tick[0] % self.setting.control.ticks_per_decision:
            return
        self._is_fresh = False
        rule = RuleView(self.arrays, self.forecast, self.state, self.knobs, self.dial, self._plan)
        encoded = encode_observation(self.setting, rule, observation)
        seen = seen_for(self._form, self.setting, self.arrays, self.state, observation, encoded, self.acted)
        self.acted[...] = np.clip(self._actor.act(seen), -1.0, 1.0)
        if self._form == "knobs":
            self.knobs[...] = self.acted

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env; the same buffers are returned each time."""
        from controller.kernels.forms import plan_forms

        self.prepare(observation)
        setting = self.setting
        plan_forms(
            setting.catalog,
            setting.workload,
            setting.limits,
            setting.control,
            self.arrays,
            self.forecast,
            self.knobs,
            self.dial,
            self.state,
            observation,
            self._plan,
            self.forms,
            self.acted,
            0,
            len(observation.tick),
        )
        return self._plan

    def raw_output(self) -> F64:
        """The last actions, (N, A)."""
        return self.acted.copy()
