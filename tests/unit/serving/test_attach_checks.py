import pytest

from controller.config import parse_config
from controller.errors import ClusterError
from serving.attach_checks import check_attachable, found_faults
from serving.mapping import AttachMapping, narrowed
from tests.unit.serving.clusters import survey
from tests.unit.serving.worlds import catalog

DEPLOYMENTS = {
    "resnet-small": {"variant": "small", "pool": "od"},
    "resnet-large": {"variant": "large", "pool": "spot", "input": "batch"},
}


def mapping(**changes):
    value = {
        "app": "theirs",
        "scenario": "tiny",
        "deployments": DEPLOYMENTS,
        "pools": {
            "od": {"labels": {"ray.io/market-type": "on-demand"}},
            "spot": {"labels": {"ray.io/market-type": "spot"}},
        },
    }
    return parse_config(value | changes, AttachMapping, "mapping")


def faults(change=lambda found: None, sets_targets=True, prefix="/provisor", **changes):
    mapped = mapping(**changes)
    return found_faults(mapped, narrowed(catalog(), mapped), survey(change), prefix, sets_targets=sets_targets)


def theirs(**changes):
    return lambda found: found["applications"]["theirs"].update(changes)


def of_deployment(name, **changes):
    return lambda found: found["applications"]["theirs"]["deployments"][name].update(changes)


def config(name, **changes):
    return lambda found: found["applications"]["theirs"]["deployments"][name]["deployment_config"].update(changes)


def test_cluster_that_fits_has_no_fault():
    assert faults() == []


def test_missing_application_is_named_with_those_that_run():
    assert faults(app="nobody") == [
        "app: expected one of the applications on the cluster, ['other', 'theirs'], got 'nobody'"
    ]


def test_missing_deployment_is_named_with_those_that_run():
    (found,) = faults(deployments={"resnet-tiny": {"variant": "small", "pool": "od"}}, pools={})
    assert found.startswith(
        "deployments.resnet-tiny: expected a deployment of 'theirs', one of ['Gate', 'resnet-large'"
    )


def test_application_that_scales_itself_is_refused_with_what_to_change():
    (found,) = faults(theirs(external_scaler_enabled=False))
    assert "redeploy it with external_scaler_enabled: true" in found
    assert "--dry-run" in found


def test_deployment_with_its_own_autoscaling_is_refused():
    (found,) = faults(config("resnet-small", autoscaling_config={"min_replicas": 1}))
    assert found.startswith("deployments.resnet-small: expected no autoscaling_config")


def test_whoever_only_watches_may_attach_to_an_application_that_scales_itself():
    def both(found):
        theirs(external_scaler_enabled=False)(found)
        config("resnet-small", autoscaling_config={"min_replicas": 1})(found)
        of_deployment("resnet-small", target_num_replicas=9)(found)

    assert faults(both, sets_targets=False) == []
    assert len(faults(both)) == 3


def test_replica_on_a_node_of_another_pool_is_refused():
    pools = {"od": {"labels": {"ray.io/market-type": "spot"}}}
    found = faults(pools=pools)
    assert len(found) == 2  # one line for each of its two replicas
    assert found[0] == (
        "deployments.resnet-small: expected its replicas on nodes with {'ray.io/market-type': 'spot'} (pool 'od'), "
        "got one on 10.0.0.2 with {'ray.io/market-type': 'on-demand'}"
    )


def test_replica_that_stops_may_be_anywhere():
    replicas = [{"state": "STOPPING", "node_id": "spot"}]
    assert faults(of_deployment("resnet-small", replicas=replicas)) == []


def test_selector_that_contradicts_the_pool_is_refused_before_any_replica_runs():
    def change(found):
        of_deployment("resnet-large", replicas=[])(found)
        config("resnet-large", ray_actor_options={"label_selector": {"ray.io/market-type": "!spot"}})(found)

    (found,) = faults(change)
    assert found.startswith("deployments.resnet-large: expected label_selector ray.io/market-type=spot (pool 'spot')")
    assert found.endswith("got ray.io/market-type=!spot")


def test_more_replicas_than_the_quota_are_refused_since_the_guard_would_remove_them():
    (found,) = faults(of_deployment("resnet-small", target_num_replicas=4))
    assert found.startswith("pools[od].quota: expected at least 4 (replicas that stand now), got 3")


def test_calls_at_once_must_fit_what_the_deployment_takes():
    # Single inputs: a batch of 4 is 4 calls. Batches: one call.
    (found,) = faults(config("resnet-small", max_ongoing_requests=3))
    assert "expected max_ongoing_requests >= 4" in found
    assert faults(config("resnet-small", max_ongoing_requests=4)) == []
    assert faults(config("resnet-large", max_ongoing_requests=1)) == []


def test_route_that_somebody_has_is_not_taken():
    assert faults(prefix="/theirs") == [
        "route /theirs: expected to be free for our router, got application 'theirs' there"
    ]


def test_control_labels_must_be_on_some_node():
    assert faults(control={"ray.io/market-type": "on-demand"}) == []
    (found,) = faults(control={"role": "control"})
    assert found.startswith("control: expected labels that a node of the cluster carries")


def test_nodes_are_asked_for_only_where_an_autoscaler_takes_it_and_a_replica_needs_something():
    assert faults() == []
    (found,) = faults(request_nodes=True)
    assert found.startswith("request_nodes: expected a cluster with Ray's autoscaler of version 2, got none")
    mapped = mapping(request_nodes=True)

    def of(change):
        narrow = narrowed(catalog(), mapped)
        return found_faults(mapped, narrow, survey(change), "/provisor", sets_targets=True, has_autoscaler=True)

    assert of(lambda found: None) == []
    (found,) = of(of_deployment("resnet-small", required_resources={"CPU": 0.0}))
    assert found.startswith("deployments.resnet-small: expected a replica that needs some resource")
    assert faults(request_nodes=True, sets_targets=False) == []  # who only watches asks for nothing


def test_every_fault_is_reported_at_once():
    mapped = mapping()
    cluster = survey(theirs(external_scaler_enabled=False, route_prefix="/provisor"))
    with pytest.raises(ClusterError, match="(?s)'theirs' cannot be attached.*route /provisor.*external_scaler"):
        check_attachable(mapped, narrowed(catalog(), mapped), cluster, "/provisor", sets_targets=True)
