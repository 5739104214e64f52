import pytest

from controller.catalog import load_catalog
from controller.compile import compile_scenario
from controller.errors import UsageError
from controller.scenario import load_scenario
from experiments.init_commands import parse_prices
from experiments.placeholders import placeholders_in
from experiments.starting_files import chosen_app, found_pools, slug, starting_files, unique
from experiments.starting_text import catalog_text, mapping_text, scenario_text
from serving.attach_checks import found_faults
from serving.mapping import load_mapping, narrowed
from tests.unit.serving.clusters import NODES, node, survey

LARGE = "m5.large"


def files(change=lambda found: None, nodes=NODES, **prices):
    found = survey(change, nodes)
    return starting_files(found, chosen_app(found, "theirs"), prices, "catalog.yaml")


def written(tmp_path, **arguments):
    made = files(**arguments)
    for name, text in (("catalog", catalog_text), ("scenario", scenario_text), ("mapping", mapping_text)):
        (tmp_path / f"{name}.yaml").write_text(text(made))
    return made


def of_theirs(name, **config):
    return lambda found: found["applications"]["theirs"]["deployments"][name]["deployment_config"].update(config)


def test_files_load_and_compile_and_fit_the_cluster_they_were_read_from(tmp_path):
    written(tmp_path)
    scenario = load_scenario(tmp_path / "scenario.yaml")
    mapping = load_mapping(tmp_path / "mapping.yaml")
    catalog = narrowed(scenario.load_catalog(), mapping)
    assert catalog == load_catalog(tmp_path / "catalog.yaml")  # nothing had to be left out
    assert compile_scenario(scenario, catalog).shape == (2, 2, 1)
    assert load_scenario(mapping.scenario).name == "theirs"
    assert found_faults(mapping, catalog, survey(), "/provisor", sets_targets=True) == []


def test_nodes_that_are_alike_are_one_pool():
    pools = {pool.name: pool for pool in found_pools(survey())}
    assert {name: [n.node_id for n in pool.nodes] for name, pool in pools.items()} == {
        "m5.large-od": ["head", "od"],
        "m5.large-spot": ["spot"],
    }
    # What both kinds share tells nothing.
    assert pools["m5.large-spot"].labels == {"ray.io/market-type": "spot"}


def test_node_group_names_a_pool():
    groups = [node(f"n{i}", "on-demand", labels={"ray.io/node-group": f"group_{i % 2}"}) for i in range(4)]
    assert [(p.name, len(p.nodes)) for p in found_pools(survey(nodes=groups))] == [("group-0", 2), ("group-1", 2)]


def test_node_without_labels_is_told_by_its_size():
    bare = [node("a", "x") | {"Labels": {}}, node("b", "x", CPU=8.0, GPU=1.0) | {"Labels": {}}]
    assert [pool.name for pool in found_pools(survey(nodes=bare))] == ["2-cpu-od", "8-cpu-1-gpu-od"]


def test_deployment_is_placed_where_it_runs_and_else_where_it_fits():
    deployments = files().mapping["deployments"]
    assert {name: one["pool"] for name, one in deployments.items()} == {
        "resnet-small": "m5.large-od",
        "resnet-large": "m5.large-spot",
    }
    idle = files(lambda f: f["applications"]["theirs"]["deployments"]["resnet-large"].update(replicas=[]))
    assert idle.mapping["deployments"]["resnet-large"]["pool"] == "m5.large-spot"  # its label selector


def test_deployment_in_two_pools_is_said():
    replicas = [{"state": "RUNNING", "node_id": name} for name in ("od", "od", "spot")]
    made = files(lambda f: f["applications"]["theirs"]["deployments"]["resnet-small"].update(replicas=replicas))
    assert made.mapping["deployments"]["resnet-small"]["pool"] == "m5.large-od"
    assert any("runs on nodes of ['m5.large-od', 'm5.large-spot']" in note for note in made.notes)


def test_ingress_is_left_out_unless_it_is_alone():
    assert "Gate" not in files().mapping["deployments"]
    assert any("'Gate'" in note for note in files().notes)

    def alone(found):
        deployments = found["applications"]["theirs"]["deployments"]
        for name in ("resnet-small", "resnet-large"):
            del deployments[name]

    assert list(files(alone).mapping["deployments"]) == ["Gate"]


