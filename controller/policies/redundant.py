"""Any rule with the redundancy of least expected cost on top, class by class: `redundant`.

The rule plans the fleet. From the latency that the catalog gives the machines it planned for a class, and the collages
that the class may use, `controller.redundancy_choice` says which way to be redundant costs least, none among them.
What that takes beyond the rule's fleet is added to it: more of the machines that run copies, and machines for passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import F64, SERVERLESS, ObservationArrays, PlanArrays, empty_plan
from controller.class_latency import class_latency_s, machine_weights
from controller.compile import Setting
from controller.config import StrictModel
from controller.errors import ConfigError, mismatch
from controller.policies.registry import PolicySpec, make_policy
from controller.redundancy_choice import CollageOffer, Mode, Stakes, Way, best_way

_MOST_KNOWN = 4096
# Ways kept by what they were chosen for; a fleet's mix of options changes seldom.
_MIX_STEPS = 20
# A mix of options is told from another by shares of a twentieth.


class RedundantSettings(StrictModel):
    """`redundant`: a rule's plan with the redundancy of least expected cost."""

    rule: str = Field(default="mpc", description="the rule that plans the fleet, of the kinds, with its own settings")
    miss_value: float = Field(default=10.0, ge=0.0, description="what a miss costs, over the rent of a request")
    wrong_value: float = Field(default=10.0, ge=0.0, description="what a wrong answer costs, over the same")
    busy_share: float = Field(
        default=0.9, gt=0.0, le=1.0, description="of the time that machines of collages work at the rate planned for"
    )


@dataclass(frozen=True)
class _Offered:
    """A collage as a class may use it."""

    variant: int
    pool: int
    pass_s: float
    offer: CollageOffer


class RedundantPolicy:
    """A rule, and the redundancy of least expected cost.

    Args:
        setting: What is decided for.
        settings: The rule, and what counts.
        name: Name in tables.
    """

    Settings: ClassVar[type[RedundantSettings]] = RedundantSettings

    def __init__(self, setting: Setting, settings: RedundantSettings | None = None, name: str = "redundant") -> None:
        self.name = name
        self.setting = setting
        self.settings = RedundantSettings() if settings is None else settings
        if self.settings.rule.partition(":")[0] == "redundant":
            raise ConfigError(mismatch("rule", "another kind than redundant itself", self.settings.rule))
        self._rule = make_policy(PolicySpec(kind=self.settings.rule), setting)
        self._known: dict[tuple[int, bytes], tuple[Way, _Offered | None] | None] = {}
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state and prepares for `num_envs` envs."""
        self._rule.reset(num_envs)
        self._plan = empty_plan(num_envs, self.setting.shape)

    def raw_output(self) -> F64:
        """No knobs: the rule's are its own."""
        return np.zeros((len(self._plan.need_rps), 0))

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The rule's plan, with redundancy; the same buffers are returned each time."""
        # Copied, so that a rule that looks at its last plan does not see what was added to it.
        for into, value in zip(self._plan, self._rule.decide(observation), strict=True):
            into[...] = value
        for n in range(len(observation.tick)):
            self._make_redundant(observation, n)
        return self._plan

    def _make_redundant(self, observation: ObservationArrays, n: int) -> None:
        plan, wl = self._plan, self.setting.workload
        planned = plan.replicas[n].astype(np.float64)
        load, more, passes = (np.zeros(planned.shape) for _ in range(3))
        for c in range(len(wl.share)):
            weights = machine_weights(self.setting, c, planned)
            load += wl.share[c] * weights
            is_taken = plan.cascade_variant[n, c, 0] >= 0 or plan.collage_variant[n, c] >= 0
            if wl.num_operators[c] > 1 or is_taken or plan.hedge_after_s[n, c] < np.inf:
                continue
            found = self._way(c, weights)
            if found is None or found[0].mode is Mode.NONE:
                continue
            way, offered = found
            arrived_rps = float(observation.arrivals[n, c]) / self.setting.control.tick_s
            rate_rps = max(float(plan.need_rps[n] * wl.share[c]), arrived_rps)
            if offered is None:
                plan.hedge_after_s[n, c], plan.hedge_replaces[n, c] = way.after_s, way.mode is Mode.RESEND
                more += wl.share[c] * weights * (way.busy_ratio - 1.0)
                continue
            plan.collage_variant[n, c], plan.collage_after_s[n, c] = offered.variant, way.after_s
            plan.collage_passes[n, c] = way.passes
            # A group is sent full, or when its oldest request straggles, whichever comes first.
            sent = max(1.0 / offered.offer.cells, way.late) * rate_rps * way.passes
            passes[offered.variant, offered.pool] += sent * offered.pass_s / self.settings.busy_share
        share_more = np.divide(np.maximum(more, 0.0), load, out=np.zeros(planned.shape), where=load > 0.0)
        plan.replicas[n] += np.ceil(planned * share_more - 1e-9).astype(np.int64)
        plan.replicas[n] += np.ceil(passes / np.maximum(self.setting.catalog.concurrency, 1)).astype(np.int64)

    def _way(self, c: int, weights: F64) -> tuple[Way, _Offered | None] | None:
        """The way of least cost on a mix of options; None where no machine is planned."""
        mix = np.rint(weights * _MIX_STEPS).astype(np.int8)
        key = (c, mix.tobytes())
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._best(c, mix.astype(np.float64)) if mix.any() else None
        return self._known[key]

    def _best(self, c: int, weights: F64) -> tuple[Way, _Offered | None]:
        cat, wl = self.setting.catalog, self.setting.workload
        weights = weights / weights.sum()
        latency_s = class_latency_s(self.setting, c, weights)
        mean_s = float((weights * np.where(weights > 0.0, cat.service_s[:, :, 1], 0.0)).sum())
        right = float((weights.sum(axis=1) * cat.accuracy).sum())
        offers = [self._offered(c, v, mean_s, right) for v in np.flatnonzero(wl.collage[c].any(axis=1)).tolist()]
        stakes = Stakes(float(wl.slo_s[c]), 1.0, self.settings.miss_value * mean_s, self.settings.wrong_value * mean_s)
        way = best_way(latency_s, stakes, [one.offer for one in offers])
        return way, next((one for one in offers if one.offer is way.offer), None)

    def _offered(self, c: int, v: int, mean_s: float, right: float) -> _Offered:
        """A collage on the pool where a pass is rented for least."""
        cat = self.setting.catalog
        may_answer = self.setting.workload.collage[c, v] & (cat.market != SERVERLESS)
        seconds = cat.service_s[v, :, 1]
        usd = np.where(may_answer, cat.price_usd_per_s * seconds / np.maximum(cat.concurrency[v], 1), math.inf)
        p = int(np.argmin(usd))
        pass_s = float(seconds[p])
        loss = min(1.0, max(0.0, right - float(cat.accuracy[v])))
        return _Offered(v, p, pass_s, CollageOffer(int(cat.cells[v]), pass_s / mean_s, loss))
