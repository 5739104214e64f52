"""The cheapest mix and whole replicas, on numbers worked out by hand."""

import numpy as np
import pytest

from controller.kernels.provision import (
    accuracy_price,
    cheapest_mix,
    hold_machines,
    probe_pools,
    size_for_mean,
)
from controller.kernels.rounding import whole_replicas
from tests.tiny import FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B, tiny_setting

ACCURACY = np.array([0.70, 0.76, 0.82])
ALL_OPEN = np.ones((1, 4), np.bool_)
RANKED = np.array([LARGE, MEDIUM, SMALL])
RPS = np.array([[20.0] * 4, [10.0] * 4, [5.0] * 4])
RENT = np.array([4.0, 1.0, 2.0, np.inf])  # of a replica, by pool; serverless is no machine


def mix_for(cost: list[float], target: float) -> tuple[list[float], float]:
    mix = np.empty(3)
    mean = cheapest_mix(ACCURACY, np.array(cost), target, mix)
    return mix.round(12).tolist(), mean


def test_low_target_takes_the_cheapest_variant() -> None:
    assert mix_for([1.0, 2.0, 4.0], 0.5) == ([1.0, 0.0, 0.0], 0.70)


def test_target_between_variants_mixes_its_neighbours_on_the_hull() -> None:
    mix, mean = mix_for([1.0, 2.0, 4.0], 0.73)
    assert mix == [0.5, 0.5, 0.0]
    assert mean == pytest.approx(0.73)


@pytest.mark.parametrize(
    ("target", "cost", "slope"),
    [
        (0.72, [1.0, 2.0, 4.0], 1 / 0.06),
        (0.76, [1.0, 2.0, 4.0], 2 / 0.06),  # at a variant: what more of it costs
        (0.90, [1.0, 2.0, 4.0], 2 / 0.06),  # above the best variant: the last step to it
        (0.72, [1.0, np.inf, 4.0], 3 / 0.12),
        (0.72, [3.0, 2.0, 4.0], 0.0),  # a better variant that costs less: accuracy is free up to it
        (0.72, [np.inf, np.inf, np.inf], 0.0),
    ],
)
def test_the_price_of_accuracy_is_the_slope_of_the_hull(target: float, cost: list[float], slope: float) -> None:
    assert accuracy_price(ACCURACY, np.array(cost), target, np.empty(3)) == pytest.approx(slope)


@pytest.mark.parametrize(
    ("mix", "ratio", "sized"),
    [
        ([0.6, 0.0, 0.4], 0.5, [0.8, 0.0, 0.2]),  # a peak: the mean is half of what is planned for
        ([0.6, 0.0, 0.4], 3.0, [0.0, 0.0, 1.0]),  # after it: no more than is planned for
        ([0.0, 1.0, 0.0], 0.5, [0.0, 1.0, 0.0]),  # one variant alone follows
        ([0.0, 0.0, 0.0], 0.5, [0.0, 0.0, 0.0]),
    ],
)
def test_the_accurate_part_of_a_mix_is_sized_for_the_mean(mix: list[float], ratio: float, sized: list[float]) -> None:
    changed = np.array(mix)
    size_for_mean(ACCURACY, changed, ratio)
    assert changed == pytest.approx(sized)


def test_a_variant_above_the_hull_is_left_out() -> None:
    # 0.76 by halves of small and large costs 2.5, less than medium's 3
    assert mix_for([1.0, 3.0, 4.0], 0.76)[0] == [0.5, 0.0, 0.5]


def test_a_more_accurate_variant_that_is_cheaper_is_taken_even_for_low_targets() -> None:
    assert mix_for([5.0, 2.0, 4.0], 0.5)[0] == [0.0, 1.0, 0.0]


def test_unreachable_target_takes_the_most_accurate_offered_variant() -> None:
    assert mix_for([1.0, 2.0, np.inf], 0.9) == ([0.0, 1.0, 0.0], 0.76)


def test_nothing_offered_gives_no_mix() -> None:
    assert mix_for([np.inf] * 3, 0.7) == ([0.0, 0.0, 0.0], 0.0)


