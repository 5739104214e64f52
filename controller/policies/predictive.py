"""The `mpc` rule: forecast, cheapest accurate mix, and knobs around it that a learned policy may set."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import F64, HISTORY_TICKS, ObservationArrays, PlanArrays, empty_plan
from controller.batching import (
    accuracy_usd,
    by_patience,
    capacity_rps,
    largest_batches,
    machine_usd,
    near_floor,
    overflows,
)
from controller.compile import Setting
from controller.config import StrictModel
from controller.dial import Preferences, adjusted
from controller.forecaster_file import DEFAULT, forecaster_named
from controller.policies.choice import check_single_operators
from controller.rule_arrays import KNOBS, NUM_KNOBS, RATE_TICKS, UNTOLD, ForecastArrays, MpcArrays, new_mpc_state

_MOST_GROWTH = 5.0  # of a logarithm, as the rule caps it
_EXPLAINED_LEVELS = (0.5, 0.9, 0.99)
_BY_PATIENCE = (
    ("headroom", "patient_headroom"),
    ("overflow_fraction", "patient_overflow"),
    ("shed_slack", "patient_shed"),
)
"""Settings that a class has its own part of, and the part of one with all the time to wait."""

ALONE_HEADROOM = 1.3
"""Least headroom of a class that serverless cannot answer."""


class MpcSettings(StrictModel):
    """Settings of the `mpc` rule; ranges are those a tuner searches, spans are divided by the scenario's speed."""

    quantile: float = Field(
        default=0.9, ge=0.05, le=0.999, description="quantile of the largest rate over the horizon planned for"
    )
    headroom: float = Field(
        default=1.25,
        ge=0.7,
        le=3.0,
        description="capacity over that demand, for queueing; at least 1.3 for a class without serverless",
    )
    patient_headroom: float = Field(
        default=1.0,
        ge=0.3,
        le=1.5,
        description="headroom of a class with time to wait, relative to `headroom`",
    )
    steady_s: float = Field(
        default=1800.0,
        ge=60.0,
        le=3600.0,
        description="the more accurate variant of a mix is sized for the mean rate of this span: accuracy can wait",
    )
    backlog_s: float = Field(
        default=60.0, ge=5.0, le=1200.0, description="seconds in which queued requests are worked off"
    )
    need_band: float = Field(
        default=0.0, ge=0.0, le=0.5, description="demand may fall by this share before the plan follows it"
    )
    accuracy_margin: float = Field(
        default=0.0, ge=0.0, le=0.15, description="aimed this far above a floor, share of right answers"
    )
    accuracy_band: float = Field(
        default=0.0, ge=0.0, le=0.05, description="the accuracy aimed at may fall by this before the mix follows it"
    )
    accuracy_tilt: float = Field(
        default=0.25, ge=0.0, le=1.0, description="reach of the knob, share of the span of accuracies"
    )
    repay_s: float = Field(
        default=3600.0, ge=60.0, le=86400.0, description="an accuracy debt or credit is worked off over this span"
    )
    spot_share: float = Field(
        default=0.8, ge=0.0, le=1.0, description="share of capacity above the on-demand part bought on spot"
    )
    over_provision: float = Field(
        default=1.2, ge=1.0, le=3.0, description="spot capacity per capacity wanted, against preemption"
    )
    spot_spread: float = Field(
        default=0.3, ge=0.0, le=4.0, description="spot pools this much dearer than the cheapest still share load"
    )
    on_demand_floor: float = Field(
        default=0.1, ge=0.0, le=1.0, description="share of capacity bought on demand in any case"
    )
    replica_band: float = Field(
        default=1.5,
        ge=0.5,
        le=3.0,
        description="replicas that an option may have more than are wanted before any is given up",
    )
    scale_in_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="time constant with which machines too many are given up"
    )
    overflow_fraction: float = Field(
        default=0.9, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )
    patient_overflow: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="that share for a class with time to wait, relative to `overflow_fraction`",
    )
    miss_budget: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of the misses a day permits let happen in place of such calls"
    )
    overflow_slack: float = Field(
        default=0.6, ge=0.0, le=2.0, description="wait called too long, as a share of SLO - service - network"
    )
    batch_slack: float = Field(
        default=0.5, ge=0.05, le=1.0, description="largest share of an SLO that two batches in a row may take"
    )
    shed_slack: float = Field(
        default=1.0,
        ge=0.1,
        le=10.0,
        description="a class's queue limit, in slacks of work at the capacity it has; more, so that serverless can be "
        "asked, on a day that has spent its permitted misses",
    )
    patient_shed: float = Field(
        default=1.0,
        ge=0.05,
        le=2.0,
        description="queue limit of a class with time to wait, relative to `shed_slack`",
    )

    miss_multiplier: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        description="value of a miss relative to what the settings were tuned for (the dial)",
    )
    forecaster: str = Field(
        default=DEFAULT,
        min_length=1,
        description="`default`, fitted on all training traces; `persistence`; or the path of a forecaster's .json",
    )

    def arrays(self, setting: Setting) -> MpcArrays:
        """The settings as the kernels take them, for one scenario."""
        spans = {"steady_s", "backlog_s", "repay_s", "scale_in_s"}
        speed = setting.scenario.speed
        given = self.model_dump(exclude={"miss_multiplier", "forecaster"})
        values = {name: value / speed if name in spans else value for name, value in given.items()}
        for name, patient in _BY_PATIENCE:
            values[name] *= by_patience(setting.workload, values.pop(patient))
        # Less than the demand is bought where serverless answers the rest; a class that it cannot serve would starve.
        may_overflow = overflows(setting.catalog, setting.workload)
        values["headroom"] = np.where(may_overflow, values["headroom"], np.maximum(values["headroom"], ALONE_HEADROOM))
        batch_size = largest_batches(setting.catalog, setting.workload, self.batch_slack)
        rps = capacity_rps(setting.catalog, batch_size)
        usd = machine_usd(setting.catalog, rps)
        price = accuracy_usd(setting.catalog, setting.workload, usd)
        return MpcArrays(
            **values,
            prior_rps=setting.scenario.mean_rps,
            batch_size=batch_size,
            rps=rps,
            usd=usd,
            near_floor=near_floor(setting.catalog, setting.workload),
            accuracy_usd=price,
            tilt_weight=price / max(float(price.max()), 1e-12),
        )


