"""All that a controller is built from, and the ledger that it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.arrays import F64, I64
from controller.compile import Setting
from controller.journal import JournalHeader
from controller.trust.mode import Mode
from serving.app import Layout
from serving.attached_fleet import attached_fleet
from serving.aws.terms import AwsTerms
from serving.fleet import Fleet
from serving.market import Market, calm_market
from serving.node_demand import ReplicaNeeds
from serving.trusted import TrustSpec

_DRAIN_LEAD_S = 5.0
# A batch in service takes less; a node under notice serves until then.


@dataclass(frozen=True)
class ControllerSpec:
    """All that a controller is built from; travels to its actor."""

    setting: Setting  # at the run's speed
    layout: Layout
    app: str
    policy: Any  # what `make_policy` takes
    policy_file: bytes | None  # content of the file that `policy` names, where it is one
    rule: Any  # drives when the policy cannot
    market: Market
    seed: int
    initial_replicas: I64  # (V, P)
    history: F64 | None  # (C, H)
    header: JournalHeader
    journal_path: str  # on the machine of the actor; empty for a temporary file
    metrics_port: int  # 0 for none
    run: str  # identity: of the checkpoint, and of the nodes that are started
    node_needs: Mapping[str, ReplicaNeeds] | None = None  # of attached deployments, whose nodes are asked for
    has_local_nodes: bool = False  # every instance is a node of this machine; else instances are emulated
    aws: AwsTerms | None = None  # every instance is a machine of EC2, bought on these terms
    trust: TrustSpec = field(default_factory=TrustSpec)
    has_rehearsals: bool = False  # the admin API also takes faults, for experiments
    world_model: str | None = None  # "module:callable" of a setting; predicts what decisions lead to


def ledger_of(spec: ControllerSpec) -> Fleet:
    """The ledger that a run begins with, empty."""
    setting = spec.setting
    if spec.layout.is_attached:
        return attached_fleet(setting, spec.seed, is_holding=spec.trust.mode is Mode.REPLAY)
    if spec.aws is not None:
        # How long a machine takes, and whether there is one, EC2 decides.
        return Fleet(
            setting.catalog._replace(launch_s=np.zeros_like(setting.catalog.launch_s)),
            calm_market(len(setting.zones)),
            spec.seed,
            setting.control.retry_after_s,
            has_nodes=True,
            drain_lead_s=_DRAIN_LEAD_S,
        )
    return Fleet(
        setting.catalog,
        spec.market,
        spec.seed,
        setting.control.retry_after_s,
        has_nodes=spec.has_local_nodes,
        drain_lead_s=_DRAIN_LEAD_S,
    )