def whole(
    capacity: np.ndarray,
    pool_max: int = 100,
    ready: np.ndarray | None = None,
    closed: int | None = None,
    rent: np.ndarray = RENT,
    band: float = 1.5,
) -> np.ndarray:
    setting = tiny_setting()
    replicas = np.full((1, 3, 4), -1)
    none = np.zeros((1, 3, 4), np.int64)
    is_open = ALL_OPEN.copy()
    if closed is not None:
        is_open[0, closed] = False
    whole_replicas(
        setting.workload.allowed,
        RPS,
        rent / RPS,
        setting.catalog.market,
        np.full(4, pool_max),
        is_open,
        none if ready is None else ready,
        none,
        0,
        capacity,
        band,
        RANKED,
        replicas,
    )
    return replicas[0]


def test_surplus_of_accurate_replicas_is_taken_off_less_accurate_demand() -> None:
    capacity = np.zeros((3, 4))
    capacity[LARGE, OD], capacity[SMALL, OD] = 6.0, 24.0
    # two large replicas hold 10, four more than asked: 20 are left for small, one replica instead of two
    replicas = whole(capacity)
    assert replicas[LARGE, OD] == 2
    assert replicas[SMALL, OD] == 1
    assert replicas.sum() == 3


def test_the_weakest_variant_of_a_class_is_never_rounded_down() -> None:
    setting = tiny_setting()
    allowed = setting.workload.allowed.copy()
    allowed[0, SMALL] = False  # medium is the least that class 0 accepts
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 2.0  # a fifth of a replica
    replicas, none = np.full((1, 3, 4), -1), np.zeros((1, 3, 4), np.int64)
    market, room = setting.catalog.market, np.full(4, 100)
    whole_replicas(
        allowed, RPS, RENT / RPS, market, room, ALL_OPEN.copy(), none, none, 0, capacity, 1.5, RANKED, replicas
    )
    assert replicas[0, MEDIUM].sum() == 1
    assert replicas[0].sum() == 1


def test_a_full_pool_hands_its_lack_on() -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 50.0
    replicas = whole(capacity, pool_max=3)
    # 30 on od, the lack of 20 goes to the cheapest pool of the same variant
    assert replicas[MEDIUM].tolist() == [3, 2, 0, 0]


@pytest.mark.parametrize(
    ("rent", "pool"),
    [([4.0, 1.0, 2.0, np.inf], SPOT_A), ([4.0, 2.0, 1.0, np.inf], SPOT_B), ([1.0, 2.0, 3.0, np.inf], OD)],
)
def test_the_one_replica_that_is_rounded_up_is_where_it_costs_least(rent: list[float], pool: int) -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, :3] = 1.5  # less than half a replica of all: none of its own
    replicas = whole(capacity, rent=np.array(rent))
    assert replicas[MEDIUM, pool] == 1
    assert replicas.sum() == 1


def test_what_is_rounded_up_is_in_no_pool_that_nothing_is_wanted_in() -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 4.0
    assert whole(capacity)[MEDIUM].tolist() == [1, 0, 0, 0]
    capacity[MEDIUM, OD] = 10.0 + 1e-9  # a rounding error is no lack
    assert whole(capacity)[MEDIUM].tolist() == [1, 0, 0, 0]


def test_a_replica_that_is_there_makes_up_a_lack_unless_another_is_much_cheaper() -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, SPOT_A] = capacity[MEDIUM, SPOT_B] = 4.0
    ready = np.zeros((1, 3, 4), np.int64)
    ready[0, SMALL, OD] = ready[0, MEDIUM, SPOT_B] = 1
    # It covers 8 of 10 requests/s at most; the option that is rounded first keeps what is there.
    assert whole(capacity, ready=ready)[MEDIUM].tolist() == [0, 0, 1, 0]


def test_a_lack_that_no_pool_has_room_for_alone_is_shared() -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 65.0
    assert whole(capacity, pool_max=3)[MEDIUM].tolist() == [3, 3, 1, 0]


