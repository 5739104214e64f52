"""Asks a cluster for its versions in a process of its own: `python -m serving.version_probe ADDRESS` prints JSON.

Ray's client waits very long for what speaks another protocol, cannot be stopped, and may bring down a process that
ends meanwhile; this process is simply killed. A head that is starting answers before it knows its versions; it is asked
until it does.
"""

from __future__ import annotations

import json
import sys
import time

from serving import ray_compat

_STEP_S = 0.2


def settled_versions(address: str) -> dict[str, str]:
    """Versions of `ray` and `python` of the cluster at `host:port`, as soon as its head has written them down."""
    while not (found := ray_compat.cluster_versions(address))["ray"]:
        time.sleep(_STEP_S)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(settled_versions(sys.argv[1])) + "\n")