class MpcPolicy:
    """The rule with optional knobs.

    Args:
        setting: What is decided for.
        settings: The rule's settings; the defaults are a judgement, `provisor tune` finds better ones.
        forecast: Forecaster in place of the one that the settings name.
        name: Name in tables.

    Attributes:
        knobs: (N, K) in [-1, 1], `controller.rule_arrays.KNOBS`; zeros after `reset`. Whoever sets them writes here.
        dial: (N,) value of a miss per env.
        state: What the rule remembers.
    """

    Settings: ClassVar[type[MpcSettings]] = MpcSettings

    interval_ticks: int | None = None
    """Ticks at which `prepare` changes more than what is told, those divisible by this; None: at none."""

    def __init__(
        self,
        setting: Setting,
        settings: MpcSettings | None = None,
        forecast: ForecastArrays | None = None,
        name: str = "mpc",
    ) -> None:
        self.name = name
        self.setting = setting
        self.settings = MpcSettings() if settings is None else settings
        check_single_operators(setting, name)
        self.forecast = forecaster_named(self.settings.forecaster) if forecast is None else forecast
        self._own_settings = self.settings
        self._arrays = self.settings.arrays(setting)
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; knobs go to zero."""
        self.knobs: F64 = np.zeros((num_envs, NUM_KNOBS))
        self.dial: F64 = np.full(num_envs, self.settings.miss_multiplier)
        self.state = new_mpc_state(num_envs, self.setting.shape, len(self.forecast.levels))
        self._plan = empty_plan(num_envs, self.setting.shape)

    def set_preferences(self, preferences: Preferences) -> None:
        """Decides by other preferences from the next decision on, in every env; they stay over a `reset`.

        The settings were made for the attainment that the classes promise, by their shares of the arrivals.
        """
        wl = self.setting.workload
        self.settings = adjusted(self._own_settings, preferences, float(wl.share @ wl.attainment_target))
        self._arrays = self.settings.arrays(self.setting)
        self.dial[:] = self.settings.miss_multiplier

    @property
    def arrays(self) -> MpcArrays:
        """The settings as the kernels take them."""
        return self._arrays

    @property
    def plan(self) -> PlanArrays:
        """The buffers that plans are written to."""
        return self._plan

    def prepare(self, observation: ObservationArrays) -> None:
        """Sets what the rule takes as given for this tick; a policy around it sets knobs here."""

    def told_ahead(self, observation: ObservationArrays, ticks: int) -> F64:
        """What the rule is told of the rate (`MpcState.told`) in this tick and later ones, (T, N, 2); T = 0: nothing.

        Args:
            observation: Of this tick.
            ticks: How many, >= 1.
        """
        return UNTOLD

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env; the same buffers are returned each time."""
        from controller.kernels.mpc import mpc

        self.prepare(observation)
        setting = self.setting
        mpc(
            setting.catalog,
            setting.workload,
            setting.limits,
            setting.control,
            self._arrays,
            self.forecast,
            self.knobs,
            self.dial,
            self.state,
            observation,
            self._plan,
            0,
            len(observation.tick),
        )
        return self._plan

    def explain(self, observation: ObservationArrays) -> dict[str, float]:
        """What the last plan was made for, of env 0: the forecast, the demand planned for, the knobs.

        `rate_now_rps`; `largest_rate_rps q50` and so on, some quantiles of the largest rate over the horizon;
        `need_rps` and `accuracy_aimed` by class, with headroom, spare, backlog and bands in them; the knobs that are
        not zero.
        """
        state, names = self.state, self.setting.class_names
        told = float(state.told[0, 0])
        now_rps = told if told >= 0.0 else recent_rate_rps(self.setting, observation)
        found = {"rate_now_rps": now_rps}
        levels = self.forecast.levels
        for wanted in _EXPLAINED_LEVELS:
            q = int(np.argmin(np.abs(levels - wanted)))
            growth = min(_MOST_GROWTH, float(state.growth[0, q]))
            found[f"largest_rate_rps q{100 * levels[q]:g}"] = now_rps * float(np.exp(growth))
        found |= {f"need_rps {name}": float(need) for name, need in zip(names, state.need_rps[0], strict=True)}
        found |= {f"accuracy_aimed {name}": float(a) for name, a in zip(names, state.target_accuracy[0], strict=True)}
        return found | {f"knob {name}": float(k) for name, k in zip(KNOBS, self.knobs[0], strict=True) if k}

    def raw_output(self) -> F64:
        """The knobs of the last plan, (N, K)."""
        return self.knobs.copy()


def recent_rate_rps(setting: Setting, observation: ObservationArrays) -> float:
    """Arrivals of all classes over the last minute, requests/s; ticks not seen yet count as the scenario's mean.

    The rate now of the `mpc` rule, of env 0.
    """
    seen = min(int(observation.tick[0]), RATE_TICKS)
    slots = (int(observation.tick[0]) - 1 - np.arange(seen)) % HISTORY_TICKS
    arrived = float(observation.history[0][:, slots].sum()) / setting.control.tick_s
    return (arrived + setting.scenario.mean_rps * (RATE_TICKS - seen)) / RATE_TICKS
