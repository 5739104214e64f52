"""What a failed call to AWS means to whoever made it, in four words."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_NO_CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InstanceLimitExceeded",
        "VcpuLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
    }
)
_THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "EC2ThrottledException",
        "TooManyRequestsException",
    }
)
_NO_ANSWER = frozenset({"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout"})


class Fault(StrEnum):
    """Why a call did not do what was asked."""

    NO_CAPACITY = "no_capacity"  # nothing of it can be had now
    THROTTLED = "throttled"  # too many calls; nothing was done
    NO_ANSWER = "no_answer"  # it may have been done or not
    REFUSED = "refused"  # wrong or not allowed: the same call fails again


class AwsError(Exception):
    """A call failed."""

    def __init__(self, fault: Fault, text: str, code: str = "") -> None:
        super().__init__(f"{fault}: {text}")
        self.fault, self.text, self.code = fault, text, code


def fault_of(code: str) -> Fault:
    """What an error code of EC2 means to an owner of nodes."""
    if code in _NO_CAPACITY:
        return Fault.NO_CAPACITY
    if code in _THROTTLED:
        return Fault.THROTTLED
    return Fault.NO_ANSWER if code in _NO_ANSWER else Fault.REFUSED


def call(client: Any, name: str, **parameters: Any) -> Any:
    """Makes one call.

    Args:
        client: By boto3, without retries of its own.
        name: Method of the client.
        **parameters: As the service names them.

    Raises:
        AwsError: It failed.
    """
    try:
        return getattr(client, name)(**parameters)
    except ClientError as error:
        told = error.response.get("Error", {})
        code, text = str(told.get("Code", "")), str(told.get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        fault = fault_of(code)
        if fault is Fault.REFUSED and status >= 500:
            fault = Fault.NO_ANSWER
        raise AwsError(fault, f"{name}: {code}: {text}", code) from error
    except BotoCoreError as error:
        raise AwsError(Fault.NO_ANSWER, f"{name}: {type(error).__name__}: {error}") from error
