"""A learner of another form is judged against the rule and noted; nothing is exported of it, and the rule still is."""

import json

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from experiments.run_config import RunConfig
from experiments.train import BEST, RULE, train
from experiments.train_config import PpoConfig, TrainConfig, TuneConfig, ValidationConfig

pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute:UserWarning")  # Stable-Baselines3's own


@pytest.mark.parametrize("action", ["residual", "direct"])
def test_what_is_learned_is_noted_beside_the_rule_and_not_exported(action, tmp_path):
    config = TrainConfig(
        steps=8,
        action=action,
        fit_forecaster=False,
        episode_decisions=4,
        randomise_dial=False,
        tune=TuneConfig(trials=0),
        ppo=PpoConfig(num_envs=2, rollout_decisions=2, batch_size=4, hidden=(4,), burn_in_rollouts=0),
        validation=ValidationConfig(every_rollouts=1, windows=1, window_s=600.0),
    )
    training = train(RunConfig(scenario="tiny", train=config), tmp_path)
    assert training.best is None
    assert training.policies[0].path is None
    assert (tmp_path / RULE).exists()
    assert not (tmp_path / BEST).exists()
    noted = json.loads((tmp_path / "seed-0/rival.json").read_text())
    validation = noted["metrics"]["validation"]
    assert noted["action"] == action
    assert validation["rule"]["value"] == training.policies[0].rule.value
    # The zero action is the rule for a residual; a direct one begins elsewhere. What is kept is the best of all tried.
    tried = [value for _, value in validation["curve"]]
    assert len(tried) == 2
    if action == "residual":
        tried.append(validation["rule"]["value"])
    assert validation["policy"]["value"] <= min(tried)
    with np.load(tmp_path / "seed-0/rival.npz") as held:
        assert held["knobs.1.weight"].shape[1] == 4
