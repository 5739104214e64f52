"""Every trace is judged by itself: what one does too well does not make up for what another lacks."""

import numpy as np
import pytest

from controller.policies.predictive import MpcPolicy, MpcSettings
from experiments.judging import Judge, mean_score, part_of
from experiments.objective import ObjectiveConfig, Outcome, Score
from experiments.run_config import RunConfig
from experiments.suite import joint_world
from experiments.train import training_worlds


def score(value: float, excess: float) -> Score:
    return Score(value, 2 * value, excess, 0.5 * excess, (0.1 * excess, 0.0), (0.9,))


def test_the_mean_of_scores_keeps_the_worst_excess() -> None:
    both = mean_score([score(1.0, 0.0), score(4.0, 0.2)])
    assert (both.cost_usd, both.excess_miss, both.accuracy_gap) == (5.0, 0.2, 0.1)
    assert both.value == pytest.approx(2.0)
    assert both.miss_share == pytest.approx((0.02,))
    alone = score(1.0, 0.1)
    assert mean_score([alone]) is alone


def test_a_tenth_counts_alike_in_a_world_whose_promises_cannot_be_kept() -> None:
    hopeless, fine = (mean_score([score(a, 0.0), score(b, 0.0)]).value for a, b in ((1.0, 27.0), (0.9, 30.0)))
    assert hopeless == pytest.approx(fine)


def test_a_part_holds_its_own_episodes() -> None:
    counts = np.arange(6).reshape(3, 2)
    whole = Outcome(np.arange(3.0), counts, counts + 1, counts + 2, counts * 0.5)
    part = part_of(whole, np.array([True, False, True]))
    assert part.cost_usd.tolist() == [0.0, 2.0]
    assert part.missed.tolist() == [[1, 2], [5, 6]]


@pytest.fixture(scope="module")
def judge() -> Judge:
    world = joint_world("default", split="validation", traces=["generated-burst", "generated-diurnal"])
    return Judge([world], len(world.days), 600.0, 0, ObjectiveConfig())


def test_the_reference_costs_one_on_every_trace(judge: Judge) -> None:
    judge.set_reference(MpcPolicy)
    parts = judge.parts(MpcPolicy)
    assert [one.trace for one in parts] == ["generated-burst", "generated-diurnal"]
    assert [one.relative_cost for one in parts] == [1.0, 1.0]
    dearer = judge.parts(lambda setting: MpcPolicy(setting, MpcSettings(headroom=3.0)))
    assert all(one.relative_cost > 1.0 for one in dearer)
    assert judge.score(MpcPolicy).value == pytest.approx(np.sqrt(np.prod([one.score.value for one in parts])))


def test_a_run_on_the_suite_trains_and_validates_on_different_days_and_variations() -> None:
    suite = {"scenarios": ["default"], "traces": ["generated-burst"], "generated": False}
    suite |= {"variations": 2, "validation_variations": 1}
    train, held_out = training_worlds(RunConfig.model_validate_json(_json({"train": {"suite": suite}})))
    assert [len(world.days) for world in train] == [6, 6, 6]
    assert [len(world.days) for world in held_out] == [1, 1]
    names = [world.setting.scenario.name for world in (*train, *held_out)]
    assert names[:3] == ["default.generated-burst", "default.generated-burst.v0", "default.generated-burst.v1"]
    assert held_out[1].setting.scenario.changes != train[1].setting.scenario.changes
    rates = [world.setting.scenario.mean_rps for world in train]
    assert train[1].rate_rps.mean() == pytest.approx(train[0].rate_rps.mean() * rates[1] / rates[0])


def _json(value: dict) -> str:
    import json

    return json.dumps(value)
