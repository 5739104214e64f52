from pathlib import Path

import numpy as np
import pytest

from controller.errors import TraceError
from traces.spot import SpotAvailability, read_spot
from traces.spot_generator import STORM, V100_ZONES, SpotSpec, ZoneSpec, generate_spot

DAYS = 45.5


def up_spells_h(spot: SpotAvailability, zone: int) -> np.ndarray:
    edges = np.diff(np.concatenate([[0], (spot.capacity[zone] > 0).astype(int), [0]]))
    return (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)) * spot.gap_s / 3_600


def test_equal_seeds_give_equal_availability() -> None:
    first, again, other = generate_spot(5, 1), generate_spot(5, 1), generate_spot(5, 2)
    assert np.array_equal(first.capacity, again.capacity)
    assert not np.array_equal(first.capacity, other.capacity)


def test_adding_a_zone_leaves_the_others() -> None:
    fewer = generate_spot(5, 1, SpotSpec(zones=V100_ZONES[:6]))
    assert np.array_equal(generate_spot(5, 1).capacity[:6], fewer.capacity)


def test_up_shares_are_those_asked_for() -> None:
    shares = np.mean([generate_spot(DAYS, seed).up_share for seed in range(8)], axis=0)
    # Shares of eight seeds; the slow component leaves a standard error of about 0.03.
    assert np.abs(shares - [zone.up_share for zone in V100_ZONES]).max() < 0.1


def test_zones_of_a_region_fail_together_and_others_do_not() -> None:
    correlation = np.mean([np.corrcoef(generate_spot(DAYS, seed).capacity) for seed in range(8)], axis=0)
    inside = [correlation[a, b] for a in range(4) for b in range(a)] + [correlation[5, 6]]
    across = [correlation[a, b] for a in range(4) for b in (4, 5, 6)]
    # Measured at the source: 0.25-0.53 inside a region, 0.03-0.27 across.
    assert 0.25 < np.mean(inside) < 0.53
    assert abs(np.mean(across)) < 0.15


def test_a_storm_closes_all_zones_together_and_often() -> None:
    usual, storm = generate_spot(DAYS, 0), generate_spot(DAYS, 0, STORM)
    losses = [float((np.diff(spot.capacity, axis=1) < 0).sum(axis=1).mean()) for spot in (usual, storm)]
    assert losses[1] > 3 * losses[0]
    is_open = storm.capacity.sum(axis=0) > 0
    # Every hour or so: between 12 and 36 times a day nothing is open where something was.
    assert 12 < (is_open[:-1] & ~is_open[1:]).sum() / DAYS < 36
    assert np.corrcoef(storm.capacity)[0, 1:].min() > 0.7


def test_up_spells_are_short_at_the_median_and_heavy_in_the_tail() -> None:
    for zone in range(len(V100_ZONES)):
        spells = np.concatenate([up_spells_h(generate_spot(DAYS, seed), zone) for seed in range(4)])
        assert np.median(spells) < spells.mean() / 1.5
        # An exponential law has 1; measured at the source 1.5-2.6.
        assert spells.std() / spells.mean() > 1.2


def test_several_nodes_are_mostly_none_or_all() -> None:
    capacity = generate_spot(DAYS, 3, SpotSpec(nodes=16)).capacity
    assert capacity.max() == 16
    partly = ((capacity > 0) & (capacity < 16)).mean()
    assert 0.01 < partly < 0.2


def test_zones_can_be_renamed() -> None:
    spec = SpotSpec().for_zones(("x", "y"))
    assert generate_spot(1, 0, spec).zones == ("x", "y")
    assert spec.zones[1].up_share == V100_ZONES[1].up_share


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"zones": (ZoneSpec("a", "r", 1.5),)}, "up_share"),
        ({"zones": ()}, "spot.zones"),
        ({"weights": (1.0,)}, "spot.weights"),
        ({"regional_share": 2.0}, "regional_share"),
        ({"gap_s": 0.0}, "gap_s"),
        ({"nodes": 0}, "spot.nodes"),
    ],
)
def test_wrong_parameters_are_named(change: dict, named: str) -> None:
    with pytest.raises(TraceError, match=named):
        SpotSpec(**change)
    with pytest.raises(TraceError, match="days: expected a number > 0"):
        generate_spot(0, 1)


@pytest.mark.data
def test_generated_spells_are_close_to_the_measured_ones(data_dir: Path) -> None:
    real = read_spot(data_dir / "spot/skypilot_spot_traces/traces.npz")
    made = [generate_spot(DAYS, seed) for seed in range(8)]
    for zone in range(len(real.zones)):
        measured = up_spells_h(real, zone)
        spells = np.concatenate([up_spells_h(spot, zone) for spot in made])
        # Means within 60 %: a few spells of days carry the mean of either.
        assert spells.mean() == pytest.approx(measured.mean(), rel=0.6)
        assert len(spells) / len(made) == pytest.approx(len(measured), rel=0.9)
