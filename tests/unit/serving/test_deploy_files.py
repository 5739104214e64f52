"""The examples of how to deploy: each is valid where it goes, they agree, and a wrong one is refused."""

import json
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from controller.config import read_yaml
from serving.mapping import load_mapping
from serving.shim import ProvisorPolicy
from serving.survey import selects
from tests.unit.serving.kuberay_schema import SCHEMAS

FOLDER = Path(__file__).resolve().parents[3] / "serving" / "deploy"
RAY_SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
POOLS = ("od-small", "spot-small")


def example(name):
    return deepcopy(read_yaml(FOLDER / f"{name}.yaml"))


def cluster_spec(name):
    found = example(name)["spec"]
    return found["rayClusterConfig"] if name == "rayservice" else found


def is_valid(name, document):
    schema = RAY_SCHEMA if name == "aws" else SCHEMAS[name]
    return jsonschema.Draft7Validator(schema).is_valid(document)


def changed(name, change):
    document = example(name)
    change(document)
    return document


@pytest.mark.parametrize("name", ["aws", *SCHEMAS])
def test_example_is_valid(name):
    jsonschema.validate(example(name), RAY_SCHEMA if name == "aws" else SCHEMAS[name], jsonschema.Draft7Validator)


def group(document, at=0):
    spec = document["spec"]
    return spec.get("rayClusterConfig", spec)["workerGroupSpecs"][at]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("aws", lambda d: d.pop("cluster_name")),
        ("aws", lambda d: d.update(max_worker=3)),
        ("aws", lambda d: d["available_node_types"]["spot-small"].pop("node_config")),
        ("aws", lambda d: d["available_node_types"]["spot-small"]["resources"].update(CPU="4")),
        ("aws", lambda d: d["available_node_types"]["spot-small"]["labels"].update({"ray.io/market-type": 1})),
        ("raycluster", lambda d: d.update(kind="RayService")),
        ("raycluster", lambda d: d["spec"].update(enableInTreeAutoscaling="true")),
        ("raycluster", lambda d: d["spec"]["autoscalerOptions"].update(version="v3")),
        ("raycluster", lambda d: d["spec"]["autoscalerOptions"].update(idleTimeoutMinutes=1)),
        ("raycluster", lambda d: d["spec"].pop("headGroupSpec")),
        ("raycluster", lambda d: group(d).pop("groupName")),
        ("raycluster", lambda d: group(d).update(minReplicas=-1)),
        ("raycluster", lambda d: group(d)["rayStartParams"].update({"num-cpus": 3})),
        ("raycluster", lambda d: group(d)["rayStartParams"].update(labels="a=b")),
        ("raycluster", lambda d: group(d)["labels"].update({"ray.io/market-type": "on demand"})),
        ("raycluster", lambda d: group(d)["template"]["spec"]["containers"][0].pop("image")),
        ("rayservice", lambda d: d["spec"].update(serveConfigV2={"applications": []})),
        ("rayservice", lambda d: group(d).update(maxReplica=3)),
        ("rayjob", lambda d: d["spec"].pop("entrypoint")),
        ("rayjob", lambda d: d["spec"].update(submissionMode="Job")),
    ],
)
def test_wrong_field_is_refused(name, change):
    assert not is_valid(name, changed(name, change))


@pytest.mark.parametrize("name", ["raycluster", "rayservice"])
def test_ray_itself_reads_the_pools_from_the_cluster(name):
    # What the autoscaler beside the head makes of the resource, checked by it against its own schema.
    document = {"metadata": {"name": "serving", "namespace": "default"}, "spec": cluster_spec(name)}
    found = _derive_autoscaling_config_from_ray_cr(document)
    types = found["available_node_types"]
    assert {key: types[key]["labels"].get("provisor.io/pool") for key in POOLS} == dict(zip(POOLS, POOLS, strict=True))
    assert {key: (types[key]["min_workers"], types[key]["max_workers"]) for key in POOLS} == {
        "od-small": (1, 8),
        "spot-small": (0, 16),
    }
    assert types["headgroup"]["resources"]["CPU"] == 0


def test_service_runs_on_the_cluster_of_the_other_example():
    assert cluster_spec("rayservice") == cluster_spec("raycluster")


def labels_of(name):
    """Labels of the worker pools, and of the head, by name."""
    if name == "aws":
        types = example(name)["available_node_types"]
        return {key: one["labels"] for key, one in types.items()}
    spec = cluster_spec(name)
    groups = {one["groupName"]: one["labels"] for one in spec["workerGroupSpecs"]}
    return groups | {"head": spec["headGroupSpec"]["labels"]}


@pytest.mark.parametrize("name", ["aws", "raycluster", "rayservice"])
def test_labels_are_those_of_the_mapping_and_tell_pools_apart(name):
    mapping, found = load_mapping(FOLDER / "mapping.yaml"), labels_of(name)
    assert set(mapping.pools) == set(POOLS) == set(found) - {"head"}
    for pool, mapped in mapping.pools.items():
        assert [key for key, labels in found.items() if selects(mapped.labels, labels)] == [pool]
    # Router and controller can be on the head alone, which is of no pool.
    assert [key for key, labels in found.items() if selects(mapping.control, labels)] == ["head"]


def test_spot_is_bought_where_the_labels_say_so():
    types = example("aws")["available_node_types"]
    bought = {key: one["node_config"].get("InstanceMarketOptions", {}).get("MarketType") for key, one in types.items()}
    assert bought == {"head": None, "od-small": None, "spot-small": "spot"}
    for one in cluster_spec("raycluster")["workerGroupSpecs"]:
        market = one["template"]["spec"]["nodeSelector"]["karpenter.sh/capacity-type"]
        assert market == one["labels"]["ray.io/market-type"]


def serve_config(name):
    from ray.serve.schema import ServeDeploySchema

    value = example(name) if name != "rayservice" else yaml.safe_load(example(name)["spec"]["serveConfigV2"])
    return ServeDeploySchema.model_validate(value)


def test_service_deploys_what_the_mapping_names_and_lets_it_be_scaled():
    (app,) = serve_config("rayservice").applications
    mapping = load_mapping(FOLDER / "mapping.yaml")
    assert (app.name, app.external_scaler_enabled) == (mapping.app, True)
    assert {one.name for one in app.deployments} == set(mapping.deployments)
    for one in app.deployments:
        selector = one.ray_actor_options.label_selector
        assert selects(selector, mapping.pools[mapping.deployments[one.name].pool].labels)


def test_policy_of_the_yaml_is_ours_and_its_decisions_are_not_delayed():
    (app,) = serve_config("serve_with_policy").applications
    policy = app.autoscaling_policy
    policy = policy if isinstance(policy, dict) else policy.model_dump()
    assert policy["policy_function"] == f"{ProvisorPolicy.__module__}:{ProvisorPolicy.__name__}"
    ProvisorPolicy(**policy["policy_kwargs"])
    for one in app.deployments:
        config = one.autoscaling_config
        config = config if isinstance(config, dict) else config.model_dump()
        assert config["upscale_delay_s"] == config["downscale_delay_s"] == config["downscale_to_zero_delay_s"] == 0


def test_job_asks_for_what_the_command_takes():
    import click

    from experiments.serve_commands import serve

    words = example("rayjob")["spec"]["entrypoint"].split()
    assert words[:2] == ["provisor", "serve"]
    context = serve.make_context("serve", [word.replace("$RAY_ADDRESS", "10.0.0.1:6379") for word in words[2:]])
    assert isinstance(context, click.Context)
    assert (context.params["attach"], context.params["address"]) == ("/etc/provisor/mapping.yaml", "10.0.0.1:6379")
