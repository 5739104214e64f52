"""What is ours of somebody else's application while we are there: deployments as options, and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.catalog import Catalog
from serving.app import Layout
from serving.attached_call import AttachedOption
from serving.mapping import AttachMapping
from serving.node_demand import ReplicaNeeds
from serving.survey import AppFacts

_RESTORE_TIMEOUT_S = 10.0


def attached_layout(mapping: AttachMapping, catalog: Catalog) -> Layout:
    """Deployment names by option of the narrowed catalog, and where our own actors may run."""
    variants, pools = [v.name for v in catalog.variants], [p.name for p in catalog.pools]
    names = {
        variants.index(one.variant) * len(pools) + pools.index(one.pool): name
        for name, one in mapping.deployments.items()
    }
    labels = {name: pool.labels for name, pool in mapping.pools.items()}
    return Layout(dict(sorted(names.items())), labels, app=mapping.app, control=mapping.control)


def attached_options(mapping: AttachMapping, layout: Layout) -> dict[int, AttachedOption]:
    """What the router calls, by option."""
    return {
        option: AttachedOption(
            mapping.app, name, mapping.deployments[name].method, mapping.deployments[name].input == "batch"
        )
        for option, name in layout.names.items()
    }


def replica_needs(mapping: AttachMapping, app: AppFacts) -> dict[str, ReplicaNeeds]:
    """What replicas need of a node, by mapped deployment: their resources, their own selector, their pool's labels."""
    needs = {}
    for name, one in mapping.deployments.items():
        found, pool = app.deployments[name], mapping.pools.get(one.pool)
        resources = {key: value for key, value in found.required.items() if value > 0.0}
        needs[name] = ReplicaNeeds(resources, {**found.selector, **(pool.labels if pool is not None else {})})
    return needs


def restore_targets(controller: Any, app: str, targets: Mapping[str, int]) -> list[str]:
    """Sets replica targets back, each by itself; returns the deployments where that failed, with the reason.

    Args:
        controller: Of Serve.
        app: Application of the deployments.
        targets: What stood before, by deployment.
    """
    import ray

    from serving.ray_compat import set_target

    failed = []
    for name, count in targets.items():
        try:
            ray.get(set_target(controller, app, name, count), timeout=_RESTORE_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - one deployment that is gone must not keep the others from theirs
            failed.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return failed
