"""Forecasters as files: the shipped one is whole and small, and what is wrong with another is named."""

import json

import numpy as np
import pytest

from controller.errors import ConfigError
from controller.forecast import (
    INPUTS,
    LEVELS,
    forecast_inputs,
    growth_of,
    inputs_sha256,
    new_forecast,
    persistence_forecast,
)
from controller.forecaster_file import (
    FOLDER,
    ForecasterManifest,
    forecaster_named,
    load_forecaster,
    save_forecaster,
)
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import make_policy
from tests.tiny import steady_observation, tiny_setting


@pytest.fixture
def saved(tmp_path):
    blank = new_forecast(LEVELS, (3, 2))
    rng = np.random.default_rng(0)
    arrays = blank._replace(w1=rng.normal(size=blank.w1.shape).astype(np.float32).astype(np.float64))
    manifest = ForecasterManifest(inputs_sha256=inputs_sha256(), levels=LEVELS, hidden=(3, 2), horizons_ticks=(18,))
    path = tmp_path / "own.json"
    save_forecaster(path, manifest, arrays)
    return path, arrays


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_read_back_bit_for_bit_and_equal_content_gives_equal_bytes(saved, tmp_path):
    path, arrays = saved
    manifest, found = load_forecaster(path)
    assert all(np.array_equal(a, b) for a, b in zip(found, arrays, strict=True))
    other = tmp_path / "again.json"
    save_forecaster(other, manifest, found)
    assert other.read_bytes() == path.read_bytes()
    assert other.with_suffix(".safetensors").read_bytes() == path.with_suffix(".safetensors").read_bytes()


def test_shipped_forecaster_is_small_and_says_where_it_comes_from():
    manifest, arrays = load_forecaster(FOLDER / "default.json")
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 200_000
    assert tuple(arrays.levels) == LEVELS
    assert arrays.w1.shape[0] == len(INPUTS)
    assert manifest.training["traces"]
    assert "nasa" not in manifest.training["traces"]
    assert set(manifest.validation) == {str(ticks) for ticks in manifest.horizons_ticks}


def test_shipped_quantiles_rise_and_hardly_depend_on_the_size_of_a_service():
    # How many requests the rate rests on is an input: 1 / sqrt(6e6) and 1 / sqrt(6e8), which is next to nothing twice.
    rng = np.random.default_rng(1)
    shapes = np.exp(np.cumsum(rng.normal(scale=0.02, size=(20, 360)), axis=1))
    arrays = forecaster_named("default")
    small, large = (growth_of(arrays, forecast_inputs(shapes * level, 18)) for level in (1e6, 1e8))
    assert (np.diff(small, axis=1) >= 0).all()
    np.testing.assert_allclose(small, large, atol=0.02)


def test_shipped_quantiles_grow_with_the_horizon():
    rng = np.random.default_rng(2)
    history = rng.poisson(500.0, (200, 360)).astype(float)
    arrays = forecaster_named("default")
    means = [growth_of(arrays, forecast_inputs(history, ticks))[:, 4].mean() for ticks in (6, 18, 60)]
    assert means == sorted(means)


def test_a_rule_takes_the_forecaster_its_settings_name(saved):
    setting = tiny_setting()
    assert np.array_equal(MpcPolicy(setting).forecast.w1, forecaster_named("default").w1)
    still = make_policy("mpc:forecaster=persistence", setting)
    assert all(np.array_equal(a, b) for a, b in zip(still.forecast, persistence_forecast(), strict=True))
    own = MpcPolicy(setting, MpcSettings(forecaster=str(saved[0])))
    assert np.array_equal(own.forecast.w1, saved[1].w1)


def test_the_time_of_day_changes_no_forecast():
    setting = tiny_setting()
    growth = []
    for shift in (0, 4000):
        policy = MpcPolicy(setting)
        observation = steady_observation(setting, 30.0, ticks=360 + shift)
        observation.time_s[:] = (360 + shift) * setting.control.tick_s
        policy.decide(observation)
        growth.append(policy.state.growth.copy())
    assert np.array_equal(*growth)


def test_what_is_read_is_the_readers_own(saved):
    for name in ("default", str(saved[0])):
        forecaster_named(name).w1[...] = 7.0
        assert not (forecaster_named(name).w1 == 7.0).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 9}, "format_version: expected 1, got 9"),
        ({"inputs_sha256": "0" * 64}, "fit it anew"),
        ({"weights_sha256": "0" * 64}, "SHA-256"),
        ({"hidden": [4, 2]}, "w1: expected finite float32 of shape"),
        ({"novelty": 1}, "novelty"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(saved, changes, said):
    rewrite(saved[0], **changes)
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        load_forecaster(saved[0])


def test_files_that_are_none_are_refused(saved, tmp_path):
    with pytest.raises(ConfigError, match="readable file"):
        forecaster_named(str(tmp_path / "nothing.json"))
    with pytest.raises(ConfigError, match="default, persistence or the path"):
        forecaster_named("presistence")
    saved[0].write_text("{")
    with pytest.raises(ConfigError, match="expected JSON"):
        load_forecaster(saved[0])
    with pytest.raises(ConfigError, match=r"ends in \.json"):
        save_forecaster(tmp_path / "own.npz", ForecasterManifest.model_construct(), new_forecast(LEVELS))


def test_altered_or_missing_weights_are_refused(saved):
    weights = saved[0].with_suffix(".safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ConfigError, match="SHA-256"):
        load_forecaster(saved[0])
    weights.unlink()
    with pytest.raises(ConfigError, match="readable file"):
        load_forecaster(saved[0])


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    manifest = ForecasterManifest(inputs_sha256=inputs_sha256(), levels=LEVELS, hidden=(3, 2), horizons_ticks=(18,))
    with pytest.raises(ConfigError, match="b1: expected finite float32"):
        save_forecaster(tmp_path / "own.json", manifest, new_forecast(LEVELS, (3, 2))._replace(b1=np.full(3, np.nan)))