def test_a_pool_that_may_be_back_is_probed_with_a_variant_that_fills_a_machine_of_it() -> None:
    rps = np.array([[20.0, 400.0, 20.0, 0.0], [10.0, 200.0, 10.0, 0.0], [5.0, 20.0, 5.0, 0.0]])
    usd = np.array([4.0, 8.0, 4.0, np.inf]) / np.maximum(rps, 1e-9)  # the fast pool is the cheapest, always busy
    setting = tiny_setting()
    is_open = np.array([[True, False, True, True]])
    replicas = np.zeros((1, 3, 4), np.int64)
    replicas[0, SMALL, OD], replicas[0, LARGE, OD] = 5, 4  # 100 requests/s and 20: a quarter of a machine, and one
    probe_pools(
        setting.workload.allowed, rps, usd, setting.catalog.market, np.full(4, 9), ALL_OPEN, 0, is_open, 0.5, replicas
    )
    assert replicas[0, :, SPOT_A].tolist() == [1, 0, 0]  # 8 for what costs 20
    replicas[0, :, SPOT_A], replicas[0, SMALL, OD] = 0, 1
    probe_pools(
        setting.workload.allowed, rps, usd, setting.catalog.market, np.full(4, 9), ALL_OPEN, 0, is_open, 0.5, replicas
    )
    assert replicas[0, :, SPOT_A].tolist() == [0, 0, 1]  # 8 for what costs 4 is no good price, 8 for what costs 16 is


def test_a_lack_is_made_up_by_a_variant_that_is_wanted() -> None:
    capacity = np.zeros((3, 4))
    capacity[LARGE, OD], capacity[MEDIUM, OD] = 5.0, 12.0
    # One medium replica is kept for 1.2 of them; the lack becomes a second one, never a small replica of 20.
    ready = np.zeros((1, 3, 4), np.int64)
    ready[0, MEDIUM, OD] = 1
    replicas = whole(capacity, ready=ready)
    assert replicas[SMALL].sum() == 0
    assert replicas[MEDIUM].sum() == 2


@pytest.mark.parametrize(
    ("existing", "band", "planned"), [(3, 1.5, 4), (4, 1.5, 4), (5, 1.5, 5), (6, 1.5, 4), (5, 0.5, 4), (6, 2.5, 6)]
)
def test_an_option_keeps_its_replicas_while_they_are_near_what_is_wanted(
    existing: int, band: float, planned: int
) -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 36.0  # 3.6 replicas; 3 would do elsewhere, but nothing else takes the lack
    ready = np.zeros((1, 3, 4), np.int64)
    ready[0, MEDIUM, OD] = existing
    assert whole(capacity, ready=ready, band=band)[MEDIUM, OD] == planned


def test_survivors_of_a_closed_pool_are_used_before_anything_is_launched_elsewhere() -> None:
    capacity = np.zeros((3, 4))
    capacity[MEDIUM, OD] = 40.0
    ready = np.zeros((1, 3, 4), np.int64)
    ready[0, MEDIUM, SPOT_A] = 3
    assert whole(capacity, ready=ready, closed=SPOT_A)[MEDIUM].tolist() == [1, 3, 0, 0]
    ready[0, MEDIUM, SPOT_A] = 9
    assert whole(capacity, ready=ready, closed=SPOT_A)[MEDIUM].tolist() == [0, 4, 0, 0]


def test_serverless_gets_no_replicas() -> None:
    assert (whole(np.full((3, 4), 30.0))[:, FN] == 0).all()


def test_held_machines_decay_towards_the_plan_and_never_exceed_what_exists() -> None:
    setting = tiny_setting()
    ready = np.zeros((1, 3, 4), np.int64)
    ready[0, MEDIUM, SPOT_A] = 10
    starting = np.zeros_like(ready)
    held = np.full((1, 4), np.inf)
    counts = []
    for _ in range(4):
        replicas = np.zeros((1, 3, 4), np.int64)
        replicas[0, MEDIUM, SPOT_A] = 2
        hold_machines(setting.catalog.market, ready, starting, 0, 0.5, held, RANKED, replicas)
        counts.append(int(replicas[0, MEDIUM, SPOT_A]))
    # above the plan of 2: 8 -> 4 -> 2 -> 1 -> 0.5, rounded half up
    assert counts == [6, 4, 3, 3]
