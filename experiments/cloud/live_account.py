"""An account on stand-ins for live runs: its terms, credentials whose secret is looked for, and what calls cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controller.arrays import BILL_TERMS, SERVERLESS_USE
from controller.bill import serverless_usd
from controller.catalog import Catalog, Market
from controller.journal import END, Journal
from experiments.cloud.aws_stand_in import REGION, StandIn, client
from experiments.cloud.function_service import Invocation

SECRET = "secret-key-of-the-stand-in"
"""Of the credentials that a run gets; must be found nowhere in what it writes."""

_ROLE = "arn:aws:iam::123456789012:role/provisor-function"


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


def account_file(path: Path, functions_url: str, machines: StandIn | None = None, queue_url: str | None = None) -> Path:
    """Writes terms whose endpoints are stand-ins.

    Args:
        path: Of the file.
        functions_url: Of the stand-in of Lambda.
        machines: Stand-in of EC2; None: no machine is bought.
        queue_url: Of its queue of events.
    """
    terms: dict[str, Any] = {
        "region": REGION,
        "endpoint_url": functions_url if machines is None else machines.url,
        "image_id": "ami-12c6146b",
        "subnets": {f"{REGION}a": "subnet-1"},
        "security_groups": ["sg-1"],
        "join_address": "127.0.0.1:6379",
        "functions": {
            "role_arn": _ROLE,
            "runtime": "python" + ".".join(platform.python_version_tuple()[:2]),
            "endpoint_url": functions_url,
        },
    }
    if machines is not None:
        ec2 = client("ec2", machines.plain_url)
        terms["subnets"] = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
        terms["security_groups"] = [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]]
        terms["queue_url"] = queue_url
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(terms), encoding="utf-8")
    return path


def billed_usd(journal: Path) -> float:
    """What a run's journal has for serverless calls, by its ticks and since the last of them."""
    read = Journal(journal)
    total = float(sum(tick.observation.spend_usd[0, SERVERLESS_USE] for tick in read.ticks()))
    for event in read.events(END):
        rest_usd = event.fields["spend_usd"]
        assert isinstance(rest_usd, dict)
        total += float(str(rest_usd[BILL_TERMS[SERVERLESS_USE]]))
    return total


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


def secrets_in(*folders: Path) -> list[str]:
    """Names of files in folders that hold the secret."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]
