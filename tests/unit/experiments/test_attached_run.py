import pytest
import yaml

from controller.errors import ConfigError, ScenarioError, UsageError
from controller.trust.mode import Mode
from experiments.attached_run import attached_scenario
from experiments.live import LiveOptions, require_unnamed
from experiments.placeholders import placeholder
from serving.attached import restore_targets
from tests.unit.serving import worlds

MAPPING = {
    "app": "theirs",
    "scenario": "scenario.yaml",
    "deployments": {"a": {"variant": "small", "pool": "od"}, "b": {"variant": "large", "pool": "od"}},
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "catalog", worlds.catalog().model_dump(mode="json", exclude_unset=True))
    scenario = worlds.scenario().model_dump(mode="json", exclude_unset=True) | {"catalog": "./catalog.yaml"}
    write(tmp_path, "scenario", scenario)
    write(tmp_path, "mapping", MAPPING)
    return tmp_path


def write(folder, name, value):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(value, sort_keys=False))


def options(folder, **changes):
    return LiveOptions(**{"attach": folder / "mapping.yaml", "address": "10.0.0.1:6379", **changes})


def test_scenario_of_the_mapping_is_served_with_its_mapped_options_alone(folder):
    mapping, scenario, catalog = attached_scenario(options(folder))
    assert (mapping.app, scenario.name) == ("theirs", "two-classes")
    assert {(p.variant, p.pool) for p in catalog.profiles} == {("small", "od"), ("large", "od")}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"address": None}, "--address: expected host:port of the cluster, with --attach"),
        ({"models": {"small": "my:model"}}, "--model"),
        ({"is_replaying": True, "duration_s": 10.0}, "--input: expected what to send to the application"),
        ({"attach": None}, "--attach"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, changes, text):
    with pytest.raises(UsageError, match=text):
        attached_scenario(options(folder, **changes))


@pytest.mark.parametrize("changes", [("--scenario", "demo", None), ("RUN.yaml", None, "run.yaml")])
def test_scenario_is_named_by_the_mapping_alone(changes):
    option, scenario, run_file = changes
    with pytest.raises(UsageError, match=option):
        require_unnamed(scenario, run_file)
    require_unnamed(None, None)


def test_real_machines_run_at_no_other_speed(folder):
    with pytest.raises(ScenarioError, match="speed: expected 1 with --attach"):
        attached_scenario(options(folder, speed=20.0))


def test_mapping_that_does_not_fit_the_catalog_is_refused(folder):
    write(folder, "mapping", MAPPING | {"deployments": {"a": {"variant": "huge", "pool": "od"}}})
    with pytest.raises(ConfigError, match="deployments.a.variant"):
        attached_scenario(options(folder))


def test_decisions_on_placeholders_do_not_act(folder):
    catalog = worlds.catalog().model_dump(mode="json", exclude_unset=True)
    catalog["pools"][0]["price_usd_per_hour"] = placeholder(1.0, "ask your provider")
    write(folder, "catalog", catalog)
    with pytest.raises(UsageError, match=r"1 placeholders \(pools\[od\].price_usd_per_hour"):
        attached_scenario(options(folder))
    assert attached_scenario(options(folder, mode=Mode.REPLAY))[0].app == "theirs"
    # A placeholder of a pool that is not mapped is nobody's concern.
    catalog["pools"][0]["price_usd_per_hour"] = {"value": 1.0, "derived": "chosen"}
    catalog["pools"][1]["notice_s"] = placeholder(120.0, "ask your provider")
    write(folder, "catalog", catalog)
    attached_scenario(options(folder))


class Refusing:
    """Serve's controller, for which one deployment is gone."""

    def __init__(self):
        self.targets = {}
        self.update_deployment_replicas = self

    def remote(self, identity, count):
        if identity.name == "gone":
            return ValueError("Deployment gone not found")
        self.targets[identity.app_name, identity.name] = count
        return None


def test_targets_are_restored_one_by_one(monkeypatch):
    def answer(reference, timeout):
        if isinstance(reference, Exception):
            raise reference

    monkeypatch.setattr("ray.get", answer)
    controller = Refusing()
    failed = restore_targets(controller, "theirs", {"a": 2, "gone": 1, "b": 0})
    assert failed == ["gone: ValueError: Deployment gone not found"]
    assert controller.targets == {("theirs", "a"): 2, ("theirs", "b"): 0}
