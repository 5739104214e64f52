"""On a spot machine: reads its own metadata, and tells the run's queue when EC2 means to take it.

`python -m serving.aws.on_node QUEUE_URL` is the second way for a notice, beside the event that EC2 sends: it works
where events are late. It asks for nothing but the right to send to that queue.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from serving.aws.events import EventQueue, Kind, event_of

METADATA_HOST = "169.254.169.254"
EVERY_S = 2.0
_TOKEN_S = 21600
_TIMEOUT_S = 2.0


class Metadata:
    """The metadata service of this machine (IMDSv2).

    Args:
        host: Host, and port where it is another than 80.
    """

    def __init__(self, host: str = METADATA_HOST) -> None:
        self._host = host
        self._token = ""

    def get(self, path: str) -> str | None:
        """Text at a path below `latest/`; None where there is none."""
        for _ in range(2):
            if not self._token:
                _, self._token = self._ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)})
            status, text = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
            if status != 401:
                return text if status == 200 else None
            self._token = ""  # it ran out
        return None

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_S)
        try:
            connection.request(method, f"/latest/{path}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


def look(metadata: Metadata, instance_id: str, now_s: float) -> dict[str, Any] | None:
    """The event that this machine's metadata amounts to now; None for none."""
    if metadata.get("meta-data/spot/instance-action") is not None:
        return event_of(Kind.INTERRUPTION, instance_id, now_s)
    if metadata.get("meta-data/events/recommendations/rebalance") is not None:
        return event_of(Kind.REBALANCE, instance_id, now_s)
    return None


def watch(metadata: Metadata, queue: EventQueue, sleep: Callable[[float], None] = time.sleep) -> None:
    """Looks every two seconds until the machine is announced to be taken; tells each kind of event once."""
    instance_id, told = "", ""
    while told != Kind.INTERRUPTION:
        try:
            instance_id = instance_id or metadata.get("meta-data/instance-id") or ""
            event = look(metadata, instance_id, time.time()) if instance_id else None
            if event is not None and event["detail-type"] != told:
                queue.send(event)
                told = event["detail-type"]
        except Exception as error:  # noqa: BLE001 - nobody would start it anew
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sleep(EVERY_S)


def main() -> None:
    """Entry point: one argument, the queue's URL."""
    import boto3

    (url,) = sys.argv[1:]
    region = json.loads(Metadata().get("dynamic/instance-identity/document") or "{}").get("region")
    watch(Metadata(), EventQueue(boto3.client("sqs", region_name=region), url))


if __name__ == "__main__":
    main()
