"""What is worked out once for a scenario: who is likely to share a machine, and what accuracy costs."""

import numpy as np
import pytest

from controller.arrays import SERVERLESS
from controller.batching import accuracy_usd, near_floor, overflow_options, spare_rps, step_overflow_options
from tests.theory.formulas import mmc_wait_tail
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, tiny_setting


def test_a_floor_at_a_variants_accuracy_is_met_by_it_alone() -> None:
    setting = tiny_setting()  # floors 0.70 and 0.76, those of small and medium
    near = near_floor(setting.catalog, setting.workload)
    assert near[STRICT].nonzero()[0].tolist() == [SMALL]
    assert near[RELAXED].nonzero()[0].tolist() == [MEDIUM]


def test_a_floor_between_two_variants_is_met_by_both() -> None:
    setting = tiny_setting()
    workload = setting.workload._replace(accuracy_floor=setting.workload.accuracy_floor + 0.02)
    near = near_floor(setting.catalog, workload)
    assert near.tolist() == [[True, True, False], [False, True, True]]


def test_a_variant_that_a_class_may_not_use_is_not_near_its_floor() -> None:
    setting = tiny_setting()
    allowed = setting.workload.allowed.copy()
    allowed[RELAXED, MEDIUM] = False
    near = near_floor(setting.catalog, setting.workload._replace(allowed=allowed))
    assert near[RELAXED].tolist() == [True, False, True]


def test_accuracy_costs_what_the_mix_at_the_floor_costs_more_per_unit_at_usual_prices() -> None:
    setting = tiny_setting()
    usd = np.full(setting.catalog.usable.shape, np.inf)
    usd[:, OD], usd[:, SPOT_A] = [4.0, 8.0, 36.0], [1.0, 2.0, 9.0]  # usually 2, 4 and 18
    # From small (0.70) to medium (0.76) it is 2 $ for 0.06, from medium to large (0.82) 14 $.
    assert accuracy_usd(setting.catalog, setting.workload, usd).tolist() == pytest.approx([2 / 0.06, 14 / 0.06])


def test_accuracy_costs_nothing_where_a_class_has_no_machines() -> None:
    setting = tiny_setting()
    usd = np.full(setting.catalog.usable.shape, np.inf)
    assert accuracy_usd(setting.catalog, setting.workload, usd).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("floor", "machine_price", "expected"),
    [
        # A call of medium costs 5.2e-6 $, of large 10.2e-6 $. Machines give 0.01 of accuracy for 0.91e-6 $ at price 1.
        (0.78, 0.01, MEDIUM),  # what medium lacks is made up for at next to nothing
        (0.78, 1.0, LARGE),  # 5.2 + 2 x 0.91 against 10.2 - 4 x 0.91
        (0.80, 0.01, LARGE),  # medium lacks more than half of what large is above
        (0.82, 0.01, LARGE),
        (0.76, 1.0, LARGE),  # 10.2 - 6 x 0.91 against 5.2: what large is above the floor is worth its price
        (0.76, 0.1, MEDIUM),
    ],
)
def test_overflow_goes_where_a_call_and_the_accuracy_it_lacks_cost_least(
    floor: float, machine_price: float, expected: int
) -> None:
    setting = tiny_setting()
    cat = setting.catalog._replace(price_usd_per_s=setting.catalog.price_usd_per_s * machine_price)
    floors = setting.workload.accuracy_floor.copy()
    floors[RELAXED] = floor
    found = overflow_options(cat, setting.workload._replace(accuracy_floor=floors))
    assert found[RELAXED] == expected * len(cat.market) + FN


def test_overflow_of_a_class_without_machines_meets_its_floor_by_itself() -> None:
    setting = tiny_setting()
    allowed = setting.workload.allowed & (setting.catalog.market == SERVERLESS)
    found = overflow_options(setting.catalog, setting.workload._replace(allowed=allowed))
    assert found.tolist() == [SMALL * len(setting.catalog.market) + FN, MEDIUM * len(setting.catalog.market) + FN]


def test_without_serverless_nothing_overflows() -> None:
    setting = tiny_setting()
    allowed = setting.workload.allowed & (setting.catalog.market != SERVERLESS)
    assert overflow_options(setting.catalog, setting.workload._replace(allowed=allowed)).tolist() == [-1, -1]


def test_a_class_without_serverless_has_spare_capacity_by_its_promise_and_its_time_to_wait() -> None:
    setting = tiny_setting()
    assert spare_rps(setting.catalog, setting.workload).tolist() == [0.0, 0.0]
    allowed = setting.workload.allowed & (setting.catalog.market != SERVERLESS)
    alone = setting.workload._replace(allowed=allowed)
    # 99 % in time; small takes 0.05 s of 1.5 s, medium, the least that keeps the relaxed floor, 0.1 s of 10 s.
    assert spare_rps(setting.catalog, alone) == pytest.approx(np.log(100.0) / np.array([1.45, 9.9]))
    hurried = alone._replace(slo_s=np.array([0.051, 10.0]), attainment_target=np.array([1.0, 0.99]))
    assert spare_rps(setting.catalog, hurried)[STRICT] == pytest.approx(np.log(1e4) / 0.0051)


@pytest.mark.parametrize("more", [1, 3, 40])
@pytest.mark.parametrize("service_s", [0.05, 0.9])
@pytest.mark.parametrize("time_s", [0.1, 0.6, 5.0])
def test_that_much_spare_capacity_keeps_the_promise_in_a_queue(more: int, service_s: float, time_s: float) -> None:
    spare = np.log(100.0) / time_s
    servers = int(np.ceil(spare * service_s)) + more
    assert 0.0 < mmc_wait_tail(servers, servers / service_s - spare, service_s, time_s) <= 0.01 * (1 + 1e-9)


def test_a_later_step_overflows_to_the_cheapest_call_of_its_variant() -> None:
    setting = tiny_setting()
    num_pools = len(setting.catalog.market)
    allowed = setting.workload.allowed.copy()
    allowed[STRICT, LARGE, FN] = False
    found = step_overflow_options(setting.catalog, setting.workload._replace(allowed=allowed))
    assert found[STRICT].tolist() == [SMALL * num_pools + FN, MEDIUM * num_pools + FN, -1]
    # A second function, which costs less per call but more of egress for the strict class.
    market, usd = setting.catalog.market.copy(), setting.catalog.usd_per_gb_s.copy()
    memory_gb, step_s = setting.catalog.memory_gb.copy(), setting.catalog.billing_step_s.copy()
    market[OD], usd[OD], memory_gb[OD], step_s[OD] = SERVERLESS, usd[FN] / 2, memory_gb[FN], step_s[FN]
    cat = setting.catalog._replace(market=market, usd_per_gb_s=usd, memory_gb=memory_gb, billing_step_s=step_s)
    egress_usd = np.zeros(allowed.shape)
    egress_usd[STRICT, :, OD] = 1.0
    found = step_overflow_options(cat, setting.workload._replace(allowed=np.ones_like(allowed), egress_usd=egress_usd))
    assert (found % num_pools).tolist() == [[FN] * 3, [OD] * 3]


def test_accuracy_above_the_floor_is_worth_nothing_where_no_variant_is_below_it() -> None:
    setting = tiny_setting()  # small is at the floor of the strict class, and there is nothing below
    assert setting.workload.overflow_option[STRICT] == SMALL * len(setting.catalog.market) + FN
