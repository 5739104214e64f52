"""Evolution strategies climb a known hill, resume to the same weights, and export what they acted with."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv

from controller.errors import UsageError
from controller.kernels.network import NetworkArrays, forward
from experiments.evolution import act, evolve_seed, new_search, perturbations, rank_weights, tensors_of
from experiments.objective import Score
from experiments.train_config import EvolutionConfig, PpoConfig, TrainConfig, ValidationConfig

pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute:UserWarning")  # Stable-Baselines3's own

TARGET = np.array([0.5, -0.25])
CONFIG = TrainConfig(
    steps=64 * 4 * 40,
    episode_decisions=4,
    randomise_dial=False,
    ppo=PpoConfig(num_envs=64, rollout_decisions=2, batch_size=64),
    evolution=EvolutionConfig(sigma=0.1, learning_rate=0.05, weight_decay=0.0, validate_every=5),
    validation=ValidationConfig(patience=100, least_gain=0.0),
)


class Hill(VecEnv):
    """Two knobs are best at half of the observation and at minus a quarter of it; no episode differs."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, gym.spaces.Box(-5, 5, (1,)), gym.spaces.Box(-1, 1, (2,)))
        self.count = np.zeros(1)

    def reset(self):
        return self._seen()

    def _seen(self):
        return np.full((self.num_envs, 1), 1.0 if self.count[0] % 2 == 0 else -1.0, np.float32)

    def step_async(self, actions) -> None:
        self._actions = actions

    def step_wait(self):
        off = self._actions - self._seen() * TARGET
        self.count[0] += 1
        return self._seen(), -(off**2).sum(axis=1), np.zeros(self.num_envs, bool), [{}] * self.num_envs

    def snapshot(self):
        return {"count": self.count.copy()}

    def restore(self, arrays) -> None:
        self.count[...] = arrays["count"]

    def close(self) -> None: ...

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None) -> None: ...

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return []

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


def validate(tensors, dial) -> Score:
    off = tensors["knobs.0.weight"][:, 0] - TARGET
    return Score(1.0 + float((off**2).sum() + (tensors["knobs.0.bias"] ** 2).sum()), 1.0, 0.0, 0.0, (0.0,), (1.0,))


def test_the_known_best_weights_are_found(tmp_path) -> None:
    found = evolve_seed(Hill(64), CONFIG, 0, tmp_path, validate, config_sha256="a")
    assert found.best.value < found.rule.value - 0.25
    assert found.best_tensors["knobs.0.weight"][:, 0] == pytest.approx(TARGET, abs=0.1)
    assert found.best_steps % (64 * 4) == 0


def test_an_interrupted_search_ends_where_a_whole_one_does(tmp_path) -> None:
    short = CONFIG.model_copy(update={"steps": 64 * 4 * 9})
    whole = evolve_seed(Hill(64), short, 0, tmp_path / "whole", validate, config_sha256="a")
    with pytest.raises(KeyboardInterrupt):
        evolve_seed(Hill(64), short, 0, tmp_path / "cut", validate, config_sha256="a", stop_after_generations=4)
    resumed = evolve_seed(Hill(64), short, 0, tmp_path / "cut", validate, config_sha256="a", resume=True)
    assert resumed.curve == whole.curve
    assert all(np.array_equal(resumed.best_tensors[name], whole.best_tensors[name]) for name in whole.best_tensors)
    with pytest.raises(UsageError, match="of the same settings"):
        evolve_seed(Hill(64), short, 0, tmp_path / "cut", validate, config_sha256="b", resume=True)


def test_perturbations_cancel_and_differ_by_generation() -> None:
    first, second = perturbations(0, 0, 7, 3), perturbations(0, 1, 7, 3)
    assert first.shape == (7, 3)
    assert first.sum(axis=0) == pytest.approx(np.zeros(3))
    assert not np.array_equal(first, second)


def test_ranks_by_hand() -> None:
    assert rank_weights(np.array([3.0, -1.0, 10.0])).tolist() == [0.0, -0.5, 0.5]
    assert rank_weights(np.array([1.0, 1.0, 2.0])).tolist() == [-0.25, -0.25, 0.5]


def test_the_exported_network_acts_as_the_search_did() -> None:
    rng = np.random.default_rng(0)
    weights, seen = rng.normal(0, 0.2, 2 * 6), rng.normal(0, 1, (4, 5))
    tensors = tensors_of(weights, 5, 2)
    out = np.empty((4, 2))
    net = NetworkArrays(
        np.array([5, 2]),
        tensors["knobs.0.weight"].T.astype(np.float64).ravel(),
        tensors["knobs.0.bias"].astype(np.float64),
    )
    for n in range(4):
        forward(net, seen.astype(np.float32), n, out)
    assert np.clip(out, -1, 1) == pytest.approx(act(np.tile(weights, (4, 1)), seen, 2), abs=1e-6)


def test_one_step_goes_uphill() -> None:
    search = new_search(2)
    search.step(np.array([1.0, -2.0]), CONFIG.evolution)
    assert search.weights == pytest.approx([0.05, -0.05])
