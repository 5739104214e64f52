"""The clone learns the teacher's demand in the student's own terms, from what the student sees, and repeats itself."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from controller.errors import UsageError
from controller.kernels.mpc import FACTOR
from controller.observation import OBSERVATION_SIZE, field_start
from controller.policies.predictive import MpcSettings
from controller.rule_arrays import HEADROOM, NUM_KNOBS
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.base_rule import BaseRule
from experiments.clairvoyant import ClairvoyantMpc
from experiments.cloning import Samples, clone_seed, collect, fit, log_ratios, r_squared
from experiments.dense import dense
from experiments.train_config import CloneConfig, PpoConfig, TrainConfig
from experiments.training_env import training_env

pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute:UserWarning")  # Stable-Baselines3's own

CONFIG = TrainConfig(
    warm_start="clone",
    clone=CloneConfig(decisions=6, epochs=3),
    episode_decisions=4,
    ppo=PpoConfig(num_envs=3, rollout_decisions=2, batch_size=6, hidden=(8,)),
)
BASE = BaseRule(MpcSettings(), None, {}, {})


@pytest.fixture(autouse=True)
def one_thread():
    """Small products wait for a second thread longer than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def worlds():
    scenario = load_scenario("tiny")
    splits = scenario.splits
    return [build_world(scenario, WorldChoice(days=days)) for days in (splits.train, splits.validation)]


def seen_with(level, own_growth):
    seen = np.zeros((1, OBSERVATION_SIZE), np.float32)
    seen[0, field_start("level")] = np.log(level)
    seen[0, field_start("growth") + 4] = 2.0 * np.log(own_growth)
    return seen


def test_the_target_makes_the_students_need_the_teachers():
    # Mean 50: the rate now is 100 and the rule plans for 1.2 times that, 120; what comes is 180 at most.
    ratio = log_ratios(seen_with(2.0, 1.2), np.array([180.0]), 50.0)
    assert ratio == pytest.approx([np.log(1.5)], abs=1e-6)
    knob = Samples(seen_with(2.0, 1.2), ratio).targets(shift=0.0)
    assert 120.0 * np.exp(FACTOR * knob) == pytest.approx([180.0], rel=1e-6)
    # A teacher that keeps 20 % less in reserve asks for 144.
    lower = Samples(seen_with(2.0, 1.2), ratio).targets(shift=np.log(0.8))
    assert 120.0 * np.exp(FACTOR * lower) == pytest.approx([144.0], rel=1e-6)
    assert Samples(seen_with(1.0, 1.0), np.array([9.0])).targets(0.0).tolist() == [1.0]


def test_what_is_told_is_what_the_clairvoyant_rule_is_told(worlds):
    env = training_env(worlds[:1], CONFIG, BASE, 1, twin=False)
    seen = env.reset()
    stepper = env.steppers[0]
    _, found = collect(env, seen, None, 1, 200.0)
    teacher = ClairvoyantMpc(worlds[0], worlds[0].cells((0,))[:1] * 3)
    start_s = stepper._start_s[:3]
    told = teacher._rates.told(start_s, start_s + 7200.0)[1]
    assert found.log_ratio == pytest.approx(log_ratios(seen, told, stepper.setting.scenario.mean_rps))
    assert np.array_equal(found.seen, seen)


def test_a_known_relation_is_learned_and_only_headroom_is_turned():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(3000, 5)).astype(np.float32)
    samples, held_out = (
        Samples(part, FACTOR * 0.6 * np.tanh(part[:, 0] - part[:, 1])) for part in (seen[:2400], seen[2400:])
    )
    config = CloneConfig(epochs=15, batch_size=64, learning_rate=3e-3)
    clone = fit(samples, held_out, 0.0, (16,), config, seed=0)
    assert clone.report["r2"] > 0.95
    knobs = dense(clone.tensors, held_out.seen)
    assert knobs.shape == (600, NUM_KNOBS)
    assert not np.delete(knobs, HEADROOM, axis=1).any()


def test_noise_is_not_imitated():
    rng = np.random.default_rng(0)
    draws = [Samples(rng.normal(size=(400, 30)).astype(np.float32), rng.choice([-0.3, 0.3], 400)) for _ in range(2)]
    clone = fit(*draws, 0.0, (32,), CloneConfig(epochs=20, batch_size=16), seed=0)
    # Whatever fits the first draw is worse than nothing on the second, so an early epoch is kept.
    assert clone.report["r2"] == pytest.approx(0.0, abs=0.02)
    assert clone.report["r2"] == r_squared(clone.tensors, draws[1], 0.0)


def test_a_seed_gives_the_same_clone_and_resuming_reads_it_back(worlds, tmp_path):
    def made(folder, seed=3, **changes):
        return clone_seed(worlds[:1], worlds[1:], CONFIG, BASE, seed, tmp_path / folder, config_sha256="a", **changes)

    one, two, other = made("one"), made("two"), made("other", seed=4)
    assert one.report == two.report
    assert one.report["samples"] == 2 * 6 * 3
    assert all(np.array_equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert any(not np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    again = made("one", resume=True)
    assert again.report == one.report
    assert all(np.array_equal(one.tensors[name], again.tensors[name]) for name in one.tensors)
    with pytest.raises(UsageError, match="of the same settings"):
        clone_seed(worlds[:1], worlds[1:], CONFIG, BASE, 3, tmp_path / "one", config_sha256="b", resume=True)
