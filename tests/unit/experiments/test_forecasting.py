"""The forecaster learns what there is to know, and means the same numbers when it decides."""

import numpy as np
import pytest

from controller.arrays import ControlArrays, empty_observation
from controller.errors import TraceError
from controller.forecast import LEVELS, growth_of
from controller.kernels.forecast import (
    NUM_FEATURES,
    NUM_INPUTS,
    PSEUDO_COUNT,
    features_of,
    forecast_one,
    inputs_of,
    total_by_age,
)
from controller.kernels.quantiles import growth_quantiles
from experiments.forecasting import RateSeries, fit_forecaster, inputs_at, samples
from experiments.train_config import ForecastConfig

pytest.importorskip("torch")

CONFIG = ForecastConfig(hidden=(16, 8), epochs=60, batch_size=256, stride_ticks=1, thinnings=(1.0,), learning_rate=1e-2)


def series(per_tick):
    return RateSeries(np.asarray(per_tick, float), np.ones(len(per_tick), bool))


def bursts(days_seed, ticks=3000):
    """Plateaus of 4 times the rate, 20 ticks long, every 60 ticks exactly: the next one can be known."""
    at = np.arange(ticks) + 7 * days_seed
    return series(np.where(at % 60 < 20, 400.0, 100.0))


def test_training_inputs_equal_those_of_the_deciding_kernel():
    # A run of 500 ticks with two classes, seen through the observation ring, against the trainer's slices by age.
    rng = np.random.default_rng(0)
    counts = rng.poisson(80.0, (2, 500)).astype(float)
    observation = empty_observation(1, (1, 1, 2))
    for tick in range(500):
        observation.history[0, :, tick % observation.history.shape[2]] = counts[:, tick]
    observation.tick[0] = 500
    ages = np.empty(observation.history.shape[2])
    known = total_by_age(observation, 0, ages)
    deciding = np.empty(NUM_INPUTS)
    inputs_of(ages, known, 18.0, deciding)
    training = inputs_at(counts.sum(axis=0), np.array([500]), np.array([360]), 18)
    assert known == 360
    assert np.array_equal(deciding, training[0])


def test_features_equal_a_plain_reference():
    # Means and peaks over the windows, relative to the last minute, by numpy from the definition.
    ages = np.random.default_rng(1).poisson(30.0, 360).astype(float)
    out = np.empty(NUM_FEATURES)
    features_of(ages, 360, out)
    now = ages[:6].mean()
    ratio = lambda value: np.log((value + PSEUDO_COUNT) / (now + PSEUDO_COUNT))  # noqa: E731 - one line of the definition
    assert out[:6] == pytest.approx([ratio(ages[:window].mean()) for window in (1, 3, 18, 60, 180, 360)])
    assert out[6:11] == pytest.approx([ratio(ages[:window].max()) for window in (6, 18, 60, 180, 360)])
    assert out[11] == pytest.approx(ratio(ages[6:12].mean()))
    slope = np.polyfit(np.arange(18), ages[:18][::-1], 1)[0]
    assert out[13] == pytest.approx(slope * 18 / (ages[:18].mean() + PSEUDO_COUNT))
    assert out[16] == pytest.approx(ages[:60].std() / (ages[:60].mean() + PSEUDO_COUNT))


def test_targets_are_the_largest_rate_of_the_horizon_over_the_present_count():
    # A step from 50 to 200 at tick 100, horizon 3: the target rises to log(200/50) for at = 98, 99, 100.
    config = CONFIG.model_copy(update={"stride_ticks": 1})
    found = samples([series(np.repeat([50.0, 200.0], 100))], 3, config)[1]
    growth = dict(zip(range(6, 198), found, strict=True))
    assert abs(growth[97]) < 0.2
    for at in (98, 99, 100):
        assert growth[at] == pytest.approx(np.log(4.0), abs=0.2)  # six drawn counts of 50 have a spread of 6 %
    assert abs(growth[120]) < 0.1


