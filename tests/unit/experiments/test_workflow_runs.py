"""A workflow of several operators is simulated, replayed and evaluated by the same commands as any scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from controller import cli
from controller.errors import ConfigError
from controller.policies.registry import make_policy
from envs.stepper import EnvOptions, Stepper
from envs.world import World, WorldChoice, build_world
from experiments.rollout import WORKFLOW_HEADROOM, prepare
from tests.flows import FAN_IN, documents, flow_setting
from tests.tiny import FN, LARGE, MEDIUM, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

FLEET = {"small@od": 2, "medium@od": 3, "large@od": 4}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Scenario and policy as a user writes them."""
    catalog, scenario = documents(FAN_IN)
    scenario |= {"catalog": "flows.yaml", "mean_rps": 10.0}
    policy = {"kind": "static", "settings": {"replicas": FLEET}}
    for name, document in (("flows", catalog), ("scenario", scenario), ("policy", policy)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return tmp_path / "scenario.yaml", tmp_path / "policy.yaml"


def flow_world() -> World:
    setting = flow_setting(FAN_IN)
    return build_world(setting.scenario, WorldChoice(days=(1, 1)), setting)


def test_the_commands_take_a_workflow(files: tuple[Path, Path], tmp_path: Path) -> None:
    scenario, policy = (str(path) for path in files)
    run = tmp_path / "run"
    assert cli.main(["simulate", scenario, "--policy", policy, "--ticks", "30", "--out", str(run)]) == 0
    rows = yaml.safe_load((run / "results.json").read_text(encoding="utf-8"))
    assert rows[0]["requests"] > 0
    assert rows[0]["attainment"] > 0.9
    (journal,) = run.glob("*journal.jsonl.gz")
    assert cli.main(["replay", str(journal)]) == 0


def test_a_run_starts_with_machines_for_every_operator() -> None:
    world = flow_world()
    start = prepare(world, world.cells([0])[:1])
    catalog, control = world.setting.catalog, world.setting.control
    rate_rps = start.history[0, :, -1].sum() / control.tick_s
    assert (start.replicas[0, :, FN] == 0).all()
    for v in (SMALL, MEDIUM, LARGE):
        capacity_rps = (start.replicas[0, v] / catalog.service_s[v, :, 1]).sum()
        assert capacity_rps >= WORKFLOW_HEADROOM * rate_rps - 1e-9
        # The cheapest option alone, so no more than a replica above it.
        assert np.count_nonzero(start.replicas[0, v]) == 1


def test_what_sizes_fleets_by_class_refuses_a_workflow() -> None:
    world = flow_world()
    message = r"policy: expected 'static' with replicas, .* for class 'strict' of 3 operators"
    for spec in ("mpc", "reactive", "static"):
        with pytest.raises(ConfigError, match=message):
            make_policy(spec, world.setting)
    with pytest.raises(ConfigError, match=message):
        Stepper(world, 1, EnvOptions())
