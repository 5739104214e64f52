"""The forecast study: losses and coverage by hand, parts that share no outcome, rivals that know what they should."""

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS
from controller.errors import TraceError, UsageError
from controller.forecast import LEVELS
from experiments.forecast_samples import (
    HORIZONS_TICKS,
    JUDGED_TICKS,
    Draw,
    all_moments,
    largest_ahead,
    moments_of,
)
from experiments.forecast_study import NetworkInPath, score_of
from experiments.forecast_traces import SOURCES, PartSeries, Source, load_series, tick_rates_of
from experiments.quantile_fit import coverage, pinball
from traces.trace import Trace

MANY = Draw(1e6)  # so many requests that counts are the rate


def series_of(per_tick, first=0, last=None, valid=None, part="validation", name="one"):
    per_tick = np.asarray(per_tick, float)
    recorded = np.ones(len(per_tick), bool) if valid is None else valid
    return PartSeries(name, name, part, per_tick, recorded, first, len(per_tick) if last is None else last)


def test_pinball_loss_and_coverage_are_those_worked_by_hand():
    # Outcomes 1 and -1 against a forecast of 0 at every level: q x 1 and (1 - q) x 1, so the mean is 1/2 everywhere.
    found, held = np.zeros((2, len(LEVELS))), np.array([1.0, -1.0])
    assert pinball(found, held) == pytest.approx([0.5] * len(LEVELS))
    # Outcome 2 above a forecast of 0.5: 1.5 q.
    assert pinball(np.full((1, len(LEVELS)), 0.5), np.array([2.0])) == pytest.approx([1.5 * q for q in LEVELS])
    # -1 is at or below 0, 1 is not; equal counts as covered.
    assert coverage(found, held).tolist() == [0.5] * len(LEVELS)
    assert coverage(found, np.array([0.0, 1.0])).tolist() == [0.5] * len(LEVELS)


@pytest.mark.parametrize("ticks", [1, 2, 5, 18, 60])
def test_largest_ahead_is_the_maximum_of_a_window_and_of_what_is_left_at_the_end(ticks):
    values = np.random.default_rng(0).random(200)
    assert largest_ahead(values, ticks).tolist() == [values[i : i + ticks].max() for i in range(200)]


def test_growth_is_the_largest_rate_of_each_horizon_over_the_rate_now():
    # 1 until tick 500, 3 after: at moment `at` a horizon h sees the step if at + h > 500.
    found = moments_of(series_of(np.repeat([1.0, 3.0], 500)), MANY, 10**6, 0)
    by_moment = dict(zip(found.at.tolist(), found.growth, strict=True))
    for column, horizon in enumerate(HORIZONS_TICKS):
        assert by_moment[500 - horizon][column] == pytest.approx(0.0, abs=0.01)
        assert by_moment[501 - horizon][column] == pytest.approx(np.log(3.0), abs=0.01)


def test_no_moment_is_judged_by_a_rate_behind_its_part_or_rests_on_what_was_not_recorded():
    valid = np.ones(3000, bool)
    valid[1500] = False
    found = moments_of(series_of(np.ones(3000), 1000, 2500, valid), MANY, 10**6, 0)
    assert found.at.min() == 1000
    assert found.at.max() == 2500 - HORIZONS_TICKS[-1]
    # 1500 is within [at - 360, at + 60) for at in 1441..1860.
    assert not ((found.at > 1500 - HORIZONS_TICKS[-1]) & (found.at <= 1500 + HISTORY_TICKS)).any()
    assert {1440, 1861} <= set(found.at.tolist())


def test_moments_are_limited_and_a_part_without_any_is_refused():
    one = series_of(np.ones(5000))
    assert 0 < len(moments_of(one, MANY, 100, 0).at) <= 100
    with pytest.raises(TraceError, match="test: expected recorded stretches"):
        all_moments([one], "test", 100, 0)


def test_rows_are_pooled_by_their_moments_and_what_is_held_out_does_not_decide():
    class Still:
        seconds = 0.0

        def quantiles(self, moments, horizon_ticks):
            return np.zeros((len(moments.at), len(LEVELS)))

    steady, rising = series_of(np.ones(1000), name="steady"), series_of(np.geomspace(1, 100, 1000), name="rising")
    held_out = PartSeries(**{**vars(rising), "trace": "kept", "is_held_out": True})
    found = score_of("still", Still(), [moments_of(one, MANY, 100, 0) for one in (steady, held_out)], JUDGED_TICKS)
    assert [trace.trace for trace in found.traces] == ["steady", "kept"]
    assert found.loss == found.traces[0].loss < 0.01
    assert found.traces[1].loss > 0.01


