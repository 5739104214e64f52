"""Simulated runs with the rails of a live one: who drives, and what it comes to."""

import numpy as np
import pytest

from controller.observation import OBSERVATION_SIZE
from controller.policies.policy_file import InputRange, PolicyContent, save_policy_file
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.benchmark_cells import BenchmarkCell, WorldSource, run_cell
from experiments.railed import RailedLoop, has_rails
from experiments.rollout import prepare, roll
from tests.networks import make_content

NEVER_SEEN = InputRange(low=(1e6,) * OBSERVATION_SIZE, high=(1e6 + 1,) * OBSERVATION_SIZE, samples=1)
ALL_SEEN = InputRange(low=(-1e6,) * OBSERVATION_SIZE, high=(1e6,) * OBSERVATION_SIZE, samples=1)


@pytest.fixture(scope="module")
def world():
    return build_world(load_scenario("tiny"), WorldChoice(days=(2, 2)))


@pytest.fixture(scope="module")
def policy(world, tmp_path_factory):
    """Paths of a policy that has seen everything, and of the same one that has seen nothing like this."""
    folder = tmp_path_factory.mktemp("policies")
    content = make_content(world.setting, 0.4)
    paths = []
    for name, known in (("knows", ALL_SEEN), ("drifts", NEVER_SEEN)):
        path = folder / f"{name}.provisor"
        manifest = content.manifest.model_copy(update={"input_range": known})
        save_policy_file(path, PolicyContent(manifest, content.tensors))
        paths.append(str(path))
    return paths


def rolled(world, policy, ticks=180):
    return roll(world, prepare(world, world.cells((0,))), policy, ticks=ticks)


def test_policy_that_knows_its_inputs_drives_as_without_rails(world, policy):
    knows, _ = policy
    railed, plain = rolled(world, RailedLoop(world.setting, knows)), rolled(world, knows)
    assert railed.ruled.tolist() == [0]
    np.testing.assert_array_equal(railed.spend_usd, plain.spend_usd)
    np.testing.assert_array_equal(railed.missed, plain.missed)


def test_rule_behind_the_policy_drives_where_its_inputs_were_never_seen(world, policy):
    _, drifts = policy
    railed = rolled(world, RailedLoop(world.setting, drifts))
    # The third tick in a row makes it sure.
    assert railed.ruled.tolist() == [178]
    assert railed.spend_usd.sum() != pytest.approx(rolled(world, drifts).spend_usd.sum(), rel=1e-6)


def test_run_begins_anew_with_the_policy(world, policy):
    _, drifts = policy
    loop = RailedLoop(world.setting, drifts)
    first, again = rolled(world, loop, 20), rolled(world, loop, 20)
    assert first.ruled.tolist() == again.ruled.tolist() == [18]
    np.testing.assert_array_equal(first.spend_usd, again.spend_usd)


def test_rails_are_for_one_env(world, policy):
    with pytest.raises(ValueError, match="num_envs: expected 1 with rails, got 2"):
        RailedLoop(world.setting, policy[0]).reset(2)


def test_watched_days_of_a_policy_file_have_rails_each_by_itself(policy):
    _, drifts = policy
    assert has_rails(drifts)
    assert not has_rails("mpc")
    source = WorldSource(scenario="tiny", days=(2, 3))
    cell = BenchmarkCell(world=source, policy=drifts, seed=0, hours=0.2)
    days = run_cell(cell).days
    assert [day.day for day in days] == [2, 3]
    assert all(day.ruled_ticks >= 70 for day in days)  # of 72; misses may make it sure sooner
    unwatched = run_cell(cell.model_copy(update={"is_watched": False})).days
    assert [day.ruled_ticks for day in unwatched] == [None, None]
