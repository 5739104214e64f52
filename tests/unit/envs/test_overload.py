"""At three times capacity, value first: the valuable class is served, the machines are full, the rest is refused."""

from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import F64, ObservationArrays, PlanArrays, empty_plan
from controller.compile import Setting
from controller.loop import DecisionLoop
from tests.simulated import TICK_S, World, setting_with, supply_of
from tests.tiny import FN, MEDIUM, OD, RELAXED, SMALL, STRICT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

FLEET = {(SMALL, OD): 2, (MEDIUM, OD): 2}
CAPACITY_RPS = 2 * 20.0 + 2 * 10.0
WARM_TICKS, TICKS = 6, 30


class Fixed:
    """Never changes its fleet, and limits queues as the classes do."""

    name = "fixed"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def reset(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        plan = empty_plan(self.num_envs, self.setting.shape)
        for at, count in FLEET.items():
            plan.replicas[(0, *at)] = count
        plan.shed_limit[:] = self.setting.workload.queue_limit
        return plan

    def raw_output(self) -> F64:
        return np.zeros((self.num_envs, 0))


def overloaded(strict_share: float, *, by_value: bool = True, routers: int = 1) -> Setting:
    setting = setting_with(
        routers=routers,
        workload={
            "share": np.array([strict_share, 1.0 - strict_share]),
            "value_usd": np.array([0.002, 0.001]),
            "queue_limit": np.array([200, 240]),
            "overflow_option": np.full(2, -1),
        },
    )
    allowed = setting.workload.allowed.copy()
    allowed[:, :, FN] = False
    limits = setting.limits._replace(sheds_by_value=by_value)
    return replace(setting, limits=limits, workload=setting.workload._replace(allowed=allowed))


def run(setting: Setting, times: float) -> dict[str, F64]:
    """Sums over the ticks after the first minute."""
    world = World(setting, supply_of(times * CAPACITY_RPS)).start(FLEET)
    loop = DecisionLoop(setting, Fixed(setting))
    seen = world.simulator.observation
    sums: dict[str, F64] = {}
    for tick in range(WARM_TICKS + TICKS):
        decision = loop.decide(seen)
        world.plan, world.shares = decision.plan, decision.shares
        seen = world.tick()
        if tick >= WARM_TICKS:
            for name in ("arrivals", "answered", "missed", "shed", "busy_s"):
                sums[name] = sums.get(name, 0) + getattr(seen, name)[0].astype(np.float64)
    return sums


@pytest.mark.parametrize(("strict_share", "routers"), [(1 / 6, 1), (0.28, 1), (1 / 6, 2)])
def test_valuable_class_passes_and_no_machine_idles_at_three_times_capacity(strict_share: float, routers: int) -> None:
    # A sixth of three times capacity is half of it; 0.28 is 84 %.
    sums = run(overloaded(strict_share, routers=routers), 3.0)
    attainment = 1.0 - sums["missed"] / sums["arrivals"]
    assert attainment[STRICT] >= 0.99
    assert sums["shed"][STRICT] == 0
    assert sums["answered"].sum() / (TICKS * TICK_S) >= 0.95 * CAPACITY_RPS
    busy = sums["busy_s"][[SMALL, MEDIUM], OD] / (2 * TICKS * TICK_S)
    assert (busy >= 0.95).all()
    # What is left goes to the relaxed class, in time.
    left_rps = CAPACITY_RPS - sums["arrivals"][STRICT] / (TICKS * TICK_S)
    in_time_rps = (sums["arrivals"] - sums["missed"])[RELAXED] / (TICKS * TICK_S)
    assert in_time_rps >= 0.9 * left_rps


def test_class_that_alone_is_too_much_is_answered_in_time_as_far_as_capacity_goes() -> None:
    # Two thirds of three times capacity is twice capacity.
    sums = run(overloaded(2 / 3), 3.0)
    in_time_rps = (sums["arrivals"] - sums["missed"])[STRICT] / (TICKS * TICK_S)
    assert in_time_rps >= 0.9 * CAPACITY_RPS
    assert sums["answered"].sum() / (TICKS * TICK_S) >= 0.95 * CAPACITY_RPS


def test_without_it_the_relaxed_queue_stands_before_every_strict_request() -> None:
    # 240 relaxed requests before an option that answers 40/s are six seconds; the strict class has 1.5.
    sums = run(overloaded(1 / 6, by_value=False), 3.0)
    assert (1.0 - sums["missed"] / sums["arrivals"])[STRICT] < 0.5


def test_load_below_capacity_is_served_the_same_with_and_without() -> None:
    on, off = (run(overloaded(0.5, by_value=by_value), 0.8) for by_value in (True, False))
    for name, values in on.items():
        np.testing.assert_array_equal(values, off[name], err_msg=name)
    assert on["shed"].sum() == 0
