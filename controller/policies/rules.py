"""Published heuristic schemes, as rivals and as rules to hand back to.

They follow "Towards Designing a Self-Managed Machine Learning Inference Serving System in Public Cloud" (arXiv
2008.09491) and the systems it compares, of which only abstracts were at hand; what each rule does is our reading,
stated on its settings. All of them run one fixed variant per class: the cheapest whose accuracy meets the floor and
whose service fits the SLO.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import (
    F64,
    ON_DEMAND,
    SERVERLESS,
    SPOT,
    ObservationArrays,
    PlanArrays,
    empty_plan,
)
from controller.batching import largest_batches
from controller.compile import Setting
from controller.config import StrictModel
from controller.errors import ConfigError, mismatch
from controller.rule_arrays import SCHEMES, RuleArrays, new_rule_state

BATCH_SLACK = 0.5
"""Largest share of an SLO that two batches in a row may take."""


class FixedChoice(StrictModel):
    """What a fixed-variant scheme runs on."""

    variant: str | None = Field(
        default=None,
        description="variant of every class that may use it; default: per class the cheapest meeting its floor",
    )
    pool: str | None = Field(
        default=None, description="machine pool; default: on-demand pools of the variant, cheapest first"
    )
    spot_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of demand planned on spot pools, cheapest first"
    )


class ReactiveSettings(FixedChoice):
    """`reactive`: n = ceil(headroom x rate of the last minute / capacity), up at once, down after a cool-down."""

    headroom: float = Field(
        default=1.2, ge=0.7, le=5.0, description="capacity (at full use) over the rate of the last minute"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )


class UtilAwareSettings(FixedChoice):
    """`util_aware`: resized to a target utilisation whenever the measured one leaves a band."""

    high_utilisation: float = Field(default=0.8, gt=0.0, le=1.0, description="busy share above which it scales out")
    low_utilisation: float = Field(default=0.5, ge=0.0, lt=1.0, description="busy share below which it scales in")
    target_utilisation: float = Field(
        default=0.8, gt=0.0, le=1.0, description="busy share it sizes for, at the last minute's rate"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )


class ExascaleSettings(FixedChoice):
    """`exascale`: a line through the last minutes read at the launch delay, and never below the window's peak."""

    headroom: float = Field(
        default=1.1, ge=0.7, le=5.0, description="capacity over max(forecast, largest tick of the window)"
    )
    window_s: float = Field(default=600.0, ge=30.0, le=3600.0, description="window of the moving linear regression")
    cooldown_s: float = Field(
        default=0.0, ge=0.0, le=7200.0, description="extra cool-down; the window's peak already holds"
    )


class MixedSettings(ReactiveSettings):
    """`mixed`: reactive machines; a request whose predicted wait is too long goes to serverless."""

    overflow_slack: float = Field(
        default=0.6, ge=0.0, le=2.0, description="wait called too long, share of SLO - service - network"
    )


class ParagonSettings(MixedSettings):
    """`paragon`: strict classes overflow early, relaxed ones wait out their slack; calm load gets machines instead."""

    strict_slo_s: float = Field(default=5.0, gt=0.0, description="classes with a longer SLO are relaxed")
    window_s: float = Field(default=600.0, ge=30.0, le=3600.0, description="window over which burstiness is measured")
    burstiness: float = Field(
        default=1.3, ge=1.0, le=20.0, description="peak / median of the window above which serverless is kept"
    )
    calm_headroom: float = Field(default=1.1, ge=1.0, le=3.0, description="extra capacity while serverless is not kept")


def cheapest_choice(setting: Setting, choice: FixedChoice, c: int) -> tuple[int, list[int], list[int]]:
    """Variant of class `c`, its machine pools in the order they are filled, and its spot pools likewise.

    Raises:
        ConfigError: The named variant or pool does not exist, or the class has no machine option that fits the choice.
    """
    cat, wl = setting.catalog, setting.workload
    variants = indices_of("variant", choice.variant, setting.variant_names)
    pools = indices_of("pool", choice.pool, setting.pool_names)
    if choice.variant is not None and not (wl.allowed[c, variants[0]] & (cat.market != SERVERLESS)).any():
        variants = range(len(setting.variant_names))
    named: list[tuple[float, int, int]] = []
    spot: list[tuple[float, int, int]] = []
    for v in variants:
        if choice.variant is None and cat.accuracy[v] < wl.accuracy_floor[c]:
            continue
        for p in np.flatnonzero(wl.allowed[c, v] & (cat.market != SERVERLESS)).tolist():
            usd = float(cat.price_usd_per_s[p] * cat.service_s[v, p, 1] / cat.concurrency[v, p])
            if p in pools and (choice.pool is not None or cat.market[p] == ON_DEMAND):
                named.append((usd, v, p))
            if cat.market[p] == SPOT:
                spot.append((usd, v, p))
    if not named and choice.pool is None:
        named = spot
    if not named:
        expected = f"a machine pool that can answer class '{setting.class_names[c]}' within its promises"
        raise ConfigError(mismatch("pool", expected, choice.pool))
    variant = min(named)[1]
    return variant, [p for _, v, p in sorted(named) if v == variant], [p for _, v, p in sorted(spot) if v == variant]


