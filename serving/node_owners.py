"""Who starts and ends the nodes of a run, and who hears of it, by what the run was asked for.

boto3 is imported where a run has machines of EC2 alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import ray

from serving.aws.join import INSTANCE_LABEL
from serving.aws.terms import AwsTerms, purchases
from serving.controller_spec import ControllerSpec
from serving.local_nodes import LocalNodes
from serving.nodes import NodeOwner, living_nodes

if TYPE_CHECKING:
    from serving.aws.ec2_nodes import Ec2Nodes
    from serving.aws.hearing import Doom


def node_owner(spec: ControllerSpec, folder: Path, *, is_first: bool) -> NodeOwner | None:
    """The owner; None where instances are emulated or somebody else's.

    Args:
        spec: Of the run.
        folder: For the output of nodes of this machine.
        is_first: The run has had no owner before.
    """
    if spec.aws is not None:
        return ec2_nodes(spec.aws, spec, is_first=is_first)
    if spec.has_local_nodes:
        return LocalNodes(ray.get_runtime_context().gcs_address, spec.run, folder)
    return None


def ec2_nodes(terms: AwsTerms, spec: ControllerSpec, *, is_first: bool) -> Ec2Nodes:
    """The owner of a run's machines of EC2."""
    from serving.aws.clients import aws_client
    from serving.aws.ec2_nodes import Ec2Nodes
    from serving.aws.machines import Machines

    buys = purchases(terms, spec.setting.scenario.load_catalog())
    return Ec2Nodes(
        Machines(aws_client("ec2", terms), spec.run, terms, buys),
        tuple(buys),
        spec.run,
        joined_machines,
        time.monotonic,
        Random(spec.run),
        join_timeout_s=terms.join_timeout_s,
        is_first=is_first,
    )


def notices(terms: AwsTerms | None, owner: NodeOwner | None) -> Callable[[Doom], Coroutine[Any, Any, None]] | None:
    """What hears that nodes are to be taken, until it is cancelled; None where nobody announces it.

    Args:
        terms: Of the run's account.
        owner: Of the run's nodes.
    """
    if terms is None or terms.queue_url is None:
        return None
    from serving.aws.clients import aws_client
    from serving.aws.ec2_nodes import Ec2Nodes
    from serving.aws.events import EventQueue
    from serving.aws.hearing import hear

    assert isinstance(owner, Ec2Nodes)
    queue = EventQueue(aws_client("sqs", terms), terms.queue_url)
    return partial(hear, queue, owner.warned, terms.on_rebalance == "drain")


async def joined_machines() -> Mapping[str, str]:
    """Living nodes of the cluster that say which machine of EC2 they are: id of the node to that of the machine."""
    raw: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
    return {one.node_id: one.labels[INSTANCE_LABEL] for one in living_nodes(raw) if INSTANCE_LABEL in one.labels}
