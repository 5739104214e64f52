"""The loop from captured traffic to a policy that may be pushed: each part takes what the one before it wrote."""

from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3")

from controller import cli
from controller.journal import Journal
from controller.policies.policy_file import load_policy_file
from envs.world import WorldChoice
from experiments.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # compiles every kernel once

LIKE = """
name: small
policies: [mpc]
train:
  steps: 64
  fit_forecaster: false
  tune: {trials: 0}
  episode_decisions: 8
  ppo: {num_envs: 4, rollout_decisions: 8, batch_size: 32, epochs: 1, hidden: [8], burn_in_rollouts: 0}
  validation: {every_rollouts: 2, windows: 1, window_s: 1200.0}
"""


def test_captured_traffic_becomes_a_policy_that_is_judged_on_it(tmp_path: Path) -> None:
    done = simulate("tiny", "mpc", choice=WorldChoice(days=(3, 3)), ticks=60, out=tmp_path / "run")
    journal = done.journals[0]
    (tmp_path / "like.yaml").write_text(LIKE, encoding="utf-8")
    captured, trained = tmp_path / "captured", tmp_path / "train"
    policy = str(trained / "policy.provisor")

    words = ["capture", str(journal), "--write-run", "--out", str(captured), "--like", str(tmp_path / "like.yaml")]
    assert cli.main(words) == 0
    assert cli.main(["train", str(captured / "run.yaml"), "--out", str(trained)]) == 0
    manifest = load_policy_file(policy).manifest
    assert manifest.catalog_sha256 == Journal(journal).header.catalog_fingerprint
    # Of 64 decisions nothing is learned: the rule is exported, which is not surely cheaper than itself.
    assert cli.main(["what-if", str(journal), "--policy", policy, "--gate", policy, "--seeds", "2"]) == 1
    assert cli.main(["what-if", str(journal), "--policy", policy, "--seeds", "2"]) == 0
