import pytest

from serving.survey import selects
from tests.unit.serving.clusters import node, survey


def test_deployments_are_read_with_what_attaching_needs():
    theirs = survey().apps["theirs"]
    assert (theirs.is_external, theirs.ingress, theirs.route_prefix) == (True, "Gate", "/theirs")
    large = theirs.deployments["resnet-large"]
    assert (large.target, large.max_ongoing, large.has_autoscaling) == (1, 8, False)
    assert large.selector == {"ray.io/market-type": "spot"}
    assert [(r.state, r.node_id) for r in large.replicas] == [("RUNNING", "spot")]


def test_what_serve_leaves_unset_is_its_default():
    found = survey(lambda d: d["applications"]["other"]["deployments"]["web"].pop("deployment_config"))
    web = found.apps["other"].deployments["web"]
    assert (web.max_ongoing, web.has_autoscaling, web.selector) == (5, False, {})
    assert not found.apps["other"].is_external


def test_batch_size_is_seen_where_the_user_configuration_names_it():
    def change(found):
        configs = found["applications"]["theirs"]["deployments"]
        configs["resnet-small"]["deployment_config"]["user_config"] = {"max_batch_size": 16}
        configs["resnet-large"]["deployment_config"]["user_config"] = {"max_batch_size": "many"}

    deployments = survey(change).apps["theirs"].deployments
    assert [deployments[name].max_batch_size for name in ("resnet-small", "resnet-large", "Gate")] == [16, None, None]


def test_dead_nodes_are_left_out_and_the_head_is_known():
    dead = node("gone", "spot") | {"Alive": False}
    found = survey(nodes=[node("head", "on-demand", **{"node:__internal_head__": 1.0}), dead])
    assert [(n.node_id, n.is_head) for n in found.nodes] == [("head", True)]
    assert found.node("gone") is None


@pytest.mark.parametrize(
    ("wanted", "value", "is_selected"),
    [
        ("spot", "spot", True),
        ("spot", "on-demand", False),
        ("!spot", "on-demand", True),
        ("!spot", "spot", False),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", "a", False),
        ("spot", None, False),
        ("!spot", None, True),
    ],
)
def test_selectors_are_read_as_ray_writes_them(wanted, value, is_selected):
    labels = {} if value is None else {"market": value}
    assert selects({"market": wanted}, labels) is is_selected
