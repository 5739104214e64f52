from pathlib import Path

import numpy as np
import pytest

from controller.errors import TraceError
from traces.spot import SpotAvailability, read_spot

HEADER = "key,kind,nodes,dataset,zone,accelerator,acc_count,gap_s\n"


def three_zones(ticks: int = 4) -> SpotAvailability:
    return SpotAvailability("s", ("a", "b", "c"), 21_600.0, np.arange(3 * ticks, dtype=np.int16).reshape(3, ticks))


def write_group(directory: Path, lines: str, **arrays: np.ndarray) -> Path:
    (directory / "index.csv").write_text(HEADER + lines)
    np.savez(directory / "t.npz", **arrays)
    return directory / "t.npz"


def test_zone_is_found_by_name_and_capacity_by_time() -> None:
    spot = three_zones()
    assert spot.zone("b").tolist() == [4, 5, 6, 7]
    assert spot.at(21_600.0).tolist() == [1, 5, 9]
    with pytest.raises(TraceError, match="zone: expected one of a, b, c, got 'z'"):
        spot.zone("z")
    with pytest.raises(TraceError, match="time: expected a time in"):
        spot.at(spot.duration_s)


def test_unknown_zones_take_what_nobody_named_in_file_order() -> None:
    spot = three_zones()
    assert spot.assign_zones(["x", "a", "y", "x"]) == {"x": 1, "a": 0, "y": 2}
    # Two spare rows for three strangers: the third shares the first row.
    assert spot.assign_zones(["x", "y", "z", "b"]) == {"x": 0, "y": 2, "z": 0, "b": 1}


def test_days_are_one_based_with_both_ends_included() -> None:
    spot = three_zones(ticks=9)
    assert spot.days == 2
    part = spot.slice_days(2, 2)
    assert part.capacity[0].tolist() == [4, 5, 6, 7]
    assert part.offset_s == 86_400.0
    with pytest.raises(TraceError, match=r"spot days: expected FIRST:LAST within 1:2 \(whole days\), got '2:3'"):
        spot.slice_days(2, 3)


def test_the_group_with_most_zones_is_read(tmp_path: Path) -> None:
    path = write_group(
        tmp_path,
        "k1,availability,1-node,one,z1,v100,1,10\nk2,availability,1-node,two,z1,v100,1,10\n"
        "k3,availability,1-node,two,z2,v100,1,10\n",
        k1=np.array([1, 1]),
        k2=np.array([0, 1]),
        k3=np.array([1, 0]),
    )
    assert read_spot(path).zones == ("z1", "z2")
    assert read_spot(path, dataset="one").capacity.tolist() == [[1, 1]]
    with pytest.raises(TraceError, match="expected a group of traces that fits"):
        read_spot(path, kind="preemption")


def test_different_ticks_are_held_on_the_finest_grid(tmp_path: Path) -> None:
    path = write_group(
        tmp_path,
        "slow,availability,1-node,d,a,v100,1,30\nfast,availability,1-node,d,b,v100,1,10\n",
        slow=np.array([1, 0, 2]),
        fast=np.array([5, 6, 7, 8, 9]),
    )
    spot = read_spot(path)
    assert spot.gap_s == 10.0
    # The fast trace ends at 50 s, which ends the group.
    assert spot.capacity.tolist() == [[1, 1, 1, 0, 0], [5, 6, 7, 8, 9]]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    line = "k,availability,1-node,d,a,v100,1,30\n"
    path = write_group(tmp_path, line, other=np.array([1]))
    with pytest.raises(TraceError, match="expected an array k as the index says"):
        read_spot(path)
    write_group(tmp_path, line, k=np.array([1.5]))
    with pytest.raises(TraceError, match="t.npz: k: expected whole numbers >= 0"):
        read_spot(path)
    write_group(tmp_path, "k,availability,1-node,d,a,v100,1,none\n", k=np.array([1]))
    with pytest.raises(TraceError, match="line 2, gap_s: expected seconds per tick > 0, got 'none'"):
        read_spot(path)
    (tmp_path / "index.csv").write_text("key,zone\n")
    with pytest.raises(TraceError, match="line 1: expected columns kind, nodes"):
        read_spot(path)
    (tmp_path / "index.csv").unlink()
    with pytest.raises(TraceError, match=r"need their index.csv beside the npz"):
        read_spot(path)
    with pytest.raises(TraceError, match="no such file"):
        read_spot(tmp_path / "none.npz")


def test_capacities_must_fit_their_zones() -> None:
    with pytest.raises(TraceError, match="capacity: expected zones x ticks"):
        SpotAvailability("s", ("a",), 1.0, np.zeros((2, 3), np.int16))
    with pytest.raises(TraceError, match="capacity: expected numbers >= 0, got -1"):
        SpotAvailability("s", ("a",), 1.0, np.array([[-1]], np.int16))
    with pytest.raises(TraceError, match="zones: expected different names"):
        SpotAvailability("s", ("a", "a"), 1.0, np.zeros((2, 3), np.int16))


@pytest.mark.data
def test_seven_v100_zones_of_february_2023_are_the_default(data_dir: Path) -> None:
    spot = read_spot(data_dir / "spot/skypilot_spot_traces/traces.npz")
    assert (len(spot.zones), spot.zones[0], spot.gap_s, spot.days) == (7, "us-east-1a", 195.0, 45)
    # Its notes: up 17-89 % of the time.
    assert spot.up_share.min() == pytest.approx(0.167, abs=0.001)
    assert spot.up_share.max() == pytest.approx(0.891, abs=0.001)
