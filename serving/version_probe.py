"""Asks a cluster for its versions in a process of its own: `python -m serving.version_probe ADDRESS` prints JSON.

Ray's client waits very long for what speaks another protocol, cannot be stopped, and may bring down a process that
ends meanwhile; this process is simply killed.
"""

from __future__ import annotations

import json
import sys

if __name__ == "__main__":
    from serving import ray_compat

    sys.stdout.write(json.dumps(ray_compat.cluster_versions(sys.argv[1])) + "\n")
