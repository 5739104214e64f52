"""A scenario's references become rates, days and a market; what is wrong with them is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS
from controller.compile import Setting
from controller.errors import ProvisorError, ScenarioError, TraceError, UsageError
from controller.scenario import MeasuredSpans, load_scenario
from envs.world import Cell, World, WorldChoice, build_world, expand_path, parse_days

DAY_BINS = 1440  # of 60 s


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    """Three days of 2-row counts in bins of 60 s; row b is three times row a; the last hour of day 1 is unrecorded."""
    per_day = np.repeat([60, 120, 240], DAY_BINS)
    counts = np.stack([per_day, 3 * per_day])
    valid = np.ones(counts.shape[1], bool)
    valid[DAY_BINS - 60 : DAY_BINS] = False
    counts[:, ~valid] = 0
    path = tmp_path / "counts.npz"
    np.savez(
        path,
        counts=counts,
        bin_seconds=60.0,
        functions=np.array(["a", "b"]),
        valid=np.packbits(valid),
        n_valid_bits=valid.size,
    )
    return path


@pytest.fixture
def spot_file(tmp_path: Path) -> Path:
    """Two days of three zones, 300 s per tick; zone k offers k of 2 nodes."""
    np.savez(tmp_path / "spot.npz", **{f"k{zone}": np.full(2 * 288, zone, np.int16) for zone in range(3)})
    names = ("east", "north", "west")
    lines = [f"k{k},preemption,2-node,toy,{name},v100,1,300" for k, name in enumerate(names)]
    (tmp_path / "index.csv").write_text("\n".join(["key,kind,nodes,dataset,zone,accelerator,acc_count,gap_s", *lines]))
    return tmp_path / "spot.npz"


def built(setting: Setting, **choice: object) -> World:
    return build_world(setting.scenario, WorldChoice.model_validate(choice), setting)


def own_trace(path: Path) -> dict[str, object]:
    splits = {"train": [1, 1], "validation": [2, 2], "test": [3, 3]}
    return {"trace": {"kind": "file", "path": str(path), "source": "toy"}, "splits": splits}


def test_rate_is_scaled_by_the_training_days_of_the_own_trace(make_setting: Callable, trace_file: Path) -> None:
    world = built(make_setting(**own_trace(trace_file), mean_rps=5.0))
    # Day 1 has 1 + 3 requests/s over its recorded bins, so the constant is 5 / 4; day 3 has four times its rate.
    assert world.scale == pytest.approx(1.25)
    assert world.rate_rps[0, 10] == pytest.approx(5.0)
    assert world.rate_rps[0, -10] == pytest.approx(20.0)
    assert world.days == (3,)


def test_a_gap_is_bridged_not_silent(make_setting: Callable, trace_file: Path) -> None:
    world = built(make_setting(**own_trace(trace_file)))
    assert world.rate_rps.min() > 4.9


def test_a_trace_on_the_command_line_is_scaled_by_its_recorded_bins(toy_setting: Setting, trace_file: Path) -> None:
    world = built(toy_setting, trace=str(trace_file))
    # 1380 minutes at 4/s, 1440 at 8/s, 1440 at 16/s.
    assert world.scale == pytest.approx(5.0 / ((1380 * 4 + 1440 * 8 + 1440 * 16) / 4260))
    assert world.days == (1, 2, 3)


def test_scale_multiplies_the_rate(toy_setting: Setting, trace_file: Path) -> None:
    world = built(toy_setting, trace=str(trace_file), scale=0.5)
    assert world.rate_rps[0, 10] == pytest.approx(2.0)


def test_one_row_is_picked(toy_setting: Setting, trace_file: Path) -> None:
    world = built(toy_setting, trace=f"{trace_file}:b", scale=1.0)
    assert world.rate_rps[0, 10] == pytest.approx(3.0)


def test_rows_are_summed_at_equal_mean(toy_setting: Setting, tmp_path: Path) -> None:
    counts = np.zeros((2, 120))
    counts[0, :60] = 100.0
    counts[1, 60:] = 1.0
    np.savez(tmp_path / "two.npz", counts=counts, bin_seconds=60.0)
    world = built(toy_setting, trace=str(tmp_path / "two.npz"))
    # Equal means make the busy row and the faint one equally strong: a flat load of the scenario's mean.
    assert world.rate_rps[0] == pytest.approx(np.full(720, 5.0))


def test_a_trace_shorter_than_a_day_is_one_short_cell(toy_setting: Setting, tmp_path: Path) -> None:
    np.savez(tmp_path / "hours.npz", counts=np.full(120, 60), bin_seconds=60.0)
    world = built(toy_setting, trace=str(tmp_path / "hours.npz"))
    assert world.days == (1,)
    assert world.cell_s == 7200
    assert world.cell_ticks == 720


def test_speed_shortens_trace_and_market_and_keeps_the_rate(make_setting: Callable, trace_file: Path) -> None:
    world = built(make_setting(**own_trace(trace_file), speed=10.0))
    assert world.bin_s == pytest.approx(1.0)  # 10 s at ten times the speed
    assert world.cell_s == pytest.approx(8640.0)
    assert world.cell_ticks == 8640
    assert world.rate_rps[0, 10] == pytest.approx(5.0)


def test_world_with_measured_spans_is_the_one_that_a_live_run_at_its_speed_sees() -> None:
    demo, spans = load_scenario("demo"), MeasuredSpans(start_s=1.5, swap_s=0.5)
    plain = build_world(demo).setting.catalog
    fast = build_world(demo.model_copy(update={"speed": 10.0, "measured": spans})).setting.catalog
    assert fast.price_usd_per_s == pytest.approx(10 * plain.price_usd_per_s)
    assert fast.launch_s == pytest.approx(plain.launch_s / 10)
    assert set(fast.load_s[fast.usable]) == {1.5}
    assert set(fast.swap_s[fast.usable]) == {0.5}


def test_speed_without_measured_spans_is_refused() -> None:
    """Prices and launches would be those of another speed than ticks and traces."""
    with pytest.raises(ScenarioError, match=r"measured: expected start_s and swap_s of a replica, at speed 10, got"):
        build_world(load_scenario("demo").model_copy(update={"speed": 10.0}))


def test_history_is_the_expected_hour_before(make_setting: Callable, trace_file: Path) -> None:
    world = built(make_setting(**own_trace(trace_file), mean_rps=5.0), days=(1, 3))
    first, third = world.history([Cell(1, 0), Cell(3, 0)])
    # Ten seconds at 10/s on day 2, half of it in each class; slot H - 1 holds the window just before the first tick.
    # The last half minute is on the ramp to day 3.
    assert third[:, :-3] == pytest.approx(np.full((2, HISTORY_TICKS - 3), 50.0))
    assert (third[:, -3:] > 50.0).all()
    assert first == pytest.approx(np.full((2, HISTORY_TICKS), 25.0))


def test_the_latest_window_of_the_history_lies_in_the_last_slot(toy_setting: Setting, tmp_path: Path) -> None:
    counts = np.full(2 * DAY_BINS, 60.0)
    counts[DAY_BINS - 1] = 600.0  # the minute before day 2
    np.savez(tmp_path / "step.npz", counts=counts, bin_seconds=60.0)
    world = built(toy_setting, trace=str(tmp_path / "step.npz"), scale=1.0)
    (history,) = world.history([Cell(2, 0)])
    # A tick's rate is the mean over the minute around it: of 60 s, 35 to 55 lie in the busy one.
    assert history[0, -6:] == pytest.approx([31.25, 38.75, 46.25, 46.25, 38.75, 31.25])
    assert history[0, :-9] == pytest.approx(np.full(HISTORY_TICKS - 9, 5.0))


def test_a_coarse_trace_is_ramped_and_keeps_its_requests(toy_setting: Setting, tmp_path: Path) -> None:
    np.savez(tmp_path / "step.npz", counts=np.repeat([60.0, 300.0], 20), bin_seconds=60.0)
    world = built(toy_setting, trace=str(tmp_path / "step.npz"), scale=1.0)
    assert world.bin_s == 10.0
    steps = np.diff(world.rate_rps[0])
    assert steps.max() < (5.0 - 1.0) / 5
    assert world.rate_rps[0].sum() * world.bin_s == pytest.approx(20 * 60 + 20 * 300)


def test_zones_take_their_row_by_name_and_shares_of_the_nodes(
    toy_setting: Setting, trace_file: Path, spot_file: Path
) -> None:
    world = built(toy_setting, trace=str(trace_file), spot=str(spot_file))
    # The toy pool names zone north, which offers 1 of 2 nodes.
    assert world.spot_share.shape == (1, 576)
    assert set(world.spot_share[0]) == {0.5}
    assert world.spot_gap_s == 300


def test_market_starts_are_drawn_by_day_and_seed_and_leave_room(
    toy_setting: Setting, trace_file: Path, spot_file: Path
) -> None:
    world = built(toy_setting, trace=str(trace_file), spot=str(spot_file))
    cells = world.cells(range(40))
    starts = world.spot_start_s(cells)
    assert len(cells) == 120
    assert len(set(starts)) > 60
    assert starts.min() >= 0
    assert starts.max() <= 86400
    assert np.array_equal(starts, world.spot_start_s(cells))
    one_day = built(toy_setting, trace=str(trace_file), spot=str(spot_file), spot_days=(2, 2))
    assert set(one_day.spot_start_s(cells)) == {0.0}


def test_cells_of_other_days_and_seeds_draw_other_numbers() -> None:
    seeds = {Cell(day, seed).env_seed for day in range(1, 9) for seed in range(8)}
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_data_variable_is_expanded_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISOR_DATA", "/somewhere")
    assert expand_path("$PROVISOR_DATA/a.npz", "trace") == "/somewhere/a.npz"
    assert expand_path("plain.npz", "trace") == "plain.npz"
    monkeypatch.delenv("PROVISOR_DATA")
    with pytest.raises(UsageError, match="trace: expected PROVISOR_DATA to name"):
        expand_path("$PROVISOR_DATA/a.npz", "trace")


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"trace": "none.npz"}, TraceError, "no such file"),
        ({"days": (3, 5)}, UsageError, "days: expected A:B within 1:4"),
        ({"scale": 0.0}, UsageError, "scale: expected a number > 0"),
        ({"scale": -1.0}, UsageError, "scale: expected a number > 0"),
        ({"spot": "none.npz"}, TraceError, "none.npz"),
        ({"spot_days": (1, 99)}, TraceError, "spot days"),
    ],
)
def test_wrong_choices_are_named(
    toy_setting: Setting, choice: dict[str, object], error: type[ProvisorError], message: str
) -> None:
    with pytest.raises(error, match=message):
        built(toy_setting, **choice)


def test_splits_beyond_the_file_are_named(make_setting: Callable, trace_file: Path) -> None:
    splits = {"train": [1, 1], "validation": [2, 2], "test": [3, 4]}
    with pytest.raises(ScenarioError, match=r"splits\.test: expected days within 1:3"):
        built(make_setting(**{**own_trace(trace_file), "splits": splits}))


def test_a_market_shorter_than_a_day_is_refused(toy_setting: Setting, trace_file: Path, spot_file: Path) -> None:
    np.savez(spot_file, **{f"k{zone}": np.full(12, zone, np.int16) for zone in range(3)})
    with pytest.raises(TraceError, match="at least as long as a day, got 1 h"):
        built(toy_setting, trace=str(trace_file), spot=str(spot_file))


@pytest.mark.parametrize(("text", "days"), [("3:5", (3, 5)), ("4", (4, 4))])
def test_days_are_read(text: str, days: tuple[int, int]) -> None:
    assert parse_days(text, "--days") == days


@pytest.mark.parametrize("text", ["", ":", "5:3", "0:2", "a:b", "1:2:3", "-1"])
def test_other_days_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--days: expected days A:B"):
        parse_days(text, "--days")
