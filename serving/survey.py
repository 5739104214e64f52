"""What runs on a cluster, read and never changed: applications, deployments with their replicas, and nodes.

The facts are plain values, so that checks and starting files can be tested without a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEAD_RESOURCE = "node:__internal_head__"
RUNNING = "RUNNING"


@dataclass(frozen=True)
class NodeFacts:
    """One live node."""

    node_id: str
    address: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]

    @property
    def is_head(self) -> bool:
        """Whether the cluster ends with it."""
        return HEAD_RESOURCE in self.resources


@dataclass(frozen=True)
class ReplicaFacts:
    """One replica."""

    state: str  # STARTING, RUNNING, STOPPING, ...
    node_id: str | None


@dataclass(frozen=True)
class DeploymentFacts:
    """One deployment as Serve holds it now."""

    name: str
    target: int  # replicas that Serve is to hold
    max_ongoing: int
    has_autoscaling: bool
    actor_options: Mapping[str, Any]  # num_cpus, resources, label_selector, ...
    required: Mapping[str, float]  # resources of one replica
    user_config: Any = None
    replicas: tuple[ReplicaFacts, ...] = ()

    @property
    def selector(self) -> Mapping[str, str]:
        """Hard label selector of its replicas."""
        return self.actor_options.get("label_selector") or {}

    @property
    def max_batch_size(self) -> int | None:
        """Largest batch, where the user configuration says so; `@serve.batch` itself is not visible from outside."""
        config = self.user_config if isinstance(self.user_config, dict) else {}
        size = config.get("max_batch_size")
        return size if isinstance(size, int) and size >= 1 else None


@dataclass(frozen=True)
class AppFacts:
    """One application."""

    name: str
    route_prefix: str | None
    status: str
    is_external: bool  # replica targets may be set from outside
    ingress: str | None  # deployment that answers HTTP, where Serve says so
    deployments: Mapping[str, DeploymentFacts]


@dataclass(frozen=True)
class Survey:
    """Everything on a cluster that attaching needs to know."""

    apps: Mapping[str, AppFacts]
    nodes: tuple[NodeFacts, ...]

    def node(self, node_id: str | None) -> NodeFacts | None:
        """A live node by its identity."""
        return next((node for node in self.nodes if node.node_id == node_id), None)


def survey_of(details: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Survey:
    """Facts from Serve's instance details and Ray's list of nodes.

    Args:
        details: What Serve's controller answers; only unset fields may be missing.
        nodes: What `ray.nodes()` answers; dead ones are left out.
    """
    apps = {name: _app(name, app) for name, app in details.get("applications", {}).items()}
    return Survey(apps, tuple(_node(node) for node in nodes if node.get("Alive")))


def _app(name: str, app: Mapping[str, Any]) -> AppFacts:
    topology = app.get("deployment_topology") or {}
    deployments = {key: _deployment(key, one) for key, one in (app.get("deployments") or {}).items()}
    return AppFacts(
        name=name,
        route_prefix=app.get("route_prefix"),
        status=_text(app.get("status")),
        is_external=bool(app.get("external_scaler_enabled", False)),
        ingress=topology.get("ingress_deployment"),
        deployments=deployments,
    )


def _deployment(name: str, found: Mapping[str, Any]) -> DeploymentFacts:
    config = found.get("deployment_config") or {}
    replicas = tuple(ReplicaFacts(_text(r["state"]), r.get("node_id")) for r in found.get("replicas") or ())
    return DeploymentFacts(
        name=name,
        target=int(found.get("target_num_replicas") or 0),
        max_ongoing=int(config.get("max_ongoing_requests") or 5),
        has_autoscaling=bool(config.get("autoscaling_config")),
        actor_options=dict(config.get("ray_actor_options") or {}),
        required=dict(found.get("required_resources") or {}),
        user_config=config.get("user_config"),
        replicas=replicas,
    )


def _node(node: Mapping[str, Any]) -> NodeFacts:
    return NodeFacts(
        node_id=str(node["NodeID"]),
        address=str(node.get("NodeManagerAddress", "")),
        labels={str(k): str(v) for k, v in (node.get("Labels") or {}).items()},
        resources={str(k): float(v) for k, v in (node.get("Resources") or {}).items()},
    )


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node's labels satisfy a label selector in Ray's forms: `v`, `!v`, `in(a,b)`, `!in(a,b)`."""
    return all(_matches(wanted, labels.get(key)) for key, wanted in selector.items())


def _matches(wanted: str, found: str | None) -> bool:
    is_negated = wanted.startswith("!")
    plain = wanted.removeprefix("!")
    if plain.startswith("in(") and plain.endswith(")"):
        is_among = found in [value.strip() for value in plain[3:-1].split(",")]
    else:
        is_among = found == plain
    return is_among != is_negated