def test_a_season_is_found_and_known_ahead():
    from experiments.forecast_classical import Persistence, SeasonalNaive

    # Plateaus of 4 every 60 ticks: 60 ticks ago tells the next one, the rate now does not.
    ticks = np.arange(4000)
    wave = np.where(ticks % 60 < 20, 4.0, 1.0)
    learned, judged = (moments_of(series_of(wave, part=part), MANY, 500, 0) for part in ("train", "validation"))
    seasonal, still = SeasonalNaive((48, 60, 72)), Persistence()
    for one in (seasonal, still):
        one.fit([learned])
    losses = [score_of("", one, [judged], JUDGED_TICKS).loss for one in (seasonal, still)]
    assert losses[0] < 0.2 * losses[1]  # what is left: a peak is a mean of three ticks, an edge is not


def test_holt_winters_follows_its_recursion():
    from experiments.forecast_classical import largest_forecast

    # Level 0.5, trend 0.5, damping 0.5 on 0, 2: level 0.5 x 2 + 0.5 x 0 = 1, trend 0.5 x 1 = 0.5.
    # Two ahead: 1 + 0.5 x 0.5 = 1.25, then 1 + (0.5 + 0.25) x 0.5 = 1.375.
    values = np.array([0.0, 2.0])
    assert largest_forecast(values, np.array([2]), 2, 0.5, 0.5, 0.5, 0.0, 1).tolist() == [1.375]
    # Without trend, a season of two values fully believed: after 0, 2, 0, 2 the next are 0 and 2 around the level.
    values = np.tile([0.0, 2.0], 200)
    found = largest_forecast(values, np.array([399]), 1, 0.1, 0.0, 0.5, 0.9, 2)
    assert found[0] == pytest.approx(2.0, abs=0.1)  # after a 0 comes a 2


def test_a_moment_in_path_is_forecast_alike_whenever_it_is():
    # The same hour, once early and once late in a series: no clock, so equal quantiles.
    from controller.forecaster_file import forecaster_named

    hour = np.random.default_rng(5).uniform(0.5, 2.0, 720)
    network = NetworkInPath(forecaster_named("default"))
    found = moments_of(series_of(np.tile(hour, 3)), MANY, 10**6, 0)
    counts = np.tile(np.round(hour * 1e4), 3)
    same = type(found)(found.series, found.draw, counts, np.array([700, 1420]), found.known[:2], found.growth[:2])
    first, second = network.quantiles(same, JUDGED_TICKS)
    assert np.array_equal(first, second)


def test_ticks_hold_the_requests_of_the_trace_and_say_what_was_not_recorded():
    valid = np.ones(60, bool)
    valid[30] = False
    trace = Trace("t", np.full(60, 5), 1.0, valid=valid)
    per_tick, recorded = tick_rates_of(trace, 5.0)
    assert per_tick == pytest.approx([50.0] * 6)
    assert recorded.tolist() == [True, True, True, False, True, True]


def test_every_split_is_in_order_and_names_are_distinct():
    assert all(list(source.cuts_day) == sorted(source.cuts_day) for source in SOURCES)
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert [source.name for source in SOURCES if source.is_held_out] == ["nasa"]


def test_parts_of_a_source_follow_each_other_and_are_scaled_by_training_alone(tmp_path):
    from traces.readers import write_npz

    (tmp_path / "requests").mkdir()
    days = np.repeat([10, 20, 30], 1440)  # per minute, three days
    write_npz(Trace("three", days, 60.0), tmp_path / "requests" / "three.npz")
    parts = load_series(tmp_path, sources=(Source("three", "three.npz", (0, 1, 2, 3)),), presets=())
    assert [(one.part, one.first, one.last) for one in parts] == [
        ("train", 0, 8640),
        ("validation", 8640, 17280),
        ("test", 17280, 25920),
    ]
    assert parts[0].per_tick[100] == pytest.approx(1.0)
    assert parts[2].per_tick[20000] == pytest.approx(3.0)


def test_a_folder_without_traces_is_refused(tmp_path):
    with pytest.raises(UsageError, match="PROVISOR_DATA"):
        load_series(tmp_path)
