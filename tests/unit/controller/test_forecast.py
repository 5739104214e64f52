"""Features and quantiles of the forecaster."""

import itertools

import numpy as np
import pytest

from controller.errors import UsageError
from controller.forecast import (
    FEATURES,
    INPUTS,
    LEVELS,
    WINDOW_EDGES,
    forecast_features,
    forecast_inputs,
    forecast_targets,
    growth_of,
    new_forecast,
    persistence_forecast,
)
from controller.kernels import forecast as kernels
from controller.kernels.forecast import (
    NUM_FEATURES,
    NUM_INPUTS,
    forecast_one,
    told_rate,
)
from controller.kernels.quantiles import growth_quantiles, quantile_at
from tests.tiny import steady_observation, tiny_setting


def feature(values: np.ndarray, name: str) -> float:
    return float(values[FEATURES.index(name)])


def test_every_feature_is_named() -> None:
    assert len(FEATURES) == NUM_FEATURES
    assert len(set(FEATURES)) == NUM_FEATURES


def test_every_input_is_named_and_windows_end_where_the_kernel_ends_them() -> None:
    assert len(set(INPUTS)) == len(INPUTS) == NUM_INPUTS
    assert INPUTS[:NUM_FEATURES] == FEATURES
    assert WINDOW_EDGES == kernels.WINDOW_EDGES


def test_constant_arrivals_have_no_growth_trend_or_spread() -> None:
    values = forecast_features(np.full((1, 360), 100.0))[0]
    assert np.abs(values[:17]).max() < 1e-9
    assert feature(values, "1 / sqrt(requests behind the rate now + 1)") == pytest.approx(1 / np.sqrt(601))
    assert values[19:21].tolist() == [1.0, 1.0]  # no shift known


def test_features_are_the_same_at_any_scale_of_a_large_service() -> None:
    shape = 1 + 0.3 * np.sin(np.arange(360) / 20)
    small, large = forecast_features(np.stack([1e5 * shape, 1e7 * shape]))
    np.testing.assert_allclose(small, large, atol=4e-3)


def test_a_step_up_shows_in_ratios_and_in_its_age() -> None:
    arrivals = np.concatenate((np.full(340, 100.0), np.full(20, 400.0)))
    values = forecast_features(arrivals[None])[0]
    # over 60 ticks: (40 x 100 + 20 x 400) / 60 = 200, half of now
    assert feature(values, "log mean of the last 60 ticks / rate now") == pytest.approx(np.log(200.5 / 400.5))
    # the last six-tick mean below 400 / 1.5 ends 21 to 24 ticks ago: 4 x 400 + ... needs at least 3 old ticks of 6
    age = np.expm1(feature(values, "log age of the last rise by half, 0..1") * np.log(361))
    assert 20 <= age <= 26


@pytest.mark.parametrize("known", [0, 1, 2, 5])
def test_short_histories_have_finite_features(known: int) -> None:
    values = forecast_features(np.full((2, known), 50.0))
    assert values.shape == (2, NUM_FEATURES)
    assert np.isfinite(values).all()


def test_histories_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        forecast_features(np.zeros(5))


def test_features_do_not_depend_on_where_the_ring_starts() -> None:
    setting = tiny_setting()
    rng = np.random.default_rng(1)
    growth, inputs = np.empty((2, len(LEVELS))), np.empty((2, NUM_INPUTS))
    forecast = some_network(rng)
    arrivals = rng.poisson(300.0, 500).astype(float)
    for row, tick in enumerate((360, 500)):
        obs = steady_observation(setting, 0.0, ticks=tick)
        obs.history[:] = 0
        recent = arrivals[140:]
        for k in range(360):
            obs.history[0, 0, (tick - 1 - k) % 360] = recent[-1 - k]
        rps = forecast_one(setting.control, forecast, obs, 0, 50.0, inputs[row], growth[row])
        assert rps == pytest.approx(recent[-6:].mean() / 10)
    np.testing.assert_array_equal(growth[0], growth[1])
    np.testing.assert_array_equal(inputs[0], inputs[1])
    horizon_ticks = setting.control.horizon_s / setting.control.tick_s
    np.testing.assert_array_equal(inputs[0], forecast_inputs(recent[None], horizon_ticks)[0])
    np.testing.assert_allclose(growth_of(forecast, inputs[:1])[0], growth[0], rtol=1e-10)


def some_network(rng: np.random.Generator):
    blank = new_forecast(LEVELS, (16, 8))
    return blank._replace(
        input_scale=rng.uniform(0.5, 2.0, NUM_INPUTS),
        **{
            name: rng.normal(size=getattr(blank, name).shape) * factor
            for name, factor in (("w1", 0.3), ("b1", 1.0), ("w2", 0.5), ("b2", 1.0), ("w3", 3.0), ("b3", 3.0))
        },
    )


