"""A gain schedule is a linear policy of a few weights, and its search a function of settings and seed."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("optuna")

from controller.errors import UsageError
from controller.observation import FIELDS, OBSERVATION_SIZE, field_start, input_index
from controller.policies.learned import LearnedPolicy
from controller.policies.policy_file import load_policy_file
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import KNOBS
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.base_rule import BaseRule
from experiments.objective import Score
from experiments.run_config import RunConfig
from experiments.schedule import DaysJudge, InputScale, input_scale, rule_of, schedule_seed, schedule_tensors
from experiments.stretches import Replay, stretched
from experiments.train import new_content, train
from experiments.train_config import ScheduleConfig, ScheduledWeight, TrainConfig, TuneConfig, ValidationConfig

CONSTANT_HEADROOM = ScheduledWeight(knob="headroom", of="constant", most=1.0)
BY_LEVEL = ScheduledWeight(knob="headroom", of="level", most=0.5)
PLAIN = InputScale(np.zeros(OBSERVATION_SIZE), np.ones(OBSERVATION_SIZE))


@pytest.fixture(scope="module")
def world():
    scenario = load_scenario("tiny")
    return build_world(scenario, WorldChoice(days=scenario.splits.train))


@pytest.fixture(scope="module")
def base():
    from controller.forecaster_file import forecaster_named

    settings = MpcSettings(forecaster="persistence")
    return BaseRule(settings, forecaster_named("persistence"), {}, {})


def config_of(**changes):
    schedule = ScheduleConfig(
        weights=(CONSTANT_HEADROOM, BY_LEVEL), trials=6, parts=2, windows=4, window_s=1200.0, finalists=2
    )
    return TrainConfig(learner="schedule", schedule=schedule.model_copy(update=changes))


def policy_of(world, base):
    run = RunConfig(train=config_of())

    def make(tensors):
        content = new_content(run, world, base, tensors, seed=0)
        return lambda setting: LearnedPolicy(setting, content)

    return make


def test_an_input_is_named_by_its_field_and_number():
    assert input_index("level") == field_start("level")
    assert input_index("growth/3") == field_start("growth") + 3
    assert input_index("dial") == OBSERVATION_SIZE - 1
    for wrong in ("growth/5", "growth/x", "speed", "growth/-1", ""):
        with pytest.raises(ValueError, match=r"input: expected one of .*growth/0\.\.4.*, got"):
            input_index(wrong)


def test_weights_are_per_standard_deviation_from_the_mean():
    rng = np.random.default_rng(0)
    inputs = rng.normal(2.0, 3.0, (1000, OBSERVATION_SIZE)).astype(np.float32)
    scale = input_scale(inputs)
    weights = (CONSTANT_HEADROOM, BY_LEVEL, ScheduledWeight(knob="scale_in_s", of="growth/3", most=1.0))
    tensors = schedule_tensors(weights, (0.1, -0.5, 0.25), scale)
    knobs = inputs @ tensors["knobs.0.weight"].T + tensors["knobs.0.bias"]
    standard = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    level, growth = standard[:, input_index("level")], standard[:, input_index("growth/3")]
    np.testing.assert_allclose(knobs[:, KNOBS.index("headroom")], 0.1 - 0.5 * level, atol=1e-5)
    np.testing.assert_allclose(knobs[:, KNOBS.index("scale_in_s")], 0.25 * growth, atol=1e-5)
    assert (knobs[:, KNOBS.index("spot_share")] == 0.0).all()


def test_an_input_that_never_changes_turns_nothing():
    scale = InputScale(np.full(OBSERVATION_SIZE, 0.7), np.zeros(OBSERVATION_SIZE))
    tensors = schedule_tensors((BY_LEVEL,), (0.5,), scale)
    assert not any(one.any() for one in tensors.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"knob": "tilt", "of": "level", "most": 1.0}, "knob: expected one of headroom, "),
        ({"knob": "headroom", "of": "clock", "most": 1.0}, "input: expected one of arrivals/0"),
        ({"knob": "headroom", "of": "level", "most": 0.0}, "most"),
    ],
)
def test_a_weight_of_nothing_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        ScheduledWeight(**fields)


def test_the_same_weight_twice_is_refused():
    with pytest.raises(ValidationError, match="weights: expected each input of a knob once"):
        ScheduleConfig(weights=(BY_LEVEL, BY_LEVEL))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"headroom by clock": 0.1}, r"starts\[0\]: expected names among headroom by level, got 'headroom by clock'"),
        ({"headroom by level": -9.0}, r"starts\[0\].headroom by level: expected within"),
    ],
)
def test_a_start_that_the_search_could_not_find_is_refused(start, message):
    with pytest.raises(ValidationError, match=message):
        ScheduleConfig(weights=(BY_LEVEL,), starts=(start,))


def test_every_default_weight_reads_an_input_that_exists():
    names = {one.of.partition("/")[0] for one in ScheduleConfig().weights}
    assert names <= {"constant", *(field.name for field in FIELDS)}


def test_some_cells_are_replayed_as_they_are_among_all(world, base):
    whole = stretched(world, 4, 1200.0, 5)
    cells = whole.cells((5,))
    rule = MpcPolicy(world.setting, base.settings, base.forecast)
    all_of_them = Replay(whole, 5).outcome(rule)
    second_half = Replay(whole, 5, cells[1::2]).outcome(rule)
    for name, values in vars(second_half).items():
        np.testing.assert_array_equal(values, getattr(all_of_them, name)[1::2], name)


def test_the_rule_is_worth_one_and_twice_the_capacity_more(world, base):
    judge = DaysJudge([world], config_of(), base, 0)
    make = policy_of(world, base)
    nothing = make(schedule_tensors((CONSTANT_HEADROOM,), (0.0,), PLAIN))
    twice = make(schedule_tensors((CONSTANT_HEADROOM,), (1.0,), PLAIN))
    assert judge.parts == 2
    assert judge.decisions == 4 * 1200 // 60
    for part in range(judge.parts):
        assert judge.value(part, rule_of(base)) == 1.0
        assert judge.value(part, nothing) == 1.0
        assert judge.value(part, twice) > 1.1


def test_misses_and_owed_accuracy_are_paid_for(world, base):
    free = config_of().model_copy(update={"miss_weight": 0.0, "accuracy_weight": 0.0})
    dear = config_of().model_copy(update={"miss_weight": 1000.0, "accuracy_weight": 0.0})
    half = policy_of(world, base)(schedule_tensors((CONSTANT_HEADROOM,), (-1.0,), PLAIN))
    values = [DaysJudge([world], config, base, 0).value(0, half) for config in (free, dear)]
    assert values[0] < values[1]


@pytest.mark.parametrize(("windows", "window_s", "is_worth_it"), [(4, 1200.0, True), (1, 86400.0, False)])
def test_accuracy_above_the_floor_is_worth_something_until_midnight(world, base, windows, window_s, is_worth_it):
    above, more = (
        replace(base, settings=base.settings.model_copy(update={"accuracy_margin": margin})) for margin in (0.01, 0.012)
    )
    values = []
    for weight in (0.0, 1.0):
        config = config_of(parts=1, windows=windows, window_s=window_s).model_copy(update={"accuracy_weight": weight})
        values.append(DaysJudge([world], config, above, 0).value(0, rule_of(more)))
    assert values[0] > 1.0
    assert (values[1] < values[0] - 1e-6) == is_worth_it


def test_misses_beyond_the_promise_cost_more_where_they_are_weighed(world, base):
    least = {"headroom": 0.7, "patient_headroom": 0.3, "quantile": 0.05, "overflow_fraction": 0.0, "backlog_s": 1200.0}
    least |= {"shed_slack": 0.1}
    starved = rule_of(replace(base, settings=base.settings.model_copy(update=least)))
    free = config_of().model_copy(update={"miss_weight": 0.0, "accuracy_weight": 0.0})
    weighed = free.model_copy(update={"schedule": free.schedule.model_copy(update={"excess_weight": 10.0})})
    cheap, dear = (DaysJudge([world], config, base, 0).value(0, starved) for config in (free, weighed))
    excess, usd = [], []
    for make in (starved, rule_of(base)):
        whole = stretched(world, 4, 1200.0, 0)
        part = Replay(whole, 0, whole.cells((0,))[::2]).outcome(make(world.setting))
        allowed = 0.8 * (1.0 - world.setting.workload.attainment_target)
        excess.append(float(np.maximum(part.miss_share - allowed, 0.0).sum()))
        usd.append(part.cost_usd.sum())
    assert excess[0] > excess[1]
    assert usd[0] / usd[1] < cheap < 1.0
    assert cheap == pytest.approx(np.exp(-0.3))  # no trace counts as better than that
    assert dear == pytest.approx(usd[0] / usd[1] * (1.0 + 10.0 * excess[0]) / (1.0 + 10.0 * excess[1]))


def run(world, base, folder, *, resume=False, stop=None, digest="a" * 64, **changes):
    seen = []

    def validate(tensors, aim):
        seen.append(tensors)
        value = 1.0 + float(abs(tensors["knobs.0.bias"][0] + 0.2))
        return Score(value, value, 0.0, 0.0, (0.0,), (1.0,))

    selection = schedule_seed(
        [world], config_of(**changes), base, 1, folder, validate, policy_of(world, base), lambda: PLAIN,
        rule=Score(1.2, 1.2, 0.0, 0.0, (0.0,), (1.0,)), config_sha256=digest, resume=resume, stop_after_trials=stop,
    )  # fmt: skip
    return selection, seen


def test_an_interrupted_search_goes_on_and_ends_where_it_would_have_ended(world, base, tmp_path):
    whole, _ = run(world, base, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(world, base, tmp_path / "cut", stop=3)
    cut, _ = run(world, base, tmp_path / "cut", resume=True)
    assert cut.curve == whole.curve
    assert cut.best_steps == whole.best_steps
    for name, tensor in whole.best_tensors.items():
        np.testing.assert_array_equal(cut.best_tensors[name], tensor)


def test_the_best_trials_are_validated_and_the_best_of_them_selected(world, base, tmp_path):
    selection, seen = run(world, base, tmp_path)
    assert len(selection.curve) == 2
    assert all(any(one.any() for one in tensors.values()) for tensors in seen)  # the rule's value is known
    assert selection.best.value == min(selection.rule.value, *(value for _, value in selection.curve))


def test_what_it_is_told_to_start_from_is_tried_after_nothing(world, base, tmp_path):
    _, seen = run(world, base, tmp_path, trials=2, starts=({"headroom by constant": 0.25},))
    tried = {float(one["knobs.0.bias"][KNOBS.index("headroom")]) for one in seen}
    assert tried == {0.25}  # at more than one value of a miss


def test_a_search_of_other_settings_is_refused(world, base, tmp_path):
    run(world, base, tmp_path, trials=2)
    with pytest.raises(UsageError, match="config_sha256"):
        run(world, base, tmp_path, trials=2, resume=True, digest="b" * 64)


def test_training_writes_a_linear_policy_around_the_rule_of_the_run(tmp_path):
    schedule = ScheduleConfig(weights=(CONSTANT_HEADROOM, BY_LEVEL), trials=4, parts=2, windows=2, window_s=1200.0)
    settings = MpcSettings(headroom=2.5, forecaster="persistence")
    config = TrainConfig(
        learner="schedule",
        schedule=schedule,
        base=settings,
        fit_forecaster=False,
        tune=TuneConfig(trials=0),
        validation=ValidationConfig(windows=2, window_s=1200.0),
    )
    wanted = RunConfig(name="own", scenario="tiny", train=config)
    out = tmp_path / "run"
    with pytest.raises(UsageError, match="steps: expected none for learner schedule"):
        train(wanted, out, steps=100)
    found = train(wanted, out)
    assert found.best is not None
    content = load_policy_file(found.best)
    assert content.manifest.hidden == ()
    assert content.manifest.settings["headroom"] == 2.5
    assert content.manifest.training.steps == found.policies[0].steps > 0
    assert content.tensors["knobs.0.bias"][KNOBS.index("headroom")] < 0.0  # so much headroom is too much
    with pytest.raises(UsageError, match="without a training"):
        train(wanted, out)
    assert train(wanted, out, resume=True).policies[0].score == found.policies[0].score
