"""The data sheet says what the environments really have: keys, sizes, ranges, ids."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest

import envs
from controller.cli import main
from controller.observation import FIELDS, OBSERVATION_SIZE, observation_sha256
from controller.rule_arrays import KNOB_EFFECTS, KNOB_SPECS, KNOBS, NUM_KNOBS
from envs.datasheet import datasheet
from envs.info import INFO


@pytest.fixture(scope="module")
def sheet() -> str:
    return datasheet("tiny")


def rows_of(sheet: str, section: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    lines = sheet.split(f"## {section}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def test_info_has_exactly_the_keys_of_the_sheet(sheet: str) -> None:
    keys = {row[0]: row[1] for row in rows_of(sheet, "Info")}
    env = gym.make(envs.SERVING_ENV, scenario="tiny")
    for info in (env.reset(seed=0)[1], env.step(np.zeros(NUM_KNOBS, np.float32))[4]):
        assert list(info) == list(keys) == [key.name for key in INFO]
        for key, value in info.items():
            if isinstance(value, dict):
                assert keys[key] == f"dict: {', '.join(value)}"
            else:
                assert keys[key] == "number"
                assert isinstance(value, int | float)


def test_parts_of_the_bill_sum_to_it() -> None:
    env = gym.make(envs.SERVING_ENV, scenario="tiny")
    env.reset(seed=0)
    info = env.step(np.zeros(NUM_KNOBS, np.float32))[4]
    assert info["cost_usd"] > 0
    assert sum(info["cost_usd_by_term"].values()) == pytest.approx(info["cost_usd"])


def test_observation_of_the_sheet_fills_the_space(sheet: str) -> None:
    rows = rows_of(sheet, "Observation")
    places = [int(row[0]) for row in rows]
    sizes = [int(re.fullmatch(r"\((\d+),\)", row[1]).group(1)) for row in rows]
    assert places == np.cumsum([0, *sizes[:-1]]).tolist()
    env = gym.make(envs.SERVING_ENV, scenario="tiny")
    assert sum(sizes) == OBSERVATION_SIZE == env.observation_space.shape[0]


def test_action_of_the_sheet_fills_the_space(sheet: str) -> None:
    assert tuple(row[1] for row in rows_of(sheet, "Action")) == KNOBS
    assert gym.make(envs.SERVING_ENV, scenario="tiny").action_space.shape == (NUM_KNOBS,)
    assert {knob.effect for knob in KNOB_SPECS} == set(KNOB_EFFECTS)


@pytest.mark.parametrize("name", ["spot-storm", "many-classes"])
def test_observations_stay_within_the_ranges_of_the_sheet(name: str) -> None:
    env = gym.make(envs.SERVING_ENV, scenario=name)
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=0)[0]]
    seen += [env.step(rng.choice([-1.0, 0.0, 1.0], NUM_KNOBS).astype(np.float32))[0] for _ in range(60)]
    at = 0
    for field in FIELDS:
        values = np.stack(seen)[:, at : at + field.size]
        assert values.min() >= field.low, field.name
        assert values.max() <= field.high, field.name
        at += field.size


def test_headroom_reaches_as_far_as_the_sheet_says(sheet: str) -> None:
    from controller.policies.predictive import MpcPolicy
    from tests.tiny import steady_observation, tiny_setting

    low, high = map(float, re.fullmatch(r"x ([\d.]+) to x ([\d.]+)", rows_of(sheet, "Action")[0][6]).groups())
    policy = MpcPolicy(tiny_setting())
    observation, needs = steady_observation(policy.setting, 50.0), []
    for knob in (-1.0, 0.0, 1.0):
        policy.reset(1)
        policy.knobs[0, 0] = knob
        needs.append(policy.decide(observation).need_rps[0])
    # The sheet prints two digits.
    assert [needs[0] / needs[1], needs[2] / needs[1]] == pytest.approx([low, high], rel=0.02)


def test_units_do_not_change_the_identity_that_policy_files_hold() -> None:
    assert observation_sha256() == "6a83dd5bf32fe5dde63f1432f2ce502846f494596b7ab4ad70dc9044d35db3c2"


def test_verb_prints_the_sheet_and_every_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--scenario", "many-classes"]) == 0
    shown = capsys.readouterr().out
    for env_id, scenario in envs.IDS.items():
        assert f"| {env_id} | {scenario} |" in shown
    assert shown.strip() == datasheet("many-classes")
    assert rows_of(shown, "Scenario `many-classes`")[0][0] == "description"


def test_verb_names_an_unknown_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--scenario", "nope"]) == 2
    assert "got 'nope'" in capsys.readouterr().err