def test_windows_that_touch_a_gap_are_left_out():
    valid = np.ones(200, bool)
    valid[100] = False
    one = RateSeries(np.full(200, 50.0), valid)
    # at = 6..197, less those with 100 in [at - 6, at + 3): 98..106.
    assert len(samples([one], 3, CONFIG)[1]) == 192 - 9


def test_trace_shorter_than_the_horizon_is_refused():
    with pytest.raises(TraceError, match="stretches"):
        samples([series(np.full(8, 5.0))], 3, CONFIG)


@pytest.fixture(scope="module")
def fit():
    return fit_forecaster([bursts(0), bursts(1)], [bursts(3)], 6, CONFIG)


def test_forecast_of_known_bursts_beats_persistence_at_every_usual_level(fit):
    # The future is determined by the past hour; what is left is the noise of the counts, and the moments of which
    # little is known, in which alone the two highest levels have their say.
    for found, still in list(zip(fit.report.pinball, fit.report.pinball_persistence, strict=True))[:-2]:
        assert found < 0.6 * still
    assert sum(fit.report.pinball) < 0.4 * sum(fit.report.pinball_persistence)


def test_quantiles_cover_what_they_promise_on_unseen_days(fit):
    # About 3000 samples, neighbours alike: some 10 points of tolerance at the middle, less at the ends.
    for level, share in zip(LEVELS, fit.report.coverage, strict=True):
        assert share == pytest.approx(level, abs=0.1)
    assert list(fit.report.coverage) == sorted(fit.report.coverage)


def test_deciding_kernel_gives_the_quantiles_that_were_trained():
    import torch

    from experiments.quantile_fit import FitConfig
    from experiments.quantile_net import fit_quantile_net

    inputs, growth = samples([bursts(2, ticks=400)], 6, CONFIG)
    trained = fit_quantile_net(inputs[:, :-1], growth[:, None], inputs[:1, -1], FitConfig((8, 4), epochs=2))
    rows = torch.from_numpy(inputs * np.append(trained.scale, 1.0))
    expected = trained.net.double()(rows).detach().numpy()
    arrays = trained.arrays()
    for row, wanted in zip(inputs, expected, strict=True):
        growth_quantiles(arrays, row, out := np.empty(len(LEVELS)))
        assert out == pytest.approx(wanted, abs=1e-9)


def test_a_fit_for_one_horizon_gives_the_same_at_any_other(fit):
    inputs = samples([bursts(2, ticks=400)], 6, CONFIG)[0]
    other = inputs.copy()
    other[:, -1] += 1.0
    assert np.array_equal(growth_of(fit.arrays, inputs), growth_of(fit.arrays, other))


def test_weights_are_exact_in_float32(fit):
    for name in ("input_scale", "w1", "b1", "w2", "b2", "w3", "b3"):
        array = getattr(fit.arrays, name)
        assert array.dtype == np.float64
        assert np.array_equal(array, array.astype(np.float32))


def test_equal_arguments_give_equal_networks(fit):
    short = CONFIG.model_copy(update={"epochs": 1})
    one, other = (fit_forecaster([bursts(0)], [bursts(3)], 6, short).arrays for _ in range(2))
    assert np.array_equal(one.w1, other.w1)
    assert not np.array_equal(one.w1, fit.arrays.w1)


def test_present_rate_is_that_of_the_last_minute(fit):
    control = ControlArrays(tick_s=10.0, ticks_per_decision=6, horizon_s=60.0, retry_after_s=0.0, day_s=86400.0)
    observation = empty_observation(1, (1, 1, 1))
    observation.history[0, 0, :6] = [10, 20, 30, 40, 50, 60]
    observation.tick[0] = 6
    # 210 requests in 60 s.
    inputs, growth = np.empty(NUM_INPUTS), np.empty(len(LEVELS))
    assert forecast_one(control, fit.arrays, observation, 0, 0.0, inputs, growth) == pytest.approx(3.5)
