"""The one module with private names of Ray; a contract test checks each of them against the installed version.

| private name | why it is needed | public way, and why not |
|---|---|---|
| `SERVE_CONTROLLER_ACTOR`, `update_deployment_replicas` | replica targets, 5-9 ms | REST: needs the dashboard |
| `get_serve_instance_details` | state of every replica, 5-8 ms | `serve.status()`: no actor names |
| `_private.common.DeploymentID` | argument of the first | none |
| `Deployment._deployment_config.num_replicas` | deploy with 0 replicas | the public option refuses 0 |
| `GcsClient`, `usage_lib.get_cluster_metadata` | versions of a cluster before joining it | none |
| `internal_kv` | what an actor is built from must outlive its creator | none: arguments are lost with the creator |
| `GcsClient.drain_node` | a node under notice | `ray drain-node`, a process for each call |
| `autoscaler.v2.utils.is_autoscaler_v2` | the first autoscaler drops labels from a request for nodes | none |
| `_raylet.Config.health_check_*` | Ray's own settings of how a lost node is noticed | none |
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.experimental import internal_kv

from controller.errors import ClusterError
from serving.node_demand import Bundle
from serving.replica import ModelFaultError

OLDEST, NEWEST = (2, 50), (2, 70)
"""Range of Ray versions, newest excluded, in which the private names are expected to be what they are here."""

_CONTROLLER = "SERVE_CONTROLLER_ACTOR"
_NAMESPACE = "serve"
_STORE = "provisor"


@dataclass(frozen=True)
class ReplicaState:
    """One replica as Serve sees it."""

    deployment: str
    actor_name: str
    state: str  # STARTING, RUNNING, STOPPING, ...
    start_time_s: float
    pid: int | None
    node_id: str = ""  # of the node it runs on; empty before it has one


def check_version(version: str | None = None) -> None:
    """Refuses a Ray outside the range that the private names were checked with.

    Raises:
        ClusterError: Naming the version and the range.
    """
    version = ray.__version__ if version is None else version
    number = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= number < NEWEST:
        low, high = (".".join(map(str, v)) for v in (OLDEST, NEWEST))
        raise ClusterError(f"ray: expected a version from {low} up to, not including, {high}, got {version}")


def serve_controller() -> Any:
    """Handle of Serve's controller actor.

    Raises:
        ValueError: Serve does not run on this cluster.
    """
    return ray.get_actor(_CONTROLLER, namespace=_NAMESPACE)


def with_no_replicas(deployment: Any) -> Any:
    """The same deployment, deployed with no replica at first."""
    deployment._deployment_config.num_replicas = 0  # noqa: SLF001 - see the table above
    return deployment


async def set_targets(controller: Any, app: str, targets: Mapping[str, int]) -> None:
    """Sets replica targets of deployments of an application that has the external scaler enabled."""
    calls = [set_target(controller, app, name, count) for name, count in targets.items()]
    # All are tried: a deployment that is gone for a while must not keep the others from their targets.
    results = await asyncio.gather(*calls, return_exceptions=True)
    for error in results:
        if isinstance(error, BaseException):
            raise error


def set_target(controller: Any, app: str, deployment: str, count: int) -> Any:
    """Asks for replicas of one deployment; the reference raises where that is refused."""
    from ray.serve._private.common import DeploymentID

    return controller.update_deployment_replicas.remote(DeploymentID(name=deployment, app_name=app), count)


async def replica_states(controller: Any, app: str) -> list[ReplicaState]:
    """Every replica of an application."""
    details = await controller.get_serve_instance_details.remote()
    return states_in(details, app)


def states_in(details: Any, app: str) -> list[ReplicaState]:
    """Replicas of an application in Serve's instance details."""
    found: list[ReplicaState] = []
    application = details.get("applications", {}).get(app)
    if application is None:
        return found
    for name, deployment in application["deployments"].items():
        for replica in deployment["replicas"]:
            state = str(getattr(replica["state"], "value", replica["state"]))
            actor, started_s = str(replica["actor_name"]), float(replica["start_time_s"])
            node_id = str(replica.get("node_id") or "")
            found.append(ReplicaState(name, actor, state, started_s, replica.get("pid"), node_id))
    return found


