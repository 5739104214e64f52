import pytest
import yaml

from controller.errors import ConfigError
from serving.mapping import load_mapping, narrowed
from tests.unit.serving.worlds import catalog

WHOLE = {
    "app": "theirs",
    "scenario": "tiny",
    "deployments": {
        "resnet-small": {"variant": "small", "pool": "od"},
        "resnet-large": {"variant": "large", "pool": "spot", "method": "predict", "input": "batch"},
    },
    "pools": {"spot": {"labels": {"ray.io/market-type": "spot"}}},
}


def written(tmp_path, **changes):
    path = tmp_path / "mapping.yaml"
    path.write_text(yaml.safe_dump(WHOLE | changes))
    return path


def test_mapping_is_read_with_its_defaults(tmp_path):
    found = load_mapping(written(tmp_path))
    assert (found.deployments["resnet-small"].method, found.deployments["resnet-small"].input) == ("__call__", "single")
    assert found.pools["spot"].labels == {"ray.io/market-type": "spot"}
    assert found.control == {}


def test_scenario_is_looked_for_beside_the_mapping(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert load_mapping(written(tmp_path, scenario="mine.yaml")).scenario == str(tmp_path / "mine.yaml")
    assert load_mapping(written(tmp_path, scenario="other.yaml")).scenario == "other.yaml"
    assert load_mapping(written(tmp_path)).scenario == "tiny"


SMALL_OD = {"variant": "small", "pool": "od"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"app": "provisor"}, "expected an application of somebody else"),
        ({"app": ""}, "app"),
        ({"deployments": {}}, "deployments"),
        ({"deployments": {"a": SMALL_OD, "b": SMALL_OD}}, "each variant on a pool once.*as for 'a'"),
        ({"deployments": {"a": SMALL_OD | {"method": "a b"}}}, "deployments.a.method"),
        (
            {"deployments": {"a": SMALL_OD | {"input": "list"}}},
            "deployments.a.input: expected .*single.*batch.*got 'list'",
        ),
        ({"deployments": {"a": SMALL_OD | {"wait": 1}}}, "wait"),
        ({"deployments": {"a": {"variant": "small"}}}, "deployments.a.pool"),
        ({"pools": {"lambda": {"labels": {}}}}, "expected pools of the deployments .*got 'lambda'"),
    ],
)
def test_wrong_field_is_named(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=f"(?s){text}"):
        load_mapping(written(tmp_path, **changes))


def test_deployment_mapped_twice_is_refused(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "app: theirs\nscenario: tiny\ndeployments:\n  a: {variant: v, pool: p}\n  a: {variant: w, pool: p}\n"
    )
    with pytest.raises(ConfigError, match="got 'a' again"):
        load_mapping(path)


def test_catalog_is_narrowed_to_what_is_mapped(tmp_path):
    found = narrowed(catalog(), load_mapping(written(tmp_path)))
    assert {(p.variant, p.pool) for p in found.profiles} == {("small", "od"), ("large", "spot")}
    assert [p.name for p in found.pools] == ["od", "spot"]
    again = load_mapping(written(tmp_path))
    assert narrowed(found, again) is found


@pytest.mark.parametrize(
    ("one", "text"),
    [
        ({"variant": "huge", "pool": "od"}, r"deployments.a.variant: expected one of \['large', 'small'\], got 'huge'"),
        ({"variant": "small", "pool": "moon"}, "deployments.a.pool: expected one of .*, got 'moon'"),
        ({"variant": "small", "pool": "lambda"}, "deployments.a.pool: expected a pool of machines"),
    ],
)
def test_unknown_variant_or_pool_is_named(tmp_path, one, text):
    with pytest.raises(ConfigError, match=text):
        narrowed(catalog(), load_mapping(written(tmp_path, deployments={"a": one}, pools={})))


def test_option_without_profile_is_named(tmp_path):
    whole = catalog()
    without = whole.model_copy(update={"profiles": tuple(p for p in whole.profiles if p.pool != "spot")})
    with pytest.raises(ConfigError, match="resnet-large: expected a profile of 'large' on 'spot'"):
        narrowed(without, load_mapping(written(tmp_path)))
