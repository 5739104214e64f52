"""What is wrong with the world, whoever decides: promises and money burning, metrics that are stale or impossible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from controller.arrays import ObservationArrays
from controller.compile import Setting
from controller.trust.burn import BudgetBurn, SloBurn
from controller.trust.config import TrustConfig
from controller.trust.metrics import Repair
from controller.trust.probation import Alarm


class WorldWatch:
    """Looks at every observation before anything decides on it.

    Args:
        config: Of the alarms.
        setting: Of the run.
    """

    def __init__(self, config: TrustConfig, setting: Setting) -> None:
        self._stale_ticks = config.stale_ticks
        self._slo = SloBurn(config.slo_burn, setting)
        self._budget = BudgetBurn(config.budget_burn, setting)
        self._repair = Repair()

    def update(self, observation: ObservationArrays, stale_ticks: int) -> dict[Alarm, str]:
        """Mends impossible numbers in place, and returns the alarms that are on, with what they say.

        Args:
            observation: N = 1.
            stale_ticks: Readings in a row that failed before it.
        """
        mended = self._repair.mend(observation)
        is_fresh = stale_ticks == 0
        stale = f"the router could not be read {stale_ticks} times in a row"
        found = {
            Alarm.SLO_BURN: self._slo.update(observation, is_fresh),
            Alarm.BUDGET_BURN: self._budget.update(observation, is_fresh),
            Alarm.STALE_METRICS: stale if stale_ticks >= self._stale_ticks else None,
            Alarm.INVALID_METRICS: f"impossible numbers in {', '.join(mended)}" if mended else None,
        }
        return {alarm: text for alarm, text in found.items() if text is not None}

    def remember(self, observation: ObservationArrays, is_fresh: bool) -> None:
        """Counts a window towards the burn rates, and raises nothing; arguments as for `SloBurn.update`."""
        self._slo.update(observation, is_fresh)
        self._budget.update(observation, is_fresh)

    def state(self) -> dict[str, JsonValue]:
        """The windows, as JSON."""
        slo: Any = self._slo.windows.state()
        budget: Any = self._budget.windows.state()
        return {"slo": slo, "budget": budget}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` returned."""
        self._slo.windows.restore(state["slo"])
        self._budget.windows.restore(state["budget"])