def test_prices_are_asked_for_and_taken_as_given():
    unknown = {p["name"]: p["price_usd_per_hour"] for p in files().catalog["pools"]}
    assert all(price["derived"].startswith("placeholder: ") for price in unknown.values())
    given = files(**{"m5.large": 0.096, "m5.large-spot": 0.03})
    assert {p["name"]: p["price_usd_per_hour"] for p in given.catalog["pools"]} == {
        "m5.large-od": {"value": 0.096, "measured": "given as --price"},
        "m5.large-spot": {"value": 0.03, "measured": "given as --price"},
    }
    with pytest.raises(UsageError, match="--price: expected a pool or instance type of .*, got 'm5.huge'"):
        files(**{"m5.huge": 1.0})


def test_everything_unknown_is_marked_with_where_to_get_it(tmp_path):
    written(tmp_path)
    text = (tmp_path / "catalog.yaml").read_text()
    marked = [line for line in text.splitlines() if '"placeholder: ' in line]
    assert all("  # measure: provisor profile" in line or "  # ask: " in line for line in marked)
    assert any("price_usd_per_hour" in line and "# ask: your provider" in line for line in marked)
    assert any("service_slope_s" in line and "# measure: provisor profile" in line for line in marked)
    unknown = placeholders_in(load_catalog(tmp_path / "catalog.yaml"))
    assert "pools[m5.large-od].price_usd_per_hour" in unknown
    assert "profiles[resnet-small on m5.large-od].service_slope_s" in unknown
    assert not [path for path in unknown if "vcpus" in path or "quota" in path]
    assert "slo_s: 1.0  # ask:" in (tmp_path / "scenario.yaml").read_text()


def test_calls_at_once_are_what_the_deployment_takes():
    profiles = {
        p["variant"]: p for p in files(of_theirs("resnet-small", user_config={"max_batch_size": 4})).catalog["profiles"]
    }
    # 8 calls at once: two batches of 4, or 8 single ones.
    assert (profiles["resnet-small"]["batch_max"], profiles["resnet-small"]["concurrency"]) == (4, 2)
    assert (profiles["resnet-large"]["batch_max"], profiles["resnet-large"]["concurrency"]) == (1, 8)
    (many,) = (
        p
        for p in files(of_theirs("resnet-small", max_ongoing_requests=1000)).catalog["profiles"]
        if p["variant"] == "resnet-small"
    )
    assert many["concurrency"] == 16


def test_quota_leaves_room_to_grow_from_what_stands():
    change = lambda f: f["applications"]["theirs"]["deployments"]["resnet-small"].update(target_num_replicas=7)  # noqa: E731
    quota = {p["name"]: p["quota"] for p in files(change).catalog["pools"]}
    assert quota == {"m5.large-od": 14, "m5.large-spot": 4}


def test_application_that_scales_itself_is_told_what_to_change():
    assert not [note for note in files().notes if "external_scaler_enabled" in note]
    made = files(of_theirs("resnet-small", autoscaling_config={"min_replicas": 1}))
    assert [note for note in made.notes if "external_scaler_enabled: true" in note]


def test_application_is_chosen_by_name_or_because_it_is_alone():
    with pytest.raises(UsageError, match="--app"):
        chosen_app(survey(), None)
    with pytest.raises(UsageError, match=r"--app: expected one of .*\['other', 'theirs'\], got 'nobody'"):
        chosen_app(survey(), "nobody")
    ours_beside = survey(lambda f: f["applications"].update(provisor=f["applications"].pop("other")))
    assert chosen_app(ours_beside, None).name == "theirs"


def test_names_are_names_of_a_catalog_and_distinct():
    assert [slug(text) for text in ("ResNet_50", "a b", "--", "LLM:7B")] == ["resnet-50", "a-b", "model", "llm-7b"]
    assert unique(["a", "b", "a"]) == ["a", "b", "a-2"]


@pytest.mark.parametrize("option", ["m5.large", "m5.large=cheap", "=1", "m5.large=-1", "m5.large=nan", "m5.large=inf"])
def test_price_of_another_form_is_refused(option):
    with pytest.raises(UsageError, match="--price"):
        parse_prices((option,))


def test_price_is_read():
    assert parse_prices(("m5.large=0.096", "spot=0.03")) == {"m5.large": 0.096, "spot": 0.03}
    with pytest.raises(UsageError, match="each pool once"):
        parse_prices(("a=1", "a=2"))
