"""First catalog, scenario and mapping of an application that runs already, from what its cluster shows.

Replicas, resources, labels and limits are read. What no cluster shows (prices, service times, accuracy, promises) is a
placeholder: valid, so that everything runs, marked, so that nobody believes it, with a comment that says where the true
figure comes from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.catalog import Catalog
from controller.config import parse_config
from controller.errors import UsageError, mismatch
from controller.scenario import Scenario
from experiments.placeholders import placeholder
from serving.mapping import OWN_APP, AttachMapping
from serving.survey import RUNNING, AppFacts, DeploymentFacts, NodeFacts, Survey, selects

SITE, OPERATOR = "cluster", "infer"
_MOST_CONCURRENCY, _MOST_BATCH = 16, 64  # of a catalog
_LEAST_QUOTA = 4
_SPOT = "spot"
_MARKET_LABELS = ("ray.io/market-type", "karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType")
_GROUP_LABEL = "ray.io/node-group"
_TYPE_LABELS = ("node.kubernetes.io/instance-type", "ray.io/instance-type", "instance-type")
# Labels that name one node and not a kind of nodes.
_OWN_LABELS = ("ray.io/node-id", "kubernetes.io/hostname", "ray.io/tpu-slice-name", "ray.io/availability-zone")


@dataclass(frozen=True)
class FoundPool:
    """Nodes that are alike, as a pool."""

    name: str
    instance_type: str
    is_spot: bool
    labels: Mapping[str, str]  # what tells its nodes from others
    nodes: tuple[NodeFacts, ...]


@dataclass(frozen=True)
class StartingFiles:
    """The three documents, and what is to be said of them."""

    catalog: dict[str, Any]
    scenario: dict[str, Any]
    mapping: dict[str, Any]
    notes: tuple[str, ...]


def chosen_app(survey: Survey, name: str | None) -> AppFacts:
    """The application that files are written for.

    Raises:
        UsageError: No such application, or several and none was named.
    """
    apps = {key: app for key, app in survey.apps.items() if key != OWN_APP}
    if name is not None:
        if name not in apps:
            raise UsageError(mismatch("--app", f"one of the applications on the cluster, {sorted(apps)}", name))
        return apps[name]
    if len(apps) != 1:
        raise UsageError(mismatch("--app", f"the name of one application, of {sorted(apps)}", None))
    return next(iter(apps.values()))


def starting_files(survey: Survey, app: AppFacts, prices: Mapping[str, float], catalog_file: str) -> StartingFiles:
    """All three documents, each valid.

    Args:
        survey: Of the cluster.
        app: One of its applications.
        prices: USD per hour and instance by pool name or instance type, as far as they are known.
        catalog_file: Name of the catalog file, beside the scenario.

    Raises:
        UsageError: A price names no pool or instance type, or the application has no deployment.
    """
    models, notes = _models(app)
    pools = found_pools(survey)
    known = {pool.name for pool in pools} | {pool.instance_type for pool in pools}
    for name in prices:
        if name not in known:
            raise UsageError(mismatch("--price", f"a pool or instance type of {sorted(known)}", name))
    placed = {one.name: _pool_of(one, pools) for one in models}
    for one in models:
        running = Counter(pool.name for pool in pools for r in one.replicas if _is_on(r.node_id, pool))
        if len(running) > 1:
            notes.append(
                f"deployment '{one.name}' runs on nodes of {sorted(running)}; it is mapped to "
                f"'{placed[one.name].name}': give it a label_selector, so that its replicas are of one pool"
            )
    used = [pool for pool in pools if any(pool is found for found in placed.values())]
    variants = unique([slug(one.name) for one in models])
    catalog = {
        "schema_version": 1,
        "name": slug(app.name),
        "sites": [{"name": SITE}],
        "variants": [_variant(name) for name in variants],
        "pools": [_pool(pool, prices, models, placed) for pool in used],
        "profiles": [_profile(v, placed[one.name], one) for v, one in zip(variants, models, strict=True)],
    }
    deployments = {
        one.name: {"variant": v, "pool": placed[one.name].name, "method": "__call__", "input": "single"}
        for v, one in zip(variants, models, strict=True)
    }
    labelled = {pool.name: {"labels": dict(pool.labels)} for pool in used if pool.labels}
    mapping = {"app": app.name, "scenario": "scenario.yaml", "deployments": deployments, "pools": labelled}
    scenario = _scenario(app.name, catalog_file)
    parse_config(catalog, Catalog, "starting catalog")
    parse_config(scenario, Scenario, "starting scenario")
    parse_config(mapping, AttachMapping, "starting mapping")
    if not app.is_external or any(one.has_autoscaling for one in models):
        notes.append(
            f"app '{app.name}' sets its own replicas: redeploy it with external_scaler_enabled: true and without "
            "autoscaling_config before decisions can act; until then use serve --attach with --dry-run"
        )
    return StartingFiles(catalog, scenario, mapping, tuple(notes))


def found_pools(survey: Survey) -> list[FoundPool]:
    """Pools of the live nodes: those of one node group, or else of one instance type, market and size, are alike."""
    groups: dict[tuple[Any, ...], list[NodeFacts]] = {}
    for node in sorted(survey.nodes, key=lambda n: (not n.is_head, n.node_id)):
        groups.setdefault(_kind(node), []).append(node)
    names = unique([_pool_name(nodes[0]) for nodes in groups.values()])
    found = []
    for name, nodes in zip(names, groups.values(), strict=True):
        others = [node for node in survey.nodes if node not in nodes]
        found.append(
            FoundPool(name, _instance_type(nodes[0]), _is_spot(nodes[0]), _telling(nodes, others), tuple(nodes))
        )
    return found


def slug(text: str) -> str:
    """A text as a name of a catalog."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower().replace("_", "-")).strip("-._")[:64] or "model"