def check_single_operators(setting: Setting, rule: str) -> None:
    """Refuses classes whose requests take several operators, for a rule that sizes one fleet per class.

    Raises:
        ConfigError: There is such a class.
    """
    for name, count in zip(setting.class_names, setting.workload.num_operators, strict=True):
        if count > 1:
            expected = f"'static' with replicas, or a class of your own, for class '{name}' of {count} operators"
            raise ConfigError(mismatch("policy", expected, rule))


def indices_of(field: str, name: str | None, names: tuple[str, ...]) -> range:
    """Index of a name, or of all where it is None.

    Raises:
        ConfigError: No such name.
    """
    if name is None:
        return range(len(names))
    if name not in names:
        raise ConfigError(mismatch(field, f"one of {', '.join(names)}", name))
    return range(names.index(name), names.index(name) + 1)


class _Scheme:
    """What the compiled schemes share."""

    kind: ClassVar[str]
    Settings: ClassVar[type[FixedChoice]]

    def __init__(self, setting: Setting, settings: FixedChoice | None = None, name: str | None = None) -> None:
        self.name = self.kind if name is None else name
        self.setting = setting
        self.settings = self.Settings() if settings is None else settings
        check_single_operators(setting, self.name)
        self._arrays = self._compile()
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state."""
        self._state = new_rule_state(num_envs, self.setting.shape)
        self._plan = empty_plan(num_envs, self.setting.shape)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env; the same buffers are returned each time."""
        from controller.kernels.rules import scheme

        setting = self.setting
        scheme(
            SCHEMES.index(self.kind),
            setting.catalog,
            setting.workload,
            setting.control,
            self._arrays,
            self._state,
            observation,
            self._plan,
            0,
            len(observation.tick),
        )
        return self._plan

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((len(self._plan.need_rps), 0))

    def _compile(self) -> RuleArrays:
        setting = self.setting
        _, num_pools, num_classes = setting.shape
        variant = np.zeros(num_classes, np.int64)
        pools, spot_pools = np.full((2, num_classes, num_pools), -1, np.int64)
        for c in range(num_classes):
            variant[c], own, spot = cheapest_choice(setting, self.settings, c)
            pools[c, : len(own)], spot_pools[c, : len(spot)] = own, spot
        given = self.settings.model_dump()
        tick_s = setting.scenario.control.tick_s

        def value(name: str, otherwise: float) -> float:
            return float(given.get(name, otherwise))

        return RuleArrays(
            variant=variant,
            pools=pools.copy(),
            spot_pools=spot_pools.copy(),
            pool_max=setting.limits.pool_max,
            spot_share=value("spot_share", 0.0),
            headroom=value("headroom", 1.0),
            cooldown_ticks=round(value("cooldown_s", 0.0) / tick_s),
            high_utilisation=value("high_utilisation", 1.0),
            low_utilisation=value("low_utilisation", 0.0),
            target_utilisation=value("target_utilisation", 1.0),
            window_ticks=max(3, round(value("window_s", 600.0) / tick_s)),
            ahead_ticks=max(1, round(setting.scenario.control.horizon_s / tick_s)),
            overflow_slack=value("overflow_slack", 1.0),
            strict_slo_s=value("strict_slo_s", 0.0),
            burstiness=value("burstiness", 1.0),
            calm_headroom=value("calm_headroom", 1.0),
            prior_rps=setting.scenario.mean_rps,
            batch_size=largest_batches(setting.catalog, setting.workload, BATCH_SLACK),
        )


class ReactivePolicy(_Scheme):
    """`reactive`; see `ReactiveSettings`."""

    kind = "reactive"
    Settings = ReactiveSettings


class UtilAwarePolicy(_Scheme):
    """`util_aware`; see `UtilAwareSettings`."""

    kind = "util_aware"
    Settings = UtilAwareSettings


class ExascalePolicy(_Scheme):
    """`exascale`; see `ExascaleSettings`."""

    kind = "exascale"
    Settings = ExascaleSettings


class MixedPolicy(_Scheme):
    """`mixed`; see `MixedSettings`."""

    kind = "mixed"
    Settings = MixedSettings


class ParagonPolicy(_Scheme):
    """`paragon`; see `ParagonSettings`."""

    kind = "paragon"
    Settings = ParagonSettings
