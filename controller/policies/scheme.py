"""What the compiled rival schemes share: their levers as arrays, their state, and the call that plans."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from controller.arrays import F64, I64, ObservationArrays, PlanArrays, empty_plan
from controller.batching import by_patience, capacity_rps, largest_batches, machine_usd, near_floor
from controller.compile import Setting
from controller.errors import ConfigError, mismatch
from controller.policies.choice import cheapest_choice, check_single_operators, pool_order
from controller.policies.levers import FixedChoice, Levers
from controller.rival_arrays import MIX_OPTIONS, SCHEMES, AutoscalerArrays, RivalArrays, RivalState, new_rival_state

BATCH_SLACK = 0.5
"""Largest share of an SLO that two batches in a row may take, for schemes without that lever."""

SettingsT = TypeVar("SettingsT", bound=FixedChoice)

NO_AUTOSCALER = AutoscalerArrays(
    target=1.0,
    min_replicas=0,
    max_replicas=10**9,
    up_delay_s=0.0,
    down_delay_s=0.0,
    to_zero_delay_s=0.0,
    up_factor=1.0,
    down_factor=1.0,
    look_back_ticks=1,
    aggregation=0,
    tolerance=0.0,
    up_window_ticks=0,
    down_window_ticks=0,
    up_percent=0.0,
    up_replicas=0,
    up_period_ticks=1,
    down_percent=0.0,
    down_replicas=0,
    down_period_ticks=1,
)
"""An autoscaler that follows at once."""

_NEUTRAL: dict[str, Any] = {
    "over_provision": 1.0,
    "spot_spread": 0.0,
    "on_demand_floor": 0.0,
    "adaptive_variant": False,
    "replica_band": 1.5,
    "accuracy_margin": 0.0,
    "repay_s": 3600.0,
    "overflow_fraction": 0.0,
    "miss_budget": 0.0,
    "overflow_slack": 1.0,
    "headroom": 1.0,
    "cooldown_ticks": 0,
    "high_utilisation": 1.0,
    "low_utilisation": 0.0,
    "target_utilisation": 1.0,
    "window_ticks": 3,
    "strict_slo_s": 0.0,
    "burstiness": 1.0,
    "calm_headroom": 1.0,
    "interval_ticks": 1,
    "launch_overhead": 0.0,
    "avoid_s": 0.0,
    "min_zones": 0,
    "confidence_z": 0.0,
    "loss_window_s": 0.0,
    "prior_losses_per_s": 0.0,
    "prior_s": 1.0,
    "capacity_share": np.array([1.0] + [0.0] * (MIX_OPTIONS - 1)),
    "autoscaler": NO_AUTOSCALER,
}
"""Numbers that change nothing, for what a scheme has no setting for."""


class Scheme(Generic[SettingsT]):
    """A compiled scheme; subclasses name their kind and settings, and turn spans and ratios into `RivalArrays`.

    Args:
        setting: What is decided for.
        settings: The scheme's settings; as published by default.
        name: Name in tables.
    """

    kind: ClassVar[str]
    Settings: type[SettingsT]
    ranks_by_batch: ClassVar[bool] = False
    """Whether its own pools are ranked by cost at full batches, as a mix of variants always is, not at one request."""

    def __init__(self, setting: Setting, settings: SettingsT | None = None, name: str | None = None) -> None:
        self.name = self.kind if name is None else name
        self.setting = setting
        self.settings = self.Settings() if settings is None else settings
        check_single_operators(setting, self.name)
        self._arrays = self._compile()
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state."""
        scaler = self._arrays.autoscaler
        spans = (
            scaler.look_back_ticks,
            scaler.up_window_ticks,
            scaler.down_window_ticks,
            scaler.up_period_ticks,
            scaler.down_period_ticks,
        )
        self._state = new_rival_state(num_envs, self.setting.shape, max(spans) + 1)
        self._plan = empty_plan(num_envs, self.setting.shape)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env; the same buffers are returned each time."""
        from controller.kernels.rules import scheme

        setting = self.setting
        scheme(
            SCHEMES.index(self.kind),
            setting.catalog,
            setting.workload,
            setting.limits,
            setting.control,
            self._arrays,
            self._state,
            observation,
            self._plan,
            0,
            len(observation.tick),
        )
        return self._plan

    @property
    def arrays(self) -> RivalArrays:
        """The settings as the kernels take them."""
        return self._arrays

    @property
    def state(self) -> RivalState:
        """What the scheme remembers."""
        return self._state

    @property
    def plan(self) -> PlanArrays:
        """The buffers that plans are written to."""
        return self._plan

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((len(self._plan.need_rps), 0))

    def numbers(self) -> dict[str, Any]:
        """Fields of `RivalArrays` that follow from the scheme's own settings; the rest is neutral."""
        return {}

    def ticks(self, span_s: float, least: int = 0) -> int:
        """Ticks in a span of trace time, whatever the speed."""
        return max(least, round(span_s / self.setting.scenario.control.tick_s))

    def _compile(self) -> RivalArrays:
        setting, given = self.setting, self.settings
        num_variants, num_pools, num_classes = setting.shape
        levers: dict[str, Any] = {"spot_share": given.spot_share}
        batch_slack = BATCH_SLACK
        if isinstance(given, Levers):
            for field, named in (("variant", given.variant), ("pool", given.pool)):
                if given.adaptive_variant and named is not None:
                    raise ConfigError(mismatch(field, "none where adaptive_variant is true", named))
            batch_slack = given.batch_slack
            levers |= given.model_dump(exclude={"variant", "pool", "batch_slack"}, include=set(Levers.model_fields))
            levers["class_headroom"] = by_patience(setting.workload, float(levers.pop("patient_headroom")))
            levers["class_overflow"] = by_patience(setting.workload, float(levers.pop("patient_overflow")))
            levers["repay_s"] = given.repay_s / setting.scenario.speed
        batch_size = largest_batches(setting.catalog, setting.workload, batch_slack)
        rps = capacity_rps(setting.catalog, batch_size)
        usd = machine_usd(setting.catalog, rps)
        by_batch = self.ranks_by_batch or bool(levers.get("adaptive_variant"))
        variant = np.zeros(num_classes, np.int64)
        first = np.zeros(num_classes, np.int64)
        pools, spot_pools = np.full((2, num_classes, num_variants, num_pools), -1, np.int64)
        for c in range(num_classes):
            variant[c], *chosen = cheapest_choice(setting, given, c)
            first[c] = chosen[0][0]
            for v in range(num_variants):
                if given.variant is not None and v != variant[c]:
                    continue  # a named variant leaves no choice
                own, spot = chosen if v == variant[c] else pool_order(setting, given, c, v)
                if by_batch:
                    own, spot = (sorted(found, key=usd[v].tolist().__getitem__) for found in (own, spot))
                pools[c, v, : len(own)], spot_pools[c, v, : len(spot)] = own, spot
        every = dict.fromkeys(("class_headroom", "class_overflow"), np.ones(num_classes))
        return RivalArrays(
            variant=variant,
            pools=pools.copy(),
            spot_pools=spot_pools.copy(),
            pool_max=setting.limits.pool_max,
            batch_size=batch_size,
            rps=rps,
            usd=usd,
            near_floor=near_floor(setting.catalog, setting.workload),
            group_rps=_group_rps(variant, first, rps, bool(levers.get("adaptive_variant"))),
            prior_rps=setting.scenario.mean_rps,
            ahead_ticks=self.ticks(setting.scenario.control.horizon_s, least=1),
            **(every | _NEUTRAL | levers | self.numbers()),
        )


def _group_rps(variant: I64, pool: I64, rps: F64, is_one_group: bool) -> F64:
    """Capacity of a replica of a class's fixed choice, by variant, (V,); the least of them where all are one group."""
    units = np.ones(len(rps))
    own = rps[variant, pool].tolist()
    for c in reversed(range(len(variant))):
        units[variant[c]] = own[c]
    if is_one_group:
        units[0] = min(own)
    return units