def unique(names: Sequence[str]) -> list[str]:
    """The names, with numbers behind those that were used before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name[:60]}-{seen[name]}")
    return found


def _models(app: AppFacts) -> tuple[list[DeploymentFacts], list[str]]:
    notes: list[str] = []
    models = list(app.deployments.values())
    if not models:
        raise UsageError(mismatch("--app", "an application with deployments", app.name))
    if app.ingress is not None and len(models) > 1:
        models = [one for one in models if one.name != app.ingress]
        notes.append(f"deployment '{app.ingress}' answers the application's own HTTP route and is not mapped")
    return models, notes


def _kind(node: NodeFacts) -> tuple[Any, ...]:
    size = tuple(sorted((k, v) for k, v in node.resources.items() if k in ("CPU", "GPU")))
    return node.labels.get(_GROUP_LABEL), _instance_type(node), _is_spot(node), size


def _instance_type(node: NodeFacts) -> str:
    named = next((node.labels[key] for key in _TYPE_LABELS if node.labels.get(key)), None)
    cpus, gpus = node.resources.get("CPU", 0), node.resources.get("GPU", 0)
    return named or f"{cpus:g}-cpu" + (f"-{gpus:g}-gpu" if gpus else "")


def _is_spot(node: NodeFacts) -> bool:
    return (
        any(node.labels.get(key, "").lower() == _SPOT for key in _MARKET_LABELS) or node.labels.get("market") == _SPOT
    )


def _pool_name(node: NodeFacts) -> str:
    group = node.labels.get(_GROUP_LABEL)
    return slug(group or f"{_instance_type(node)}-{'spot' if _is_spot(node) else 'od'}")


def _telling(nodes: Sequence[NodeFacts], others: Sequence[NodeFacts]) -> dict[str, str]:
    """Labels that all nodes share and no other node has, else all that they share; a few are enough to tell."""
    shared = {
        key: value
        for key, value in nodes[0].labels.items()
        if key not in _OWN_LABELS and all(node.labels.get(key) == value for node in nodes)
    }
    alone = {key: value for key, value in shared.items() if all(node.labels.get(key) != value for node in others)}
    return dict(sorted((alone or shared).items()))


def _is_on(node_id: str | None, pool: FoundPool) -> bool:
    return any(node.node_id == node_id for node in pool.nodes)


def _pool_of(one: DeploymentFacts, pools: Sequence[FoundPool]) -> FoundPool:
    """Where most of its replicas run; else the first pool that its selector and resources fit; else the first."""
    running = Counter({p.name: sum(_is_on(r.node_id, p) for r in one.replicas if r.state == RUNNING) for p in pools})
    best = max(pools, key=lambda p: running[p.name])
    if running[best.name]:
        return best
    fitting = (p for p in pools if any(_fits(one, node) for node in p.nodes))
    return next(fitting, pools[0])


def _fits(one: DeploymentFacts, node: NodeFacts) -> bool:
    has_room = all(node.resources.get(name, 0.0) >= amount for name, amount in one.required.items())
    return has_room and selects(one.selector, node.labels)


def _variant(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "operator": OPERATOR,
        "accuracy": placeholder(0.9, "share of right answers; measure on labelled inputs of yours"),
        "weights_gb": placeholder(0.0, "size of its weights"),
        "input_bytes": placeholder(0.0, "mean size of a request; needed only for egress and links"),
        "output_bytes": placeholder(0.0, "mean size of an answer; needed only for egress and links"),
    }


def _pool(
    pool: FoundPool,
    prices: Mapping[str, float],
    models: Sequence[DeploymentFacts],
    placed: Mapping[str, FoundPool],
) -> dict[str, Any]:
    node = pool.nodes[0]
    read = f"read from {len(pool.nodes)} live node{'s' if len(pool.nodes) > 1 else ''}"
    usd = prices.get(pool.name, prices.get(pool.instance_type))
    standing = sum(one.target for one in models if placed[one.name] is pool)
    found: dict[str, Any] = {
        "name": pool.name,
        "site": SITE,
        "instance_type": pool.instance_type,
        "market": "spot" if pool.is_spot else "on_demand",
        "vcpus": {"value": max(node.resources.get("CPU", 0.0), 1.0), "measured": f"{read}: CPU resource, at least 1"},
        "memory_gb": {
            "value": max(round(node.resources.get("memory", 0.0) / 1e9, 3), 0.001),
            "measured": f"{read}: memory resource",
        },
        "price_usd_per_hour": placeholder(1.0, "USD per hour of what one replica takes; ask your provider")
        if usd is None
        else {"value": usd, "measured": "given as --price"},
        "launch_s": placeholder(60.0, "seconds until a new node joins; 0 where nodes stand ready"),
        "min_billing_s": placeholder(60.0, "seconds billed at least; ask your provider"),
        "release_lag_s": placeholder(0.0, "seconds billed after the last replica left"),
        "quota": max(standing * 2, _LEAST_QUOTA),
        "node_owner": "ray_autoscaler",
    }
    if pool.is_spot:
        zone = node.labels.get("ray.io/availability-zone") or SITE
        found |= {"zone": zone, "notice_s": placeholder(120.0, "seconds of notice; two minutes on EC2")}
    return found


def _profile(variant: str, pool: FoundPool, one: DeploymentFacts) -> dict[str, Any]:
    ask = "measure with provisor profile --attach"
    # A batch of single inputs is as many calls: what a replica takes is divided between batches and credits.
    batch = min(one.max_batch_size or 1, one.max_ongoing, _MOST_BATCH)
    return {
        "variant": variant,
        "pool": pool.name,
        "service_intercept_s": placeholder(0.0, ask),
        "service_slope_s": placeholder(0.1, ask),
        "batch_max": batch,
        "concurrency": max(1, min(one.max_ongoing // batch, _MOST_CONCURRENCY)),
        "load_s": placeholder(10.0, f"seconds until a new replica runs; {ask}"),
        "swap_s": placeholder(10.0, f"seconds until another variant runs in its place; {ask}"),
    }


def _scenario(app: str, catalog_file: str) -> dict[str, Any]:
    promise = {"share": 1.0, "slo_s": 1.0, "attainment_target": 0.99, "accuracy_floor": 0.0}
    return {
        "name": slug(app),
        "catalog": f"./{catalog_file}",
        "workload": {
            "workflows": [{"name": "infer", "operators": [OPERATOR]}],
            "classes": [{"name": "all", "source_site": SITE, "workflow": "infer", **promise}],
        },
        "mean_rps": 1.0,
        "trace": {"kind": "generated", "preset": "twitter_like", "days": 7, "seed": 0},
        "splits": {"train": [1, 4], "validation": [5, 5], "test": [6, 7]},
        "control": {"tick_s": 10.0, "ticks_per_decision": 6, "horizon_s": 120.0, "retry_after_s": 120.0},
        "limits": {"pools": {}},
    }
