"""A live run whose nodes are machines of EC2: bought, noticed, drained, replaced and given back, over a stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from controller.errors import ProvisorError, RunError
from controller.journal import Journal
from experiments.cloud.aws_stand_in import StandIn, client, stand_in
from experiments.cloud.live_overflow import account_file, credentials, end_in_order, secrets_in
from experiments.cloud.machines_here import MachinesHere
from experiments.live_process import free_port
from serving.aws.events import WARNING_S, Kind, event_of
from serving.aws.machines import POOL_TAG

SCENARIO, SPOT_POOL = "demo", "c5-large-spot"
_LEFT_S = 20
# Of the notice, when it is sent: EC2's two minutes would make the run longer, and nothing else.
_START_TIMEOUT_S, _TAKE_TIMEOUT_S, _END_TIMEOUT_S = 240.0, 90.0, 120.0
_STEP_S = 0.2
_TICKS = 2

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class LiveNodes:
    """What the run came to.

    Attributes:
        first_fleet: Machines there when the notice was sent.
        bought: In all.
        heard_s: From the notice in the queue until the controller had it, s; one second of it is not told apart.
        left: Machines there after the run.
        notices: That the journal holds.
        secrets: Files that hold the secret, Ray's logs among them, and the output.
    """

    first_fleet: int
    bought: int
    heard_s: float
    left: int
    notices: int
    secrets: tuple[str, ...]


def run_nodes(out: Path, say: Callable[[str], None]) -> LiveNodes:
    """Serves on machines of a stand-in, which are Ray nodes of this machine, and takes one of them.

    Args:
        out: Folder of results.
        say: Prints a line of progress.

    Raises:
        RunError: The run does not come up, does not heed the notice, or fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _head() as (address, logs), stand_in() as aws, MachinesHere(aws, address, out / "nodes"):
        sqs = client("sqs", aws.url)
        queue_url = sqs.create_queue(QueueName="provisor-events")["QueueUrl"]
        account = _account(aws, out, queue_url)
        words = ["serve", "--scenario", SCENARIO, "--nodes", "aws", "--aws", str(account), "--address", address]
        words += ["--policy", "mpc", "--start-hour", "9", "--port", str(free_port()), "--no-predictions"]
        say("serving on machines of EC2 that are nodes of this machine")
        command = _start([*words, "--out", str(out / "serve")])
        try:
            _wait(command, lambda: _ticks(out / "serve") >= _TICKS, _START_TIMEOUT_S, "a run that decides")
            taken, first_fleet = _spot_of(aws)[0], len(aws.there())
            sent_s = time.time()
            # Events are told to the second.
            event = event_of(Kind.INTERRUPTION, taken, int(sent_s) + _LEFT_S - WARNING_S)
            sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(event))
            _wait(command, lambda: taken not in aws.there(), _TAKE_TIMEOUT_S, f"a run that gives {taken} up")
            bought = len(aws.behaviour.created)
            command.send_signal(signal.SIGTERM)
            output, _ = command.communicate(timeout=_END_TIMEOUT_S)
        finally:
            end_in_order(command)
        left = len(aws.there())
        secrets = (*secrets_in(out / "serve", output), *secrets_in(out / "nodes", ""), *secrets_in(logs, ""))
    notices = list(Journal(out / "serve" / "journal.jsonl").events("notice"))
    heard_s = float("inf")
    if notices:
        left_s = notices[0].fields["left_s"]
        assert isinstance(left_s, float)
        heard_s = max(0.0, int(sent_s) + _LEFT_S - left_s - sent_s)
    return LiveNodes(first_fleet, bought, heard_s, left, len(notices), secrets)


def _account(aws: StandIn, out: Path, queue_url: str) -> Path:
    ec2 = client("ec2", aws.plain_url)
    return account_file(
        out / "aws.yaml",
        aws.url,
        subnets={one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]},
        security_groups=[ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        queue_url=queue_url,
    )


@contextlib.contextmanager
def _head() -> Iterator[tuple[str, Path]]:
    """Address and logs of a Ray that has no slot for a replica; ended with all that its workers started."""
    with tempfile.TemporaryDirectory(prefix="pva-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = free_port()
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
        words += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}/ray", "--disable-usage-stats"]
        words += ["--include-dashboard=false", "--object-store-memory=157286400"]
        process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **credentials(), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        try:
            _wait(process, lambda: _is_open(port), _START_TIMEOUT_S, "a Ray head")
            yield f"127.0.0.1:{port}", Path(folder) / "ray" / "session_latest" / "logs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"]
    return subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **credentials(), "RAY_AUTH_MODE": "disabled"},
    )


def _wait(process: subprocess.Popen[Any], found: Callable[[], FoundT], timeout_s: float, what: str) -> FoundT:
    """The first value that is true while a process runs.

    Raises:
        RunError: None came in time, or the process ended.
    """
    end_s = time.monotonic() + timeout_s
    while not (value := found()):
        if process.poll() is not None:
            output = "" if process.stdout is None else str(process.stdout.read())[-800:]
            raise RunError(f"expected {what}, got a process that ended with {process.returncode}: {output}")
        if time.monotonic() > end_s:
            raise RunError(f"expected {what} within {timeout_s:g} s")
        time.sleep(_STEP_S)
    return value


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ticks(folder: Path) -> int:
    from serving.admin_access import find_client

    with contextlib.suppress(ProvisorError):
        return int(find_client(folder, None, None).get("/v1/status")["ticks"])
    return 0


def _spot_of(aws: StandIn) -> list[str]:
    wanted = [
        {"Name": "instance-state-name", "Values": ["running"]},
        {"Name": f"tag:{POOL_TAG}", "Values": [SPOT_POOL]},
    ]
    found = client("ec2", aws.plain_url).describe_instances(Filters=wanted)["Reservations"]
    return [one["InstanceId"] for group in found for one in group["Instances"]]
