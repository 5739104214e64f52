"""The rule a training starts from: fitted on its days alone, tuned on equal stretches, read back on resume."""

import json

import numpy as np
import pytest

from controller.errors import UsageError
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.base_rule import FIXED, fit_forecast, tick_rates, tune_settings
from experiments.objective import ObjectiveConfig, score
from experiments.stretches import Replay, stretched
from experiments.train_config import ForecastConfig, TrainConfig, TuneConfig

CONFIG = TrainConfig(
    forecast=ForecastConfig(epochs=1, stride_ticks=20, thinnings=(1.0,)),
    tune=TuneConfig(trials=3, windows=2, window_s=300.0),
)


@pytest.fixture(scope="module")
def worlds():
    scenario = load_scenario("tiny")
    train = build_world(scenario, WorldChoice(days=scenario.splits.train))
    return [train], [build_world(scenario, WorldChoice(days=scenario.splits.validation), setting=train.setting)]


@pytest.fixture(scope="module")
def both(worlds):
    return [*worlds[0], *worlds[1]]


def test_stretches_lie_within_the_worlds_days_and_meet_every_share_of_them(worlds):
    held_out = worlds[1][0]
    day_s = held_out.setting.control.day_s
    first_s, end_s = (held_out.days[0] - 1) * day_s, held_out.days[-1] * day_s
    cut = stretched(held_out, 8, 1800.0, seed=3)
    begins = cut.start_s(cut.cells((0,)))
    assert len(begins) == 8
    assert begins.min() >= first_s
    assert begins.max() + 1800.0 <= end_s
    assert (np.diff(begins) > 0).all()
    shares = (begins - first_s) // ((end_s - first_s - 1800.0) / 8)
    assert shares.tolist() == list(range(8))
    assert cut.cell_ticks == 180


def test_stretch_longer_than_the_days_is_cut_to_them(worlds):
    cut = stretched(worlds[1][0], 1, 1e9, seed=0)
    assert cut.cell_s == len(worlds[1][0].days) * worlds[1][0].setting.control.day_s


def test_replay_gives_equal_outcomes_for_equal_policies(worlds):
    replay = Replay(stretched(worlds[0][0], 2, 300.0, seed=1), seed=1)
    first, second = (replay.outcome(MpcPolicy(worlds[0][0].setting)) for _ in range(2))
    assert np.array_equal(first.cost_usd, second.cost_usd)
    assert np.array_equal(first.missed, second.missed)
    assert first.arrivals.sum() > 0
    assert score(first, worlds[0][0].setting.workload, ObjectiveConfig(), float(first.cost_usd.mean())).value >= 1.0


def test_rates_hold_every_request_of_the_days_and_no_other(worlds):
    train = worlds[0][0]
    bins = round(train.setting.control.day_s / train.bin_s)
    expected = train.rate_rps[0, (train.days[0] - 1) * bins : train.days[-1] * bins].sum() * train.bin_s
    assert sum(series.per_tick.sum() for series in tick_rates(train)) == pytest.approx(expected)


def test_tuned_settings_are_noted_trial_by_trial_and_read_back(worlds, both, tmp_path):
    forecast, report = fit_forecast(*worlds, CONFIG, tmp_path)
    again, same = fit_forecast(*worlds, CONFIG, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(forecast, again, strict=True))
    assert report == same
    seen = []
    settings, tuning = tune_settings(
        [*worlds[0], *worlds[1]], forecast, CONFIG, tmp_path, lambda *trial: seen.append(trial)
    )
    assert [done for done, _, _ in seen] == [1, 2, 3]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == tuning["trials"] == 3
    for name in FIXED:
        assert getattr(settings, name) == getattr(MpcSettings(), name)
    assert tune_settings(
        [*worlds[0], *worlds[1]], forecast, CONFIG, tmp_path, lambda *_: pytest.fail("tried again")
    ) == (
        settings,
        tuning,
    )


def test_search_that_was_killed_goes_on_after_the_last_trial_noted(worlds, both, tmp_path):
    forecast, _ = fit_forecast(*worlds, CONFIG, tmp_path)
    whole = tune_settings(both, forecast, CONFIG, tmp_path / "whole")
    lines = (tmp_path / "whole" / "trials.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    # The kill came while the second line was being written.
    (tmp_path / "killed" / "trials.jsonl").write_text(lines[0] + lines[1][:4])
    seen = []
    resumed = tune_settings(
        [*worlds[0], *worlds[1]], forecast, CONFIG, tmp_path / "killed", lambda *trial: seen.append(trial[0])
    )
    assert seen == [2, 3]
    assert resumed == whole


def test_no_trials_leave_the_rule_as_it_is_given(worlds, both, tmp_path):
    given = MpcSettings(headroom=1.7)
    config = CONFIG.model_copy(update={"tune": TuneConfig(trials=0), "base": given})
    forecast, _ = fit_forecast(*worlds, CONFIG, tmp_path)
    assert tune_settings(both, forecast, config, tmp_path)[0] == given


def test_damaged_result_of_an_earlier_run_is_refused(worlds, both, tmp_path):
    forecast, _ = fit_forecast(*worlds, CONFIG, tmp_path)
    (tmp_path / "rule.json").write_text(json.dumps({"settings": {}})[:-2])
    with pytest.raises(UsageError, match=r"rule\.json: expected the file of an earlier run"):
        tune_settings(both, forecast, CONFIG, tmp_path)
