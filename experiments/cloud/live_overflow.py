"""A live run whose load is too much for its machine: what overflows is answered by functions that run for real."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.arrays import SERVERLESS_USE
from controller.bill import serverless_usd
from controller.catalog import Catalog, Market
from controller.errors import RunError
from controller.journal import Journal
from controller.scenario import load_scenario
from experiments.cloud.function_service import Invocation, Limits
from experiments.cloud.lambda_stand_in import lambda_stand_in
from experiments.live_process import free_port

SCENARIO = str(Path(__file__).parents[1] / "configs" / "overflow.yaml")
SECRET = "secret-key-of-the-stand-in"
"""Of the credentials that a run gets; must be found nowhere in what it writes."""

_CONCURRENCY = 4
# Fewer at a time than overflow, so that some calls are refused.
_TIMEOUT_S, _END_TIMEOUT_S = 300.0, 60.0
_ROLE = "arn:aws:iam::123456789012:role/provisor-function"


@dataclass(frozen=True)
class Overflow:
    """What the run came to.

    Attributes:
        requests: That were sent.
        attainment: Share answered in time.
        calls: Functions' answers, cold ones among them.
        cold: Of these.
        refused: Calls that the account's limit refused.
        billed_usd: As the run's journal has it.
        charged_usd: Real calls x price.
        functions_left: After the run.
        secrets: Files, and the output, that hold the secret.
    """

    requests: int
    attainment: float
    calls: int
    cold: int
    refused: int
    billed_usd: float
    charged_usd: float
    functions_left: int
    secrets: tuple[str, ...]


def credentials() -> dict[str, str]:
    """Environment of a run against a stand-in."""
    return {"AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": SECRET, "RAY_AUTH_MODE": ""}


@contextmanager
def with_credentials() -> Iterator[None]:
    """The same for this process, for a while."""
    before = {name: os.environ.get(name) for name in credentials()}
    os.environ.update(credentials())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def account_file(path: Path, url: str, **more: Any) -> Path:
    """Writes terms whose endpoint is a stand-in.

    Args:
        path: Of the file.
        url: Of the stand-in.
        **more: Other terms.
    """
    terms = {
        "region": "us-east-1",
        "endpoint_url": url,
        "image_id": "ami-12c6146b",
        "subnets": {"us-east-1a": "subnet-1"},
        "security_groups": ["sg-1"],
        "join_address": "127.0.0.1:6379",
        "functions": {"role_arn": _ROLE, "runtime": "python" + ".".join(platform.python_version_tuple()[:2])},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(terms | more), encoding="utf-8")
    return path


def run_overflow(out: Path, duration_s: float, say: Callable[[str], None]) -> Overflow:
    """Serves the scenario with functions and tells what they did.

    Args:
        out: Folder of results.
        duration_s: Of the load.
        say: Prints a line of progress.

    Raises:
        RunError: The run fails, or there is no emulator.
    """
    with lambda_stand_in(Limits(concurrency=_CONCURRENCY)) as stand_in:
        account = account_file(out / "aws.yaml", stand_in.url)
        words = ["serve", "--scenario", SCENARIO, "--policy", "mpc", "--serverless", "aws", "--aws", str(account)]
        words += ["--replay", "scenario", "--duration", f"{duration_s:g}", "--start-hour", "9"]
        words += ["--port", str(free_port()), "--out", str(out / "serve")]
        say("serving with functions for what overflows")
        output = run_provisor(words)
        service = stand_in.service
        calls, refused, left = list(service.invocations), len(service.refused), len(service.names())
    (row, *_) = json.loads((out / "serve" / "results.json").read_text(encoding="utf-8"))
    return Overflow(
        requests=int(row["requests"]),
        attainment=float(row["attainment"]),
        calls=len(calls),
        cold=sum(call.is_cold for call in calls),
        refused=refused,
        billed_usd=billed_usd(out / "serve" / "journal.jsonl"),
        charged_usd=charged_usd(calls, load_scenario(SCENARIO).load_catalog()),
        functions_left=left,
        secrets=tuple(secrets_in(out / "serve", output)),
    )


def run_provisor(words: Sequence[str], **environment: str) -> str:
    """Runs a command to its end; returns what it printed.

    Raises:
        RunError: It fails, or takes too long.
    """
    command = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"]
    process = subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **credentials(), **environment},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"provisor {words[0]}: expected an end within {_TIMEOUT_S:g} s") from error
    finally:
        end_in_order(process)
    if process.returncode:
        raise RunError(f"provisor {words[0]}: expected exit code 0, got {process.returncode}: {output[-800:]}")
    return output


def end_in_order(process: subprocess.Popen[str]) -> None:
    """Asks a run that still goes on to end, so that it ends what it started; kills it where it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_END_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def billed_usd(journal: Path) -> float:
    """What a run's journal has for serverless calls."""
    return float(sum(tick.observation.spend_usd[0, SERVERLESS_USE] for tick in Journal(journal).ticks()))


def charged_usd(calls: Sequence[Invocation], catalog: Catalog) -> float:
    """Real calls x the catalog's price of the pool of each function's memory."""
    pools = {round(p.memory_gb.value * 1024): p for p in catalog.pools if p.market is Market.SERVERLESS}
    total = 0.0
    for call in calls:
        pool = pools[call.memory_mb]
        assert pool.usd_per_gb_s is not None
        assert pool.usd_per_request is not None
        assert pool.billing_step_s is not None
        total += serverless_usd(
            call.billed_ms / 1e3,
            pool.billing_step_s.value,
            call.memory_mb / 1024,
            pool.usd_per_gb_s.value,
            pool.usd_per_request.value,
        )
    return total


def secrets_in(folder: Path, output: str) -> list[str]:
    """Names of files that hold the secret, and `output` where that does."""
    found = [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and SECRET.encode() in path.read_bytes()]
    return [*found, *(["output"] if SECRET in output else [])]