def kill_replica(actor_name: str) -> bool:
    """Kills a replica at once, as a provider taking its machine does; False where it is already gone."""
    try:
        ray.kill(ray.get_actor(actor_name, namespace=_NAMESPACE), no_restart=True)
    except (ValueError, RayError):
        return False
    return True


def keep(key: str, value: bytes) -> None:
    """Keeps bytes in the cluster's control store, for as long as the cluster lives or until `forget`."""
    internal_kv._internal_kv_put(key, value, overwrite=True, namespace=_STORE)  # noqa: SLF001 - see the table above


def kept(key: str) -> bytes:
    """What was kept.

    Raises:
        KeyError: Nothing was, under this key.
    """
    value: bytes | None = internal_kv._internal_kv_get(key, namespace=_STORE)  # noqa: SLF001 - see the table above
    if value is None:
        raise KeyError(key)
    return value


def forget(key: str) -> None:
    """Keeps it no longer."""
    internal_kv._internal_kv_del(key, namespace=_STORE)  # noqa: SLF001 - see the table above


def drain_node(node_id: str, left_s: float, why: str) -> bool:
    """Announces that a node goes in `left_s` seconds: its replicas finish what they have, and none is placed there.

    Returns:
        Whether the node takes it; an idle one may go at once.
    """
    from ray.core.generated import autoscaler_pb2

    raylet: Any = importlib.import_module("ray._raylet")  # a compiled module without type information
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    pb: Any = autoscaler_pb2  # generated, untyped
    reason = pb.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + left_s) * 1e3)
    is_accepted, _ = client.drain_node(node_id, reason, why, deadline_ms)
    return bool(is_accepted)


def has_autoscaler() -> bool:
    """Whether the cluster's autoscaler takes requests for nodes with labels."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))


def request_nodes(bundles: Sequence[Bundle]) -> None:
    """Replaces what the cluster's autoscaler is asked to have room for; nothing takes the request back."""
    from ray.autoscaler.sdk import request_resources

    request_resources(
        bundles=[bundle.resources for bundle in bundles], bundle_label_selectors=[one.selector for one in bundles]
    )


def is_model_fault(error: BaseException) -> bool:
    """Whether a failed call failed in the model, so that repeating it is useless."""
    return isinstance(error, ModelFaultError)


def deployment_handle(name: str, app: str) -> Any:
    """Handle of a deployment, without asking the Serve controller whether it exists."""
    return serve.get_deployment_handle(name, app, _check_exists=False)


def cluster_versions(address: str) -> dict[str, str]:
    """Versions of `ray` and `python` that a running cluster was started with; empty while its head has not told them.

    Args:
        address: `host:port` of its control store, which listens before the head has told its versions.
    """
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER

    raylet: Any = importlib.import_module("ray._raylet")  # a compiled module without type information
    stored = raylet.GcsClient(address=address).internal_kv_get(CLUSTER_METADATA_KEY, namespace=KV_NAMESPACE_CLUSTER)
    found = json.loads(stored) if stored else {}
    return {"ray": str(found.get("ray_version", "")), "python": str(found.get("python_version", ""))}


def node_loss_s() -> tuple[float, float]:
    """Longest time until a node counts as gone that died, and one that hangs, seconds, by the settings of this process.

    A dead node refuses each check at once, a hanging one lets each run into its time-out. A cluster's head makes the
    checks, and its environment, which cannot be asked for, decides; where this process sets nothing, Ray's defaults.
    """
    config: Any = importlib.import_module("ray._raylet").Config  # a compiled module without type information
    period_ms, timeout_ms = config.health_check_period_ms(), config.health_check_timeout_ms()
    misses = config.health_check_failure_threshold()
    return misses * period_ms / 1000.0, misses * (period_ms + timeout_ms) / 1000.0


def http_address(details: Any) -> tuple[str, int] | None:
    """Host and port of Serve's HTTP proxies in its instance details; None while it has none."""
    options = details.get("http_options")
    return None if not options else (str(options["host"]), int(options["port"]))


def instance_details() -> Any:
    """Serve's instance details, or None where Serve does not run."""
    try:
        controller = serve_controller()
    except ValueError:
        return None
    return ray.get(controller.get_serve_instance_details.remote(), timeout=10)
