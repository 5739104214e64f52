"""Cool-downs, tick by tick."""

from typing import Any

import numpy as np

from controller.arrays import LimitArrays, ObservationArrays, PlanArrays, empty_plan
from controller.compile import Setting, limits_for
from controller.loop import DecisionLoop
from controller.plan import Reason
from tests.tiny import MEDIUM, OD, SMALL, SPOT_A, SPOT_B, steady_observation, tiny_setting


class Guarded:
    """A fleet on one pool that is seen and planned tick by tick."""

    def __init__(self, pool: int = OD, **limits: Any) -> None:
        self.setting: Setting = tiny_setting(limits=limits)
        self.pool = pool
        self.limits: LimitArrays = limits_for(self.setting, 1)
        self.tick = 0

    def see(self, ready: int, **changes: int) -> ObservationArrays:
        self.tick += 1
        obs = steady_observation(self.setting, 50.0, ticks=self.tick)
        obs.ready[0, MEDIUM, self.pool] = ready
        for name, count in changes.items():
            array = getattr(obs, name)
            array[(0, MEDIUM, self.pool) if array.ndim == 3 else (0, self.pool)] = count
        return obs

    def plan(self, obs: ObservationArrays, wanted: int, variant: int = MEDIUM) -> PlanArrays:
        from controller.kernels.guard import guard

        plan = empty_plan(1, self.setting.shape)
        plan.replicas[0, variant, self.pool] = wanted
        guard(self.setting.catalog, self.setting.workload, self.limits, obs, plan, 0, 1)
        return plan

    def wants(self, wanted: int, ready: int, **changes: int) -> int:
        """Replicas planned in the pool where so many are wanted and so many are ready."""
        return int(self.plan(self.see(ready, **changes), wanted).replicas[0, :, self.pool].sum())


def test_a_pool_that_scaled_in_does_not_scale_in_again_within_the_cool_down() -> None:
    fleet = Guarded(cool_down_s=30.0)
    assert fleet.wants(4, ready=6) == 4
    # seen at tick 2, so that ticks 2, 3 and 4 are held: 0, 10 and 20 s after
    assert [fleet.wants(2, ready=4) for _ in range(4)] == [4, 4, 4, 2]


def test_the_reason_is_the_cool_down() -> None:
    fleet = Guarded(cool_down_s=30.0)
    fleet.wants(4, ready=6)
    assert fleet.plan(fleet.see(4), 2).reasons[0] == Reason.COOL_DOWN


def test_scale_out_is_free_during_the_cool_down() -> None:
    fleet = Guarded(cool_down_s=300.0)
    fleet.wants(4, ready=6)
    assert fleet.wants(9, ready=4) == 9


def test_a_launch_cool_down_holds_launches_after_a_scale_in() -> None:
    fleet = Guarded(launch_cool_down_s=20.0)
    fleet.wants(4, ready=6)
    assert [fleet.wants(9, ready=4) for _ in range(3)] == [4, 4, 9]


def test_a_minimum_is_met_during_the_launch_cool_down() -> None:
    fleet = Guarded(launch_cool_down_s=300.0, pools={"od": {"min": 5}})
    fleet.wants(4, ready=6)
    assert fleet.wants(9, ready=4) == 5


def test_the_on_demand_floor_is_met_during_the_launch_cool_down() -> None:
    fleet = Guarded(launch_cool_down_s=300.0, on_demand_floor=5)
    fleet.wants(4, ready=6)
    assert fleet.wants(2, ready=4) == 5


def test_replicas_under_notice_are_replaced_during_the_launch_cool_down() -> None:
    fleet = Guarded(SPOT_A, launch_cool_down_s=300.0)
    fleet.wants(4, ready=6)
    assert fleet.wants(4, ready=3) == 3
    assert fleet.wants(4, ready=1, doomed=2) == 4


def test_what_the_provider_takes_or_refuses_is_no_scale_in() -> None:
    fleet = Guarded(SPOT_A, cool_down_s=300.0)
    fleet.wants(6, ready=6)
    assert fleet.wants(2, ready=4, preempted=2) == 2
    fleet = Guarded(SPOT_A, cool_down_s=300.0)
    fleet.wants(6, ready=4, starting=2)
    assert fleet.wants(2, ready=4, launch_failed=2) == 2


def test_a_notice_is_no_scale_in() -> None:
    fleet = Guarded(SPOT_A, cool_down_s=300.0)
    fleet.wants(6, ready=6)
    assert fleet.wants(2, ready=4, doomed=2) == 2


def test_another_variant_on_the_same_machines_is_no_scale_in() -> None:
    fleet = Guarded(cool_down_s=300.0)
    fleet.wants(4, ready=6)
    plan = fleet.plan(fleet.see(4), 4, variant=SMALL)
    assert plan.replicas[0, SMALL, OD] == 4
    assert plan.replicas[0, MEDIUM, OD] == 0


def test_pools_have_cool_downs_of_their_own() -> None:
    fleet = Guarded(cool_down_s=300.0, pools={"od": {"cool_down_s": 0.0}})
    np.testing.assert_array_equal(fleet.setting.strict.cool_down_s, [0.0, 300.0, 300.0, 300.0])
    fleet.wants(4, ready=6)
    assert fleet.wants(2, ready=4) == 2
    assert SPOT_B == 2


def test_a_new_run_begins_without_a_past() -> None:
    fleet = Guarded(cool_down_s=300.0)
    fleet.wants(4, ready=6)
    assert fleet.wants(2, ready=4) == 4
    fleet.tick = 0
    assert fleet.wants(2, ready=3) == 2


def test_asking_twice_at_one_tick_changes_nothing() -> None:
    fleet = Guarded(cool_down_s=30.0, launch_cool_down_s=30.0)
    fleet.wants(4, ready=6)
    obs = fleet.see(4)
    first, second = fleet.plan(obs, 2), fleet.plan(obs, 2)
    np.testing.assert_array_equal(first.replicas, second.replicas)


def test_every_loop_has_a_memory_of_its_own() -> None:
    setting = tiny_setting(limits={"cool_down_s": 300.0})

    class Planner:
        name = "planner"

        def reset(self, num_envs: int) -> None:
            """Nothing to forget."""

        def decide(self, observation: ObservationArrays) -> PlanArrays:
            plan = empty_plan(1, setting.shape)
            plan.replicas[0, MEDIUM, OD] = 2
            return plan

        def raw_output(self) -> np.ndarray:
            return np.zeros((1, 0))

    first, second = DecisionLoop(setting, Planner()), DecisionLoop(setting, Planner())
    for tick, ready in ((1, 6), (2, 4)):
        obs = steady_observation(setting, 50.0, ticks=tick)
        obs.ready[0, MEDIUM, OD] = ready
        held = first.decide(obs).plan.replicas[0, MEDIUM, OD]
    assert held == 4
    assert second.decide(obs).plan.replicas[0, MEDIUM, OD] == 2
