"""What EC2 announces about machines: events of EventBridge, as they lie in a queue of SQS.

A rule hands the account's events to a queue of the run; a program on the machine, which reads the same from the
machine's own metadata, sends it there as well (`serving.aws.on_node`). Both are read here, and saying a thing twice
changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

WARNING_S = 120.0
"""EC2 takes a spot machine no sooner than this after its warning."""


class Kind(StrEnum):
    """What is announced, in EventBridge's words."""

    INTERRUPTION = "EC2 Spot Instance Interruption Warning"
    REBALANCE = "EC2 Instance Rebalance Recommendation"
    STATE = "EC2 Instance State-change Notification"


@dataclass(frozen=True)
class Announced:
    """One event about one machine."""

    kind: Kind
    instance_id: str
    at_s: float  # seconds since the epoch
    state: str = ""  # of a change of state

    def left_s(self, now_s: float) -> float | None:
        """Seconds until the machine is taken; None where that is not announced.

        Args:
            now_s: Seconds since the epoch. A clock that is behind EC2's cannot make the notice longer.
        """
        if self.kind is Kind.INTERRUPTION:
            return min(WARNING_S, max(0.0, self.at_s + WARNING_S - now_s))
        return 0.0 if self.state in ("shutting-down", "terminated", "stopping", "stopped") else None


def read_event(body: str) -> Announced | None:
    """An event from the body of a message; None for anything else, which a queue may hold as well."""
    try:
        event: Any = json.loads(body)
        kind = Kind(event["detail-type"])
        detail = event["detail"]
        at_s = datetime.fromisoformat(event["time"]).astimezone(UTC).timestamp()
        return Announced(kind, str(detail["instance-id"]), at_s, str(detail.get("state", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def event_of(kind: Kind, instance_id: str, at_s: float, state: str = "") -> dict[str, Any]:
    """The event as EventBridge tells it, for what is announced by other means."""
    detail = {"instance-id": instance_id} | ({"state": state} if state else {})
    if kind is Kind.INTERRUPTION:
        detail["instance-action"] = "terminate"
    time = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"version": "0", "source": "aws.ec2", "detail-type": kind.value, "time": time, "detail": detail}


class EventQueue:
    """A queue of SQS that holds events.

    Args:
        client: Of SQS, by boto3.
        url: Of the queue.
        wait_s: Longest wait of one reading, 0..20.
    """

    def __init__(self, client: Any, url: str, wait_s: int = 20) -> None:
        self._client, self._url, self._wait_s = client, url, wait_s

    def read(self) -> list[Announced]:
        """Waits for messages, takes them off the queue, and returns the events among them.

        Raises:
            BotoCoreError, ClientError: No answer, or a refusal; messages that were not taken off come again.
        """
        answer = self._client.receive_message(QueueUrl=self._url, WaitTimeSeconds=self._wait_s, MaxNumberOfMessages=10)
        messages: Sequence[Mapping[str, Any]] = answer.get("Messages", ())
        found = [event for message in messages if (event := read_event(message["Body"])) is not None]
        if messages:
            entries = [{"Id": str(i), "ReceiptHandle": one["ReceiptHandle"]} for i, one in enumerate(messages)]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return found

    def send(self, event: Mapping[str, Any]) -> None:
        """Puts an event into the queue."""
        self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(event))