def test_kernel_agrees_with_the_numpy_reference_and_never_crosses() -> None:
    rng = np.random.default_rng(0)
    forecast = some_network(rng)
    inputs = rng.normal(size=(50, NUM_INPUTS))
    reference = growth_of(forecast, inputs)
    out = np.empty(len(LEVELS))
    for row in range(50):
        growth_quantiles(forecast, inputs[row], out)
        np.testing.assert_allclose(out, reference[row], rtol=1e-9)
        assert (np.diff(out) >= 0).all()


def test_windows_hold_the_mean_of_their_ages_relative_to_the_rate_now() -> None:
    history = np.random.default_rng(3).poisson(40.0, (1, 360)).astype(float)
    found = forecast_inputs(history, 18)[0, NUM_FEATURES:-1]
    by_age = history[0, ::-1]
    now = by_age[:6].mean() + 0.5
    wanted = [np.log((by_age[a:b].mean() + 0.5) / now) for a, b in itertools.pairwise(WINDOW_EDGES)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


def test_windows_of_which_nothing_is_known_are_zero() -> None:
    history = np.full((1, 360), 40.0)
    history[0, -10:] = 80.0  # the only ticks known
    found = forecast_inputs(history, 18, np.array([10]))[0, NUM_FEATURES:-1]
    assert found.tolist() == [0.0] * len(found)  # the known ones are all as high as now
    assert forecast_inputs(history, 18)[0, NUM_FEATURES:-1].min() < -0.6


def test_the_horizon_is_told_in_ticks_so_that_speed_and_tick_do_not_matter() -> None:
    history = np.full((1, 360), 40.0)
    # log(36 / 18) at twice the reference of 18 ticks
    assert forecast_inputs(history, 36)[0, -1] == pytest.approx(np.log(2.0))
    assert forecast_inputs(history, 18)[0, -1] == 0.0


def test_nothing_known_counts_as_a_steady_service() -> None:
    steady = forecast_inputs(np.full((1, 360), 1e12), 18)
    nothing = forecast_inputs(np.zeros((1, 0)), 18)
    np.testing.assert_allclose(nothing, steady, atol=1e-5)


def test_what_is_told_replaces_rate_and_growth() -> None:
    growth = np.linspace(0.0, 1.0, 3)
    # 40 requests/s now and 100 within the horizon: every quantile is log(2.5).
    assert told_rate(np.array([[40.0, 100.0]]), 0, 7.0, growth) == 40.0
    np.testing.assert_allclose(growth, np.log(2.5))
    # Out of silence the growth is at most exp(5), so the rate now is raised to meet 100.
    now = told_rate(np.array([[0.0, 100.0]]), 0, 7.0, growth)
    assert now * np.exp(growth[0]) == pytest.approx(100.0)
    assert growth[0] == pytest.approx(5.0)


@pytest.mark.parametrize("told", [(np.nan, np.nan), (np.nan, 5.0), (5.0, np.nan), (-1.0, 5.0), (np.inf, np.inf)])
def test_what_is_no_rate_tells_nothing(told: tuple[float, float]) -> None:
    growth = np.linspace(0.0, 1.0, 3)
    assert told_rate(np.array([told]), 0, 7.0, growth) == 7.0
    assert growth.tolist() == [0.0, 0.5, 1.0]


def test_persistence_gives_the_stated_quantiles_whatever_came_before() -> None:
    forecast = persistence_forecast((0.5, 0.9), (0.0, 0.2))
    for arrivals in (np.full((1, 360), 10.0), np.geomspace(1, 1e4, 360)[None]):
        np.testing.assert_allclose(growth_of(forecast, forecast_inputs(arrivals, 18))[0], [0.0, 0.2], atol=1e-12)


def test_quantiles_between_levels_are_linear_in_log_odds() -> None:
    levels, growth = np.array([0.5, 0.9]), np.array([0.0, 0.2])
    assert quantile_at(levels, growth, 0.0) == 0.0
    assert quantile_at(levels, growth, np.log(9) / 2) == pytest.approx(0.1)
    assert quantile_at(levels, growth, 50.0) == 0.2
    assert quantile_at(levels, growth, -50.0) == 0.0


def test_targets_are_the_largest_rate_ahead_over_the_rate_now() -> None:
    arrivals = np.array([100.0] * 6 + [100, 100, 200, 200, 200, 100])
    # rate now 100; the largest mean of three ticks among the next six is 200
    assert forecast_targets(arrivals, horizon_ticks=6).tolist() == pytest.approx([np.log(200.5 / 100.5)])


def test_targets_refuse_a_series_shorter_than_window_and_horizon() -> None:
    with pytest.raises(UsageError, match="at least 12 ticks"):
        forecast_targets(np.ones(11), horizon_ticks=6)


@pytest.mark.parametrize("levels", [(), (0.5, 0.5), (0.0, 0.5), (0.9, 0.1)])
def test_levels_that_do_not_rise_within_0_and_1_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="levels"):
        new_forecast(levels)
