"""PPO finds a known optimum, and beats the rule it starts from where the rule is wrong on purpose."""

import numpy as np
import pytest

from controller.policies.learned import LearnedPolicy
from controller.policies.policy_file import load_policy_file
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import HEADROOM
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.run_config import RunConfig
from experiments.stretches import Replay, stretched
from experiments.train import BEST, RULE, train
from experiments.train_config import ForecastConfig, PpoConfig, TrainConfig, TuneConfig, ValidationConfig

pytestmark = [pytest.mark.learning, pytest.mark.timeout(900)]

WASTEFUL = MpcSettings(headroom=3.0, quantile=0.99, over_provision=1.0, spot_share=0.0, scale_in_s=60.0)
"""Buys three times what the largest foreseeable load needs: the optimum is a far lower headroom."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 82 thousand decisions on the tiny scenario, and its folder."""
    # Wide noise: the rule is far off, and the run is short.
    ppo = PpoConfig(num_envs=32, rollout_decisions=32, batch_size=256, burn_in_rollouts=4, learning_rate=1e-3, std=0.18)
    config = TrainConfig(
        steps=81_920,
        base=WASTEFUL,
        episode_decisions=60,
        env_threads=2,
        forecast=ForecastConfig(epochs=5, stride_ticks=10),
        tune=TuneConfig(trials=0),
        ppo=ppo,
        validation=ValidationConfig(every_rollouts=8, windows=2, window_s=10_800.0),
    )
    folder = tmp_path_factory.mktemp("run")
    run = RunConfig(name="wasteful", scenario="tiny", train=config)
    return train(run, folder), folder


def cost_and_misses(policy, world):
    replay = Replay(stretched(world, 4, 10_800.0, seed=11), seed=11)
    outcome = replay.outcome(policy)
    return float(outcome.cost_usd.mean()), float(outcome.missed.sum() / outcome.arrivals.sum())


@pytest.fixture(scope="module")
def test_world():
    scenario = load_scenario("tiny")
    return build_world(scenario, WorldChoice(days=scenario.splits.test))


def test_policy_lowers_a_headroom_that_is_far_too_large(trained, test_world):
    seen = []

    class Watched(LearnedPolicy):
        def decide(self, observation):  # a method of its own: it is run tick by tick
            plan = super().decide(observation)
            seen.append(self.raw_output())
            return plan

    policy = Watched(test_world.setting, load_policy_file(trained[1] / BEST))
    cost_and_misses(policy, test_world)
    # exp(0.7 a) x 3: a = -0.2 is a headroom of 2.6, on the way to the knob's end of 1.5. Untrained says 0.
    assert np.mean(np.array(seen)[:, :, HEADROOM]) < -0.2


def test_policy_beats_the_rule_on_unseen_days_by_a_tenth_of_the_cost(trained, test_world):
    rule_usd, rule_misses = cost_and_misses(LearnedPolicy(test_world.setting, trained[1] / RULE), test_world)
    usd, misses = cost_and_misses(LearnedPolicy(test_world.setting, trained[1] / BEST), test_world)
    assert usd < 0.9 * rule_usd
    assert misses < rule_misses + 0.005


def test_exported_rule_is_the_rule_that_training_started_from(trained, test_world):
    base = trained[0].base
    assert base.settings == WASTEFUL
    exported = cost_and_misses(LearnedPolicy(test_world.setting, trained[1] / RULE), test_world)
    assert exported == cost_and_misses(MpcPolicy(test_world.setting, base.settings, base.forecast), test_world)


def test_run_folder_tells_how_the_policy_came_about(trained):
    training, folder = trained
    content = load_policy_file(folder / BEST)
    record = content.manifest.training
    assert record.steps == training.policies[0].steps > 0
    assert record.scenario == "tiny"
    validation = content.manifest.metrics["validation"]
    assert validation["policy"]["value"] < 0.9 * validation["rule"]["value"]
    for part in ("run.json", "base/rule.json", "base/forecaster.json", "seed-0/checkpoint.pt", "seed-0/tensorboard"):
        assert (folder / part).exists()
