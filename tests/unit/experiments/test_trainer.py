"""A training is a function of settings and seed, whether or not it was interrupted."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from controller.errors import UsageError
from experiments import checkpoint
from experiments.objective import Score
from experiments.ppo import KnobPpo, same_tensors
from experiments.train_config import PpoConfig, TrainConfig, ValidationConfig
from experiments.trainer import train_seed


class MatchEnv(VecEnv):
    """Reward is -(a - x)^2 for an observed x in -0.5..0.5, drawn anew by a counter-keyed generator; episodes of 10."""

    def __init__(self, num_envs, seed):
        super().__init__(num_envs, spaces.Box(-5, 5, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32))
        self.key, self.counter, self.age = seed, 0, 0

    def _observe(self):
        self.x = np.random.default_rng([self.key, self.counter]).uniform(-0.5, 0.5, self.num_envs)
        self.counter += 1
        return np.stack([self.x, np.ones(self.num_envs)], axis=1).astype(np.float32)

    def reset(self):
        self.counter = self.age = 0
        return self._observe()

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        reward = -((self.actions[:, 0] - self.x) ** 2)
        self.age += 1
        is_over = self.age % 10 == 0
        observation = self._observe()
        infos = [
            {"terminal_observation": observation[i], "TimeLimit.truncated": True} if is_over else {}
            for i in range(self.num_envs)
        ]
        return observation, reward.astype(np.float32), np.full(self.num_envs, is_over), infos

    def snapshot(self):
        return {"counters": np.array([self.counter, self.age]), "x": self.x.copy()}

    def restore(self, arrays):
        self.counter, self.age = (int(n) for n in arrays["counters"])
        self.x = arrays["x"].copy()

    def close(self): ...

    def get_attr(self, attr_name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, attr_name, value, indices=None): ...

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


def tiny_config(**changes):
    ppo = PpoConfig(
        num_envs=4, rollout_decisions=16, batch_size=32, epochs=2, hidden=(8, 8), burn_in_rollouts=1, learning_rate=3e-3
    )
    values = {"steps": 64 * 6, "ppo": ppo, "validation": ValidationConfig(every_rollouts=2), **changes}
    return TrainConfig(**values)


def answer(tensors, observation):
    values = observation
    for layer in range(3):
        values = tensors[f"knobs.{layer}.weight"].astype(float) @ values + tensors[f"knobs.{layer}.bias"]
        values = np.tanh(values) if layer < 2 else values
    return values[0]


def match_error(tensors, dial):
    points = np.linspace(-0.5, 0.5, 11)
    error = float(np.mean([(answer(tensors, np.array([x, 1.0])) - x) ** 2 for x in points]))
    return Score(error, error, 0.0, 0.0, (0.0,), (1.0,))


def run(folder, config, *, resume=False, stop=None, digest="a" * 64):
    return train_seed(
        MatchEnv(config.ppo.num_envs, 3),
        config,
        3,
        folder,
        match_error,
        config_sha256=digest,
        resume=resume,
        stop_after_rollouts=stop,
    )


def final_state(folder, digest="a" * 64):
    return checkpoint.read(folder / "checkpoint.pt", digest)


def test_knobs_explore_as_widely_as_they_are_told():
    names = ("headroom", "accuracy_tilt")

    class TwoKnobs(MatchEnv):
        def __init__(self):
            super().__init__(4, 3)
            self.action_space = spaces.Box(-1, 1, (len(names),), np.float32)

    config = tiny_config().ppo.model_copy(update={"std": 0.1, "knob_std": {"accuracy_tilt": 0.3}})
    model = KnobPpo(TwoKnobs(), config, 0, 64)
    assert np.exp(model.policy.log_std.detach().numpy()) == pytest.approx([0.1, 0.3])


def test_a_knob_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"knob_std: expected names among headroom, .*got tilt"):
        PpoConfig(knob_std={"tilt": 0.3})
    with pytest.raises(ValueError, match=r"ppo\.knob_std: expected none for action 'direct'"):
        TrainConfig(action="direct", ppo=PpoConfig(knob_std={"headroom": 0.3}))


def test_interrupted_and_resumed_training_ends_with_the_same_bytes(tmp_path):
    config = tiny_config()
    whole = run(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", config, stop=3)
    parts = run(tmp_path / "parts", config, resume=True)
    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert one["steps"] == other["steps"] == 64 * 6
    assert all(one["policy"][name].equal(other["policy"][name]) for name in one["policy"])
    assert one["numpy_random"][1].equal(other["numpy_random"][1])
    assert one["torch_random"].equal(other["torch_random"])
    assert whole.curve == parts.curve
    assert same_tensors(whole.best_tensors, parts.best_tensors)
    assert whole.span.range == parts.span.range
    assert whole.span.samples == 64 * 6


def test_killed_training_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    config = tiny_config(checkpoint_every_rollouts=2)
    whole = run(tmp_path / "whole", config)

    class Kill(BaseException):
        """Stands for a signal that leaves no time to write."""

    class Dying:
        def rollout(self, steps, mean_return):
            if steps == 64 * 3:
                raise Kill

        def validated(self, steps, score, rule): ...

    env = MatchEnv(config.ppo.num_envs, 3)
    with pytest.raises(Kill):
        train_seed(env, config, 3, tmp_path / "killed", match_error, config_sha256="a" * 64, progress=Dying())
    assert final_state(tmp_path / "killed")["steps"] == 64 * 2
    assert run(tmp_path / "killed", config, resume=True).curve == whole.curve


def test_different_seeds_give_different_weights(tmp_path):
    config = tiny_config(steps=64 * 2)
    run(tmp_path / "a", config)
    env = MatchEnv(config.ppo.num_envs, 4)
    train_seed(env, config, 4, tmp_path / "b", match_error, config_sha256="a" * 64)
    name = "mlp_extractor.policy_net.0.weight"
    assert not final_state(tmp_path / "a")["policy"][name].equal(final_state(tmp_path / "b")["policy"][name])


def test_actor_does_not_move_during_burn_in_and_critic_does(tmp_path):
    config = tiny_config(steps=64, ppo=tiny_config().ppo.model_copy(update={"burn_in_rollouts": 1}))
    selection = run(tmp_path, config)
    state = final_state(tmp_path)["policy"]
    assert not state["action_net.weight"].any()
    assert not state["action_net.bias"].any()
    assert state["value_net.bias"].any()
    assert selection.best_steps == 0
    assert selection.curve == []


def test_policy_is_exported_only_when_it_beats_the_rule_by_the_least_gain(tmp_path):
    # Zero action errs by mean(x^2) = 0.1 over the 11 points; nothing can be 100 % better than that and nothing is
    # exported.
    config = tiny_config(validation=ValidationConfig(every_rollouts=2, least_gain=1.0))
    selection = run(tmp_path, config)
    assert selection.rule.value == pytest.approx(0.1)
    assert selection.best_steps == 0
    assert not selection.best_tensors["knobs.2.weight"].any()


def test_training_stops_after_patience_validations_without_gain(tmp_path):
    config = tiny_config(steps=64 * 50, validation=ValidationConfig(every_rollouts=2, least_gain=1.0, patience=2))
    run(tmp_path, config)
    assert final_state(tmp_path)["steps"] == 64 * 4


def test_checkpoint_of_other_settings_is_refused(tmp_path):
    run(tmp_path, tiny_config(steps=64))
    with pytest.raises(UsageError, match="the same settings"):
        run(tmp_path, tiny_config(steps=64), resume=True, digest="b" * 64)


def test_truncated_checkpoint_is_refused(tmp_path):
    run(tmp_path, tiny_config(steps=64))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="whole checkpoint"):
        run(tmp_path, tiny_config(steps=64), resume=True)


def test_training_begins_with_the_network_it_is_given_and_offers_it(tmp_path):
    # A network of tanh units that answers 0.9 x: nearly the best answer, x, before anything is learned.
    config = tiny_config(steps=64, validation=ValidationConfig(every_rollouts=2))
    start = {"knobs.0.weight": np.zeros((8, 2), np.float32), "knobs.1.weight": np.zeros((8, 8), np.float32)}
    start |= {"knobs.2.weight": np.zeros((1, 8), np.float32), "knobs.2.bias": np.zeros(1, np.float32)}
    start |= {"knobs.0.bias": np.zeros(8, np.float32), "knobs.1.bias": np.zeros(8, np.float32)}
    start["knobs.0.weight"][0, 0] = start["knobs.1.weight"][0, 0] = 0.1
    start["knobs.2.weight"][0, 0] = 90.0
    selection = train_seed(
        MatchEnv(config.ppo.num_envs, 3), config, 3, tmp_path, match_error, config_sha256="a" * 64, start=start
    )
    assert selection.curve[0][0] == 0
    assert selection.best.value < 0.02 * selection.rule.value
    assert (selection.best_steps, selection.since_best) == (0, 0)
    assert same_tensors(selection.best_tensors, start)
    assert final_state(tmp_path)["policy"]["action_net.weight"][0, 0] == 90.0  # frozen during burn-in


def test_a_recurrent_learner_resumes_with_what_it_remembers(tmp_path):
    pytest.importorskip("sb3_contrib")
    config = tiny_config(steps=64 * 3, learner="recurrent_ppo")

    def recurrent(folder, **changes):
        env = MatchEnv(config.ppo.num_envs, 3)
        score = Score(1.0, 1.0, 0.0, 0.0, (0.0,), (1.0,))
        return train_seed(env, config, 3, folder, lambda *_: score, config_sha256="a" * 64, **changes)

    recurrent(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recurrent(tmp_path / "parts", stop_after_rollouts=1)
    recurrent(tmp_path / "parts", resume=True)
    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert one["memory"]
    assert one["memory"][0][0].equal(other["memory"][0][0])
    assert all(one["policy"][name].equal(other["policy"][name]) for name in one["policy"])
