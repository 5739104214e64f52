"""Machines of a stand-in of EC2 as Ray nodes of this machine: what a machine's own script does, done here.

A stand-in only says that a machine runs. Here each that does becomes a node, with the labels and the slot that its
script would give it, and the node ends with the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cloud.aws_stand_in import StandIn, client
from serving.aws.join import INSTANCE_LABEL
from serving.aws.machines import POOL_TAG, RUN_TAG
from serving.nodes import POOL_LABEL, slot_of
from serving.processes import child_processes, command_line, kill_tree

_EVERY_S = 0.3
_OBJECT_STORE_BYTES = 80 << 20


class MachinesHere:
    """A thread that starts and ends nodes as machines come and go.

    Args:
        stand_in: Of AWS.
        address: Of the cluster, `host:port`.
        folder: For the nodes' output.
    """

    def __init__(self, stand_in: StandIn, address: str, folder: Path) -> None:
        self._ec2 = client("ec2", stand_in.plain_url)
        self._address, self._folder = address, folder
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MachinesHere:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in self._nodes.values():
            _end(process)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            running = self._running()
            for one in [one for one in self._nodes if one not in running]:
                _end(self._nodes.pop(one))
            # One at a time: two that start at once can pick the same socket.
            if all(_has_raylet(process.pid) for process in self._nodes.values()):
                for one, tags in running.items():
                    if one not in self._nodes:
                        self._nodes[one] = self._start(one, tags[POOL_TAG])
                        break

    def _running(self) -> dict[str, Mapping[str, str]]:
        found = self._ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
        machines: list[Any] = [one for group in found["Reservations"] for one in group["Instances"]]
        tagged = {one["InstanceId"]: {tag["Key"]: tag["Value"] for tag in one.get("Tags", ())} for one in machines}
        return {one: tags for one, tags in tagged.items() if RUN_TAG in tags}

    def _start(self, machine: str, pool: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={self._address}", "--block"]
        words += ["--num-cpus=0", f"--resources={json.dumps({slot_of(pool): 1})}", "--disable-usage-stats"]
        words += [f"--labels={POOL_LABEL}={pool},{INSTANCE_LABEL}={machine}"]
        words += [f"--object-store-memory={_OBJECT_STORE_BYTES}"]
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{machine}.log").open("wb") as log:
            return subprocess.Popen(words, start_new_session=True, stdout=log, stderr=subprocess.STDOUT)


def _end(process: subprocess.Popen[bytes]) -> None:
    kill_tree(process.pid)
    process.wait()


def _has_raylet(root: int) -> bool:
    return any("raylet" in word for pid in child_processes(root) for word in command_line(pid)[:1])
