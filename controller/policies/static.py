"""A fleet that never changes: the baseline that all others must beat, and a way to try a plan's rules by hand."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from controller.arrays import CASCADE_STEPS, F64, ObservationArrays, PlanArrays, empty_plan
from controller.class_latency import class_latency_s, machine_weights
from controller.compile import Setting
from controller.config import StrictModel
from controller.errors import ConfigError, mismatch
from controller.policies.choice import cheapest_choice, check_single_operators, indices_of
from controller.policies.levers import FixedChoice


class CollageSettings(StrictModel):
    """Stragglers are answered by one pass over a collage of their group."""

    variant: str = Field(description="a variant with several cells")
    after_s: float = Field(ge=0.0, description="age from which a request is a straggler, below its SLO")
    passes: int = Field(default=1, ge=1, le=2, description="workers that make a pass, of which the first counts")


class CascadeSettings(StrictModel):
    """Variants are tried in turn until an answer is sure enough."""

    variants: tuple[str, ...] = Field(min_length=1, max_length=CASCADE_STEPS)
    thresholds: tuple[float, ...] = Field(
        default=(), description="an answer of a step is final from this confidence on; one less than there are variants"
    )
    concurrent: bool = Field(default=False, description="both of two steps start at once")

    @model_validator(mode="after")
    def _one_threshold_between_two_steps(self) -> CascadeSettings:
        if len(self.thresholds) != len(self.variants) - 1:
            raise ValueError(mismatch("thresholds", f"{len(self.variants) - 1} of them", len(self.thresholds)))
        if self.concurrent and len(self.variants) != 2:
            raise ValueError(mismatch("concurrent", "two variants", len(self.variants)))
        return self


_AGES = ("hedge_after_s", "hedge_after_percentile", "resend_after_s")


class RedundancySettings(StrictModel):
    """How requests of a class are answered by more than one replica: in one way at most."""

    hedge_after_s: float | None = Field(
        default=None, ge=0.0, description="age at which a duplicate is sent; 0: all requests are replicated"
    )
    hedge_after_percentile: float | None = Field(
        default=None, gt=0.0, lt=100.0, description="the same, of the latency of the machines planned for the class"
    )
    resend_after_s: float | None = Field(
        default=None, gt=0.0, description="age at which a request is withdrawn and sent anew; beside a collage too"
    )
    cascade: CascadeSettings | None = None
    collage: CollageSettings | None = None

    @model_validator(mode="after")
    def _one_way(self) -> RedundancySettings:
        ways = [name for name in ("hedge_after_s", "cascade", "collage") if getattr(self, name) is not None]
        if "collage" in ways and len(ways) > 1:
            raise ValueError(mismatch("collage", "neither hedge_after_s nor cascade beside it", ", ".join(ways)))
        sent = [name for name in _AGES if getattr(self, name) is not None]
        if len(sent) > 1:
            raise ValueError(mismatch(sent[-1], f"no {sent[0]} beside it", getattr(self, sent[-1])))
        if "collage" in ways and self.hedge_after_percentile is not None:
            raise ValueError(mismatch("collage", "no hedge_after_percentile beside it", "collage"))
        return self


class StaticSettings(FixedChoice):
    """`static`: a fleet that never changes."""

    headroom: float = Field(default=1.5, ge=0.1, le=20.0, description="capacity over the scenario's mean rate")
    replicas: dict[str, int] | None = Field(default=None, description="`variant@pool` to count, instead of headroom")
    redundancy: dict[str, RedundancySettings] = Field(
        default_factory=dict, description="by class: hedge_after_s (or _percentile), resend_after_s, cascade or collage"
    )


class StaticPolicy:
    """A fleet that never changes.

    Args:
        setting: What is decided for.
        settings: Its size.
        name: Name in tables.
    """

    Settings: ClassVar[type[StaticSettings]] = StaticSettings

    def __init__(self, setting: Setting, settings: StaticSettings | None = None, name: str = "static") -> None:
        self.name = name
        self.setting = setting
        self.settings = StaticSettings() if settings is None else settings
        self._fleet = self._size()
        self._redundancy = {
            indices_of(f"redundancy.{name}", name, setting.class_names)[0]: self._check(name, chosen)
            for name, chosen in self.settings.redundancy.items()
        }
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Prepares for `num_envs` envs."""
        self._num_envs = num_envs

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The same plan every time."""
        plan = empty_plan(len(observation.tick), self.setting.shape)
        plan.replicas[:] = self._fleet
        plan.overflow_after_s[:] = self.setting.workload.slo_s
        plan.shed_limit[:] = self.setting.workload.queue_limit
        for c, chosen in self._redundancy.items():
            self._make_redundant(plan, c, chosen)
        return plan

    def _check(self, name: str, chosen: RedundancySettings) -> RedundancySettings:
        """The redundancy of class `name`, if its variants may answer it so."""
        setting, where = self.setting, f"redundancy.{name}"
        c = setting.class_names.index(name)
        names = setting.variant_names
        if chosen.collage is not None:
            v = indices_of(f"{where}.collage.variant", chosen.collage.variant, names)[0]
            if not setting.workload.collage[c, v].any():
                raise ConfigError(
                    mismatch(f"{where}.collage.variant", "a variant with cells > 1 that fits the SLO", names[v])
                )
            if chosen.collage.after_s >= setting.workload.slo_s[c]:
                expected = f"seconds below the SLO ({setting.workload.slo_s[c]:g})"
                raise ConfigError(mismatch(f"{where}.collage.after_s", expected, chosen.collage.after_s))
        for variant in chosen.cascade.variants if chosen.cascade is not None else ():
            v = indices_of(f"{where}.cascade.variants", variant, names)[0]
            if not setting.workload.allowed[c, v].any():
                raise ConfigError(mismatch(f"{where}.cascade.variants", "variants that may answer the class", variant))
        return chosen

    def _make_redundant(self, plan: PlanArrays, c: int, chosen: RedundancySettings) -> None:
        names = self.setting.variant_names
        if chosen.hedge_after_s is not None:
            plan.hedge_after_s[:, c] = chosen.hedge_after_s
        if chosen.hedge_after_percentile is not None:
            plan.hedge_after_s[:, c] = self._percentile_s(c, chosen.hedge_after_percentile)
        if chosen.resend_after_s is not None:
            plan.hedge_after_s[:, c], plan.hedge_replaces[:, c] = chosen.resend_after_s, True
        if chosen.cascade is not None:
            variants = [names.index(variant) for variant in chosen.cascade.variants]
            plan.cascade_variant[:, c, : len(variants)] = variants
            plan.cascade_threshold[:, c, : len(chosen.cascade.thresholds)] = chosen.cascade.thresholds
            plan.cascade_concurrent[:, c] = chosen.cascade.concurrent
        if chosen.collage is not None:
            plan.collage_variant[:, c] = names.index(chosen.collage.variant)
            plan.collage_after_s[:, c] = chosen.collage.after_s
            plan.collage_passes[:, c] = chosen.collage.passes

    def _percentile_s(self, c: int, percentile: float) -> float:
        weights = machine_weights(self.setting, c, self._fleet.astype(np.float64))
        latency_s = class_latency_s(self.setting, c, weights)
        return float(np.percentile(latency_s, percentile)) if len(latency_s) else float("inf")

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((self._num_envs, 0))

    def _size(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        setting = self.setting
        cat = setting.catalog
        num_variants, num_pools, num_classes = setting.shape
        if self.settings.replicas is not None:
            fleet = np.zeros((num_variants, num_pools), np.int64)
            for option, count in self.settings.replicas.items():
                variant, _, pool = option.partition("@")
                v = indices_of(f"replicas.{option}", variant, setting.variant_names)[0]
                p = indices_of(f"replicas.{option}", pool, setting.pool_names)[0]
                if count < 0 or not cat.usable[v, p]:
                    raise ConfigError(mismatch(f"replicas.{option}", "a count >= 0 of an option with a profile", count))
                fleet[v, p] = count
            return fleet
        check_single_operators(setting, f"{self.name} without replicas")
        fleet = np.zeros((num_variants, num_pools), np.int64)
        for c in range(num_classes):
            v, pools, spot_pools = cheapest_choice(setting, self.settings, c)
            rps = setting.scenario.mean_rps * setting.workload.share[c] * self.settings.headroom
            left = self.settings.spot_share * rps
            for p, is_spot in [(p, True) for p in spot_pools] + [(p, False) for p in pools]:
                if not is_spot and p == pools[0]:
                    left += (1 - self.settings.spot_share) * rps
                capacity = float(cat.concurrency[v, p] / cat.service_s[v, p, 1])
                room = int(setting.limits.pool_max[p] - fleet[:, p].sum())
                count = max(0, min(int(np.ceil(left / capacity - 1e-9)), room))
                fleet[v, p] += count
                left = max(0.0, left - count * capacity)
        return fleet
