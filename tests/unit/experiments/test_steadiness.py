"""How often a policy changes capacity at constant load, on runs short enough to count by hand."""

from typing import Any

import pytest

from controller.errors import UsageError
from controller.policies.static import StaticPolicy
from experiments.steadiness import changes_per_hour, steadiness_check


class Seesaw(StaticPolicy):
    """One machine more every other minute."""

    def decide(self, observation: Any) -> Any:
        plan = super().decide(observation)
        plan.replicas[:, 0, 0] = 2 + (observation.tick // 6) % 2
        return plan


def test_a_fleet_that_never_changes_has_no_changes() -> None:
    assert changes_per_hour("static", scenario="tiny", hours=0.5, warm_up_hours=0.25, seeds=(0, 1)) == [0.0, 0.0]


def test_every_change_after_the_warm_up_counts() -> None:
    policy = f"{__name__}:Seesaw"
    found = changes_per_hour(policy, scenario="tiny", hours=1.0, warm_up_hours=0.5, seeds=(0,))
    assert found == pytest.approx([60.0], abs=2.1)


def test_a_run_that_ends_in_its_warm_up_is_refused() -> None:
    with pytest.raises(UsageError, match="two ticks after a warm-up"):
        changes_per_hour("static", scenario="tiny", hours=0.25, warm_up_hours=1.0, seeds=(0,))


def test_the_check_holds_up_to_two_changes_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, holds in (([1.0, 3.0], True), ([2.0, 2.5], False)):
        monkeypatch.setattr("experiments.steadiness.changes_per_hour", lambda _policy, found=found: found)
        check = steadiness_check("mpc", "mpc")
        assert check.holds is holds
        assert f"up to {max(found):.2f}" in check.measured
