"""Asks the cluster that it joins for nodes, as an attached run does, and says which there are. Run as a script.

Its argument is the address; each line in is a JSON list of bundles ([resources, selector]); each line out the pools
of the nodes, once there are as many as bundles.
"""

import json
import logging
import sys
import time

import ray

from serving import ray_compat
from serving.node_demand import Bundle

DEADLINE_S = 90.0


def pools():
    return sorted(n["Labels"]["pool"] for n in ray.nodes() if n["Alive"] and "pool" in n["Labels"])


def main():
    # Ray prints warnings of the cluster on a driver's standard output, whether it is to log there or not.
    answers, sys.stdout = sys.stdout, sys.stderr
    ray.init(sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
    print(json.dumps({"has_autoscaler": ray_compat.has_autoscaler()}), file=answers, flush=True)
    for line in sys.stdin:
        wanted = [Bundle(*one) for one in json.loads(line)]
        ray_compat.request_nodes(wanted)
        until_s = time.monotonic() + DEADLINE_S
        while len(pools()) != len(wanted) and time.monotonic() < until_s:
            time.sleep(0.1)  # Ray tells nobody
        print(json.dumps(pools()), file=answers, flush=True)


if __name__ == "__main__":
    main()
