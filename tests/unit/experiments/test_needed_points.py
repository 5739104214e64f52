"""Dials are turned towards the target and no further, and what is read off is what a sweep of all values gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.dials import Point, Points
from experiments.frontier import Sweep, Target, place_at
from experiments.needed_points import Stretch, needed_points, own_stretch
from experiments.separable import separated

REQUESTS = 10_000.0
OWN = (2, 2)
SHAPE = (5, 5)


def points(*, is_inverse: bool = False, own: tuple[int, int] = OWN) -> Points:
    every = tuple(Point(i, j, {}) for i in range(SHAPE[0]) for j in range(SHAPE[1]))
    return Points(SHAPE, own, every, is_inverse)


def sweep_over(stretch: Stretch, of: Points, misses: list[float], costs: list[float]) -> Sweep:
    """One day, one class: misses and cost by attainment value; a value of accuracy is a point of it and 5 % of cost."""
    i, j = np.array(stretch.attainment), np.array(stretch.accuracy)
    shape = (len(i), len(j), 1, 1)
    missed = np.broadcast_to(np.array(misses)[i][:, None, None, None], shape)
    answered = REQUESTS - missed
    accuracy = (0.90 + 0.01 * j)[None, :, None, None]
    cost = np.array(costs)[i][:, None, None] * (1.05**j)[None, :, None]
    whole = Sweep(cost, np.full(shape, REQUESTS), missed, answered, accuracy * answered)
    return separated(whole, stretch.own(of))


def target_of(missed: float, accuracy: float) -> Target:
    return Target(np.array([missed / REQUESTS]), np.array([accuracy]), np.ones((1, 1)), np.zeros((1, 1)))


def walk(of: Points, target: Target, misses: list[float], costs: list[float]) -> tuple[Stretch, set[int]]:
    """Where it ends, and all that was run."""
    run: set[int] = set()
    while True:
        found = needed_points(of, target, run.__contains__, lambda stretch: sweep_over(stretch, of, misses, costs))
        if not found.missing:
            return found.stretch, run
        assert not run & set(found.missing)
        run |= set(found.missing)


MISSES, COSTS = [400.0, 200.0, 100.0, 50.0, 25.0], [80.0, 90.0, 100.0, 110.0, 120.0]


@pytest.mark.parametrize(
    ("missed", "accuracy", "attainment", "accuracies"),
    [
        (100.0, 0.92, range(2, 3), range(2, 3)),  # its own point is there
        (70.0, 0.92, range(2, 4), range(2, 3)),
        (30.0, 0.92, range(2, 5), range(2, 3)),
        (150.0, 0.92, range(1, 3), range(2, 3)),
        (100.0, 0.925, range(2, 3), range(2, 4)),
        (150.0, 0.905, range(1, 3), range(3)),
        (1.0, 0.92, range(5), range(5)),  # out of reach
        (1000.0, 0.5, range(3), range(3)),  # it can do no worse, and what is more costs more
    ],
)
def test_dials_are_turned_until_the_target_lies_between_two_values(
    missed: float, accuracy: float, attainment: range, accuracies: range
) -> None:
    of = points()
    stretch, run = walk(of, target_of(missed, accuracy), MISSES, COSTS)
    assert (stretch.attainment, stretch.accuracy) == (attainment, accuracies)
    assert run == set(stretch.run(of))
    assert len(run) == len(attainment) + len(accuracies) - 1


def test_a_dial_whose_larger_values_attain_less_is_turned_the_other_way() -> None:
    stretch, _ = walk(points(is_inverse=True), target_of(70.0, 0.92), MISSES[::-1], COSTS[::-1])
    assert (stretch.attainment, stretch.accuracy) == (range(1, 3), range(2, 3))


@pytest.mark.parametrize(
    ("misses", "costs"),
    [
        (MISSES[::-1], COSTS),  # attains more with less capacity
        ([40.0, 40.0, 30.0, 20.0, 10.0], [130.0, 120.0, 110.0, 105.0, 100.0]),  # costs less with more of it
    ],
)
def test_a_policy_that_answers_a_dial_in_its_own_way_is_taken_at_its_cheapest(
    misses: list[float], costs: list[float]
) -> None:
    of, target = points(), target_of(35.0, 0.92)
    stretch, _ = walk(of, target, misses, costs)
    place = place_at(sweep_over(stretch, of, misses, costs), target)
    assert place.status == "better"
    assert place.weights.sum(axis=1) @ np.array(costs)[list(stretch.attainment)] == min(costs)


def test_a_policy_that_costs_more_on_either_side_is_turned_no_further() -> None:
    of = points()
    stretch, run = walk(of, target_of(500.0, 0.92), MISSES, [130.0, 120.0, 100.0, 110.0, 120.0])
    assert (stretch.attainment, stretch.accuracy) == (range(1, 4), range(2, 4))
    assert len(run) == 4


def test_at_the_end_of_both_dials_a_policy_is_taken_as_it_is() -> None:
    of = Points((1, 1), (0, 0), (Point(0, 0, {}),))
    stretch, run = walk(of, target_of(1.0, 0.99), [100.0], [100.0])
    assert stretch == own_stretch(of)
    assert run == {0}


@given(
    missed=st.floats(5.0, 800.0),
    accuracy=st.floats(0.89, 0.95),
    own=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    falls=st.lists(st.floats(0.3, 0.9), min_size=4, max_size=4),
    rises=st.lists(st.floats(1.0, 30.0), min_size=4, max_size=4),
)
def test_what_is_read_off_is_that_of_a_sweep_of_all_values(
    missed: float, accuracy: float, own: tuple[int, int], falls: list[float], rises: list[float]
) -> None:
    of, target = points(own=own), target_of(missed, accuracy)
    misses = [float(m) for m in 400.0 * np.cumprod([1.0, *falls])]
    costs = [float(c) for c in 80.0 + np.cumsum([0.0, *rises])]
    stretch, _ = walk(of, target, misses, costs)
    few, all_of_them = (
        sweep_over(stretch, of, misses, costs),
        sweep_over(Stretch(range(5), range(5)), of, misses, costs),
    )
    found, wanted = place_at(few, target), place_at(all_of_them, target)
    assert found.status == wanted.status
    if wanted.status != "not reachable":
        assert (found.weights * few.cost_usd[..., 0]).sum() == pytest.approx(
            (wanted.weights * all_of_them.cost_usd[..., 0]).sum(), rel=1e-6
        )
