"""A live run at the cloud's edge: machines of EC2 are its nodes, and what is too much for them goes to Lambda.

Over stand-ins: the machines become Ray nodes of this machine, the functions run for real. In the middle of its load a
spot machine gets a notice, so it is drained and replaced while functions answer what the rest cannot.
"""

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from controller.errors import RunError
from controller.journal import Journal
from controller.scenario import load_scenario
from experiments.cloud.aws_stand_in import StandIn, client, stand_in
from experiments.cloud.function_service import Limits
from experiments.cloud.lambda_stand_in import LambdaStandIn, lambda_stand_in
from experiments.cloud.live_account import account_file, billed_usd, charged_usd, credentials, secrets_in
from experiments.cloud.machines_here import MachinesHere
from experiments.live_process import ServeProcess, free_port
from serving.aws.events import WARNING_S, Kind, event_of
from serving.aws.machines import POOL_TAG

SCENARIO = str(Path(__file__).parents[1] / "configs" / "overflow.yaml")
SPOT_POOL = "c5-large-spot"

# One variant, and limits of one machine per pool: all that is bought later replaces what was taken.
_POLICY = {
    "kind": "reactive",
    "settings": {"variant": "digits-small", "spot_share": 0.5, "overflow_fraction": 1.0},
}
_CONCURRENCY = 8
# So few that calls may be refused while a node starts and takes a core.
_LEFT_S = 10
# Of the notice, when it is sent: EC2's two minutes would make the run longer, and nothing else.
_START_TIMEOUT_S, _EVENT_TIMEOUT_S, _END_TIMEOUT_S = 240.0, 90.0, 60.0
_STEP_S = 0.2
_TICKS = 2


@dataclass(frozen=True)
class LiveEdge:
    """What the run came to.

    Attributes:
        requests: That were sent.
        attainment: Share answered in time.
        first_fleet: Machines there when the notice was sent.
        bought: In all.
        notices: That the journal holds.
        heard_s: From the notice in the queue until the controller had it, s; one second of it is not told apart.
        calls: Functions' answers, cold ones among them.
        cold: Of these.
        refused: Calls that the account's limit refused.
        billed_usd: As the run's journal has it.
        charged_usd: Real calls x price.
        machines_left: After the run.
        functions_left: After the run.
        secrets: Files that hold the secret, the run's output and Ray's logs among them.
    """

    requests: int
    attainment: float
    first_fleet: int
    bought: int
    notices: int
    heard_s: float
    calls: int
    cold: int
    refused: int
    billed_usd: float
    charged_usd: float
    machines_left: int
    functions_left: int
    secrets: tuple[str, ...]


