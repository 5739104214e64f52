"""Features and quantiles of the forecaster."""

import numpy as np
import pytest

from controller.errors import UsageError
from controller.forecast import (
    FEATURES,
    LEVELS,
    forecast_features,
    forecast_targets,
    growth_of,
    new_forecast,
    persistence_forecast,
)
from controller.kernels.forecast import NUM_FEATURES, forecast_one, growth_quantiles, quantile_at
from tests.tiny import steady_observation, tiny_setting


def feature(values: np.ndarray, name: str) -> float:
    return float(values[FEATURES.index(name)])


def test_every_feature_is_named() -> None:
    assert len(FEATURES) == NUM_FEATURES
    assert len(set(FEATURES)) == NUM_FEATURES


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
    growth = np.empty((2, len(LEVELS)))
    forecast = new_forecast(LEVELS, 4)._replace(
        w1=rng.normal(size=(NUM_FEATURES, 4)), w2=rng.normal(size=(4, len(LEVELS)))
    )
    arrivals = rng.poisson(300.0, 500).astype(float)
    for row, tick in enumerate((360, 500)):
        obs = steady_observation(setting, 0.0, ticks=tick)
        obs.history[:] = 0
        recent = arrivals[140:]
        for k in range(360):
            obs.history[0, 0, (tick - 1 - k) % 360] = recent[-1 - k]
        rps = forecast_one(setting.control, forecast, obs, 0, 50.0, growth[row])
        assert rps == pytest.approx(recent[-6:].mean() / 10)
    np.testing.assert_array_equal(growth[0], growth[1])
    np.testing.assert_allclose(growth_of(forecast, forecast_features(recent[None]))[0], growth[0], rtol=1e-10)


def test_kernel_agrees_with_the_numpy_reference_and_never_crosses() -> None:
    rng = np.random.default_rng(0)
    forecast = new_forecast(LEVELS, 16)._replace(
        w1=rng.normal(size=(NUM_FEATURES, 16)),
        b1=rng.normal(size=16),
        w2=rng.normal(size=(16, len(LEVELS))) * 3,
        b2=rng.normal(size=len(LEVELS)) * 3,
    )
    features = rng.normal(size=(50, NUM_FEATURES))
    reference = growth_of(forecast, features)
    out = np.empty(len(LEVELS))
    for row in range(50):
        growth_quantiles(forecast, features[row], out)
        np.testing.assert_allclose(out, reference[row], rtol=1e-9)
    assert (np.diff(reference, axis=1) >= 0).all()


def test_persistence_gives_the_stated_quantiles_whatever_came_before() -> None:
    forecast = persistence_forecast((0.5, 0.9), (0.0, 0.2))
    for arrivals in (np.full((1, 360), 10.0), np.geomspace(1, 1e4, 360)[None]):
        np.testing.assert_allclose(growth_of(forecast, forecast_features(arrivals))[0], [0.0, 0.2], atol=1e-12)


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
