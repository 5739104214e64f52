"""The contract with Ray: every private name we use is there, and takes what we give it."""

import inspect

import pytest

from controller.errors import ClusterError
from serving import ray_compat
from serving.cluster import node_loss_text
from serving.replica import ModelFaultError, Replica


def test_serve_controller_has_the_methods_and_arguments_we_use():
    from ray.serve._private.controller import ServeController

    update = inspect.signature(ServeController.update_deployment_replicas)
    # Ray adds a parameter of its own to the methods of an actor class once it was started in a process.
    ours = [name for name in update.parameters if name != "_ray_trace_ctx"]
    assert ours[1:] == ["deployment_id", "target_num_replicas"]
    assert callable(ServeController.get_serve_instance_details)


def test_serve_controller_is_registered_under_the_name_we_ask_for():
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    assert (SERVE_CONTROLLER_NAME, SERVE_NAMESPACE) == (ray_compat._CONTROLLER, ray_compat._NAMESPACE)


def test_deployment_id_takes_name_and_app_name():
    from ray.serve._private.common import DeploymentID

    identity = DeploymentID(name="a", app_name="b")
    assert (identity.name, identity.app_name) == ("a", "b")


def test_health_checks_say_how_soon_a_lost_node_is_noticed(monkeypatch):
    from ray import _raylet

    assert 0.0 < ray_compat.node_loss_s()[0] < ray_compat.node_loss_s()[1]  # Ray's own

    class Config:
        health_check_period_ms = staticmethod(lambda: 300)
        health_check_timeout_ms = staticmethod(lambda: 600)
        health_check_failure_threshold = staticmethod(lambda: 3)

    monkeypatch.setattr(_raylet, "Config", Config)
    assert ray_compat.node_loss_s() == pytest.approx((0.9, 2.7))
    assert "0.9 s if it dies and 2.7 s if it hangs" in node_loss_text()


def test_deployment_may_start_with_no_replica():
    from ray import serve

    deployment = ray_compat.with_no_replicas(serve.deployment(Replica).options(name="x"))
    assert deployment.num_replicas == 0


def test_instance_details_have_the_fields_we_read():
    from ray.serve.schema import ApplicationDetails, DeploymentDetails, ReplicaDetails, ServeInstanceDetails

    assert {"applications", "http_options"} <= set(ServeInstanceDetails.model_fields)
    app = {"deployments", "route_prefix", "status", "external_scaler_enabled", "deployment_topology"}
    assert app <= set(ApplicationDetails.model_fields)
    deployment = {"replicas", "target_num_replicas", "required_resources", "deployment_config"}
    assert deployment <= set(DeploymentDetails.model_fields)
    assert {"actor_name", "state", "start_time_s", "pid", "node_id"} <= set(ReplicaDetails.model_fields)


def test_deployment_configuration_has_the_fields_that_attaching_reads():
    from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema

    fields = {"max_ongoing_requests", "autoscaling_config", "ray_actor_options", "user_config"}
    assert fields <= set(DeploymentSchema.model_fields)
    assert "label_selector" in RayActorOptionsSchema.model_fields


def test_replica_states_are_named_as_we_read_them():
    from ray.serve._private.common import ReplicaState

    assert {"STARTING", "RUNNING", "STOPPING"} <= {state.value for state in ReplicaState}


def test_cluster_metadata_can_be_asked_for():
    from ray._common.usage import usage_lib
    from ray._raylet import GcsClient

    assert callable(usage_lib.get_cluster_metadata)
    assert callable(GcsClient)


@pytest.mark.parametrize("version", ["2.49.1", "2.70.0", "3.0.0"])
def test_ray_outside_the_range_is_refused(version):
    with pytest.raises(ClusterError, match=version):
        ray_compat.check_version(version)


def test_installed_ray_is_within_the_range():
    ray_compat.check_version()


def test_details_of_an_unknown_application_have_no_replicas():
    assert ray_compat.states_in({"applications": {}}, "provisor") == []


def test_model_fault_is_told_from_a_lost_replica():
    from ray.exceptions import RayActorError, RayTaskError

    wrapped = RayTaskError("infer", "traceback", ModelFaultError("bad")).as_instanceof_cause()
    assert ray_compat.is_model_fault(wrapped)
    assert not ray_compat.is_model_fault(RayActorError())
