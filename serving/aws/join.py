"""What a new machine runs: it looks up its own id and joins the cluster under its pool's label."""

from __future__ import annotations

import json
import shlex

from serving.aws.terms import AwsTerms
from serving.nodes import POOL_LABEL, slot_of

INSTANCE_LABEL = "provisor-instance"
"""Label of a node that says which machine of EC2 it is."""

DRAIN_S = 90
"""Longest for which a node that is told to leave waits for its replicas."""

_METADATA = "http://169.254.169.254/latest"


def user_data(terms: AwsTerms, pool: str, *, is_spot: bool) -> str:
    """Shell script of a machine of a pool. The machine shuts down, and so is given back, where it cannot join."""
    labels = f"{POOL_LABEL}={pool},{INSTANCE_LABEL}=$INSTANCE_ID"
    resources = shlex.quote(json.dumps({slot_of(pool): 1}))
    # Only a spot machine is ever announced to be taken; its own metadata is the second way to hear of it.
    watch = []
    if is_spot and terms.queue_url:
        watch = [f"nohup python3 -m serving.aws.on_node {shlex.quote(terms.queue_url)} >/var/log/provisor.log 2>&1 &"]
    start = (
        f"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S={DRAIN_S} ray start --address={terms.join_address} "
        f'--labels="{labels}" --resources={resources}'
    )
    lines = [
        "#!/bin/bash",
        "set -euo pipefail",
        "trap 'shutdown -h now' ERR",
        f'TOKEN=$(curl -sSf --retry 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" {_METADATA}/api/token)',
        f'INSTANCE_ID=$(curl -sSf --retry 5 -H "X-aws-ec2-metadata-token: $TOKEN" {_METADATA}/meta-data/instance-id)',
        *terms.setup,
        *watch,
        # A machine that a launch brings up while the head restarts tries again for some two minutes.
        f"for attempt in $(seq 12); do {start} && exit 0; sleep 10; done",
        "shutdown -h now",
    ]
    return "\n".join(lines) + "\n"