def run_edge(out: Path, duration_s: float, say: Callable[[str], None]) -> LiveEdge:
    """Serves the scenario, takes a machine, and tells what became of it.

    Args:
        out: Folder of results.
        duration_s: Of the load; more than the notice leaves.
        say: Prints a line of progress.

    Raises:
        RunError: The run does not come up, does not heed the notice, or fails; or there is no emulator.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (
        _head() as head,
        lambda_stand_in(Limits(concurrency=_CONCURRENCY)) as functions,
        stand_in() as aws,
        MachinesHere(aws, head.address, out / "nodes"),
    ):
        queue_url = client("sqs", aws.url).create_queue(QueueName="provisor-events")["QueueUrl"]
        account = account_file(out / "aws.yaml", functions.url, aws, queue_url)
        policy = out / "policy.yaml"
        policy.write_text(yaml.safe_dump(_POLICY), encoding="utf-8")
        words = ["--scenario", SCENARIO, "--policy", str(policy), "--rule", str(policy), "--address", head.address]
        words += ["--nodes", "aws", "--serverless", "aws", "--aws", str(account), "--no-predictions"]
        words += ["--replay", "scenario", "--duration", f"{duration_s:g}", "--start-hour", "9"]
        head.wait()
        say("serving on machines of EC2, with functions for what overflows")
        run = ServeProcess(words, out / "serve", say, {**credentials(), "RAY_AUTH_MODE": "disabled"})
        try:
            run.start(_START_TIMEOUT_S)
            _until(lambda: (run.status() or {}).get("ticks", 0) >= _TICKS, "a run that decides")
            taken, first_fleet = _spot_of(aws)[0], len(aws.there())
            sent_s = _announce(aws, queue_url, taken)
            _until(lambda: taken not in aws.there(), f"a run that gives {taken} up")
            run.wait(duration_s + _END_TIMEOUT_S)
        finally:
            run.stop()
        return _result(out, aws, functions, first_fleet, sent_s, secrets_in(out, head.logs))


def _result(
    out: Path, aws: StandIn, functions: LambdaStandIn, first_fleet: int, sent_s: float, secrets: Sequence[str]
) -> LiveEdge:
    (row, *_) = json.loads((out / "serve" / "results.json").read_text(encoding="utf-8"))
    journal, calls = out / "serve" / "journal.jsonl", list(functions.service.invocations)
    notices = list(Journal(journal).events("notice"))
    heard_s = float("inf")
    if notices:
        left_s = notices[0].fields["left_s"]
        assert isinstance(left_s, float)
        heard_s = max(0.0, int(sent_s) + _LEFT_S - left_s - sent_s)
    return LiveEdge(
        requests=int(row["requests"]),
        attainment=float(row["attainment"]),
        first_fleet=first_fleet,
        bought=len(aws.behaviour.created),
        notices=len(notices),
        heard_s=heard_s,
        calls=len(calls),
        cold=sum(call.is_cold for call in calls),
        refused=len(functions.service.refused),
        billed_usd=billed_usd(journal),
        charged_usd=charged_usd(calls, load_scenario(SCENARIO).load_catalog()),
        machines_left=len(aws.there()),
        functions_left=len(functions.service.names()),
        secrets=tuple(secrets),
    )


def _announce(aws: StandIn, queue_url: str, machine: str) -> float:
    """Sends the notice of a machine; returns when, in seconds since the epoch."""
    now_s = time.time()
    # Events are told to the second.
    event = event_of(Kind.INTERRUPTION, machine, int(now_s) + _LEFT_S - WARNING_S)
    client("sqs", aws.url).send_message(QueueUrl=queue_url, MessageBody=json.dumps(event))
    return now_s


def _until(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + _EVENT_TIMEOUT_S
    while not holds():
        if time.monotonic() > end_s:
            raise RunError(f"expected {what} within {_EVENT_TIMEOUT_S:g} s")
        time.sleep(_STEP_S)


def _spot_of(aws: StandIn) -> list[str]:
    wanted = [
        {"Name": "instance-state-name", "Values": ["running"]},
        {"Name": f"tag:{POOL_TAG}", "Values": [SPOT_POOL]},
    ]
    found = client("ec2", aws.plain_url).describe_instances(Filters=wanted)["Reservations"]
    return [one["InstanceId"] for group in found for one in group["Instances"]]


class _Head:
    """A Ray that has no slot for a replica."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self._process, self._port = process, port
        self.address, self.logs = f"127.0.0.1:{port}", folder / "session_latest" / "logs"

    def wait(self) -> None:
        """Until it answers.

        Raises:
            RunError: It does not come up.
        """
        end_s = time.monotonic() + _START_TIMEOUT_S
        while not _is_open(self._port):
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise RunError(f"expected a Ray head within {_START_TIMEOUT_S:g} s")
            time.sleep(_STEP_S)


@contextlib.contextmanager
def _head() -> Iterator[_Head]:
    """Starts it, and ends it with all that its workers started."""
    with tempfile.TemporaryDirectory(prefix="pva-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port, root = free_port(), Path(folder) / "ray"
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
        words += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={root}", "--disable-usage-stats"]
        words += ["--include-dashboard=false", "--object-store-memory=157286400"]
        process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **credentials(), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        try:
            yield _Head(process, port, root)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
