"""The Serve application: one deployment per (variant, machine pool), one for serverless, and the router in front.

Every model deployment starts with no replica; counts are set from outside (external scaler), never by Serve's own
autoscaling. A replica takes one `slot_<pool>` resource, so a pool can never hold more replicas than it has slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray import serve
from ray.serve.config import RequestRouterConfig

from controller.arrays import SERVERLESS
from controller.compile import Setting
from controller.tiers.audit_config import AuditConfig
from serving import ray_compat
from serving.attached_call import AttachedOption
from serving.aws.function_targets import FunctionTargets
from serving.bring_your_own import ModelSpec
from serving.nodes import slot_of
from serving.replica import Replica, ServerlessHost
from serving.router import Router
from serving.rules import RouterTables, router_tables
from serving.serverless import ServerlessTerms

ROUTER, SERVERLESS_HOST = "router", "serverless"
APP_NAME = "provisor"

ON_HEAD: dict[str, Any] = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
"""What must outlive every instance runs on the head, which no plan gives back: routers, and the controller."""

_ROUTER_REQUESTS = 2000
# Serve's own limit at the router must never bind before the queue limits of the classes do.
_BACKOFF = RequestRouterConfig.model_validate(
    {"initial_backoff_s": 0.002, "backoff_multiplier": 2, "max_backoff_s": 0.02}
)
# A full replica is probed again after this. Serve's default (up to 0.5 s) lets throughput fall under overload.


@dataclass(frozen=True)
class Layout:
    """Names of the model deployments by option, and where their replicas may run."""

    names: Mapping[int, str]  # machine options only
    labels: Mapping[str, Mapping[str, str]]  # label selector by pool; empty where nodes have no labels
    app: str | None = None  # application of the model deployments, where it is somebody else's
    control: Mapping[str, str] = field(default_factory=dict)  # label selector of router and controller; empty: any node

    @property
    def is_attached(self) -> bool:
        """Whether the model deployments are somebody else's."""
        return self.app is not None

    def option_of(self, deployment: str) -> int | None:
        """Option of a deployment; None for the router and the serverless host."""
        return next((option for option, name in self.names.items() if name == deployment), None)


def layout_of(setting: Setting, labels: Mapping[str, Mapping[str, str]] | None = None) -> Layout:
    """Deployment names of every usable machine option."""
    num_pools = len(setting.pool_names)
    usable = setting.catalog.usable & (setting.catalog.market != SERVERLESS)[None, :]
    names = {
        int(v * num_pools + p): f"{setting.variant_names[v]}--{setting.pool_names[p]}" for v, p in np.argwhere(usable)
    }
    return Layout(names, labels or {})


def slots_needed(setting: Setting) -> dict[str, float]:
    """Slot resources of all machine pools: as many as each pool's limit."""
    return {
        slot_of(name): float(setting.limits.pool_max[p])
        for p, name in enumerate(setting.pool_names)
        if setting.catalog.market[p] != SERVERLESS
    }


def build_application(
    setting: Setting,
    specs: Mapping[str, ModelSpec],
    seed: int,
    layout: Layout,
    functions: FunctionTargets | None = None,
    audit: AuditConfig | None = None,
) -> Any:
    """The bound application.

    Args:
        setting: Compiled scenario; its service times are what replicas emulate.
        specs: A model for each variant.
        seed: Keys the emulation's draws.
        layout: Of the same setting.
        functions: What runs calls of serverless pools; None: they are emulated.
        audit: Of tiers; None for the defaults.
    """
    audits = audit or AuditConfig()
    tables: RouterTables = router_tables(setting)
    deploy: Any = serve.deployment  # its overloads hide what it returns for a class
    replica = deploy(Replica)
    options = {}
    for option, name in layout.names.items():
        variant, pool = divmod(option, tables.num_pools)
        concurrency = int(tables.concurrency[option])
        actor_options: dict[str, Any] = {"num_cpus": 0, "resources": {slot_of(tables.pool_names[pool]): 1}}
        selector = layout.labels.get(tables.pool_names[pool])
        if selector:
            actor_options["label_selector"] = dict(selector)
        deployment = replica.options(
            name=name,
            max_ongoing_requests=concurrency,
            max_queued_requests=-1,
            request_router_config=_BACKOFF,
            ray_actor_options=actor_options,
            graceful_shutdown_timeout_s=30,
            graceful_shutdown_wait_loop_s=0.1,
            health_check_period_s=1,
        )
        spec = specs[tables.variant_names[variant]]
        options[option] = ray_compat.with_no_replicas(deployment).bind(spec, concurrency)
    serverless_pools = [p for p in range(tables.num_pools) if setting.catalog.market[p] == SERVERLESS]
    terms = {p: ServerlessTerms.of(setting.catalog, p) for p in serverless_pools}
    router = _router(layout)
    if functions is not None:
        return router.bind(tables, terms, dict(specs), seed, options, functions, audits)
    host = deploy(ServerlessHost).options(
        name=SERVERLESS_HOST,
        max_ongoing_requests=max(1, sum(t.limit for t in terms.values())),
        request_router_config=_BACKOFF,
        ray_actor_options=ON_HEAD,
        graceful_shutdown_wait_loop_s=0.1,
    )
    return router.bind(tables, terms, dict(specs), seed, options, host.bind(dict(specs)), audits)


def build_attached(
    setting: Setting,
    options: Mapping[int, AttachedOption],
    seed: int,
    layout: Layout,
    audit: AuditConfig | None = None,
) -> Any:
    """The bound application that is our router alone, in front of deployments of somebody else.

    Args:
        setting: Compiled scenario, of mapped options alone.
        options: What is called, by option.
        seed: Keys the draws of routing.
        layout: Of the same mapping.
        audit: Of tiers; None for the defaults.
    """
    tables = router_tables(setting)
    # Their models take any input; only they can tell which are wrong.
    specs = {name: ModelSpec(name, reference=f"{layout.app}:attached") for name in setting.variant_names}
    return _router(layout).bind(tables, {}, specs, seed, dict(options), None, audit or AuditConfig())


def _router(layout: Layout) -> Any:
    deploy: Any = serve.deployment
    return deploy(Router).options(
        name=ROUTER,
        max_ongoing_requests=_ROUTER_REQUESTS,
        ray_actor_options={"num_cpus": 0, "label_selector": dict(layout.control)} if layout.control else ON_HEAD,
        graceful_shutdown_timeout_s=15,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=2,
    )
