"""What a plan asks of the simulator that a scenario or catalog may not allow."""

from __future__ import annotations

import numpy as np

from controller.arrays import PlanArrays
from controller.compile import Setting
from controller.errors import ScenarioError


def check_plan(setting: Setting, plan: PlanArrays) -> None:
    """Refuses what cannot be simulated.

    Raises:
        ScenarioError: The plan hedges, or has a cascade or collages, and the scenario asks for the fast kernel, or the
            catalog has no measured answers of a cascade's variants.
    """
    used = plan.cascade_variant[plan.cascade_variant >= 0]
    if setting.scenario.simulator.kernel == "fast":
        if used.size:
            raise ScenarioError("simulator.kernel: expected 'auto' or 'event' for a plan with a cascade, got 'fast'")
        if (plan.collage_variant >= 0).any():
            raise ScenarioError("simulator.kernel: expected 'auto' or 'event' for a plan with collages, got 'fast'")
        if np.isfinite(plan.hedge_after_s).any():
            raise ScenarioError(
                f"simulator.kernel: expected 'auto' or 'event' for a plan that hedges "
                f"(hedge_after_s {plan.hedge_after_s.min():g} s), got 'fast'"
            )
    confidence = setting.answers.confidence
    for v in np.unique(used):
        if len(confidence) == 0 or np.isnan(confidence[0, v]):
            raise ScenarioError(
                f"catalog.answers: expected measured answers of variant '{setting.variant_names[v]}', "
                f"which a cascade uses, got none"
            )
