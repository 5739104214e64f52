"""Gives back all that runs have on EC2, and proves it: afterwards a listing shows nothing of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.errors import ClusterError
from serving.aws.faults import AwsError, Fault
from serving.aws.machines import RUN_TAG, Machine, Machines

_STEP_S = 1.0
_QUIET_STEPS = 10
# A machine that was just bought may be missing from the first listings.


@dataclass(frozen=True)
class GivenBack:
    """What was given back."""

    machines: tuple[Machine, ...]
    templates: tuple[str, ...]


def give_back(
    machines: Machines,
    timeout_s: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> GivenBack:
    """Gives everything of a run back, and returns once several listings in a row show none of it.

    Args:
        machines: Of the run.
        timeout_s: For all of it.
        clock: Seconds.
        sleep: Waits.

    Raises:
        ClusterError: Something is still there, or EC2 refuses; names what.
    """
    given: dict[str, Machine] = {}
    end_s, quiet, trouble = clock() + timeout_s, 0, ""
    while quiet < _QUIET_STEPS:
        try:
            here = {one.instance_id: one for one in machines.all() if one.is_here}
            if here:
                machines.terminate(here)
            given |= here
            quiet, trouble = (0 if here else quiet + 1), ", ".join(sorted(here))
        except AwsError as error:
            if error.fault is Fault.REFUSED:
                raise ClusterError(f"EC2 refuses: {error.text}") from error
            quiet, trouble = 0, error.text
        if clock() > end_s:
            raise ClusterError(f"after {timeout_s:g} s expected nothing of the run to be there, got: {trouble}")
        if quiet < _QUIET_STEPS:
            sleep(_STEP_S)
    return GivenBack(tuple(given.values()), tuple(_templates_of(machines, end_s, clock, sleep)))


def runs_of(client: Any) -> dict[str, int]:
    """Runs that have machines, by their tag, and how many are there.

    Raises:
        BotoCoreError, ClientError: No answer, or a refusal.
    """
    found: dict[str, int] = {}
    pages = client.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": "tag-key", "Values": [RUN_TAG]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
    )
    for page in pages:
        for group in page["Reservations"]:
            for one in group["Instances"]:
                run = next(tag["Value"] for tag in one["Tags"] if tag["Key"] == RUN_TAG)
                found[run] = found.get(run, 0) + 1
    return found


def _templates_of(
    machines: Machines, end_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> list[str]:
    while True:
        try:
            return machines.forget_templates()
        except AwsError as error:
            if error.fault is Fault.REFUSED or clock() > end_s:
                raise ClusterError(f"launch templates of the run are still there: {error.text}") from error
        sleep(_STEP_S)
