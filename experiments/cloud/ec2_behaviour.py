"""What EC2 does and its stand-in does not, as rules on calls: capacity, tokens, throttling, lag, lost answers.

Each call passes through `Behaviour.answer`, which may answer it by itself, send one or several calls on, and change
what comes back. `BEHAVIOUR` says in a table what is added to the stand-in and where EC2's documentation says so; a
contract test holds the rules to it row by row.
"""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"

Form = dict[str, str]
"""A call: `Action` and its parameters."""


class Row(NamedTuple):
    """One behaviour of EC2."""

    name: str
    says: str
    source: str


_API = "docs.aws.amazon.com/AWSEC2/latest/APIReference"
_GUIDE = "docs.aws.amazon.com/ec2/latest"

BEHAVIOUR = (
    Row("most_count", "RunInstances launches up to MaxCount, at least MinCount", f"{_API}/API_RunInstances.html"),
    Row(
        "too_few",
        "RunInstances launches none where fewer than MinCount can be had: InsufficientInstanceCapacity",
        f"{_API}/API_RunInstances.html",
    ),
    Row(
        "partial_fleet",
        "an instant fleet launches what can be had and names an error for the rest",
        f"{_API}/API_CreateFleet.html",
    ),
    Row(
        "same_token",
        "a call repeated with its ClientToken is answered as the first was, and launches nothing",
        f"{_API}/Run_Instance_Idempotency.html",
    ),
    Row(
        "other_call",
        "a ClientToken with other parameters is refused: IdempotentParameterMismatch",
        f"{_API}/Run_Instance_Idempotency.html",
    ),
    Row(
        "throttled",
        "calls beyond a bucket are refused with 503: RequestLimitExceeded, and do nothing",
        f"{_GUIDE}/devguide/ec2-api-throttling.html",
    ),
    Row(
        "seen_late",
        "a new instance may not be listed at first",
        f"{_GUIDE}/devguide/eventual-consistency.html",
    ),
    Row(
        "gone_late",
        "a terminated instance may be listed as running at first",
        f"{_GUIDE}/devguide/eventual-consistency.html",
    ),
)


class Answer(NamedTuple):
    """What a caller gets; a status of 0 stands for a connection that ends without a word."""

    status: int
    body: bytes


LOST = Answer(0, b"")

Send = Callable[[Form], Answer]
"""Sends a call to the stand-in."""


@dataclass(eq=False)
class Behaviour:
    """State of the rules. All may be set from any thread, between calls.

    Attributes:
        capacity: Machines that can still be had, by instance type and subnet; what is not named has no limit.
        throttle: Calls to come that are refused, by action; `*` for any.
        lose_before: Calls to come that are lost before they do anything, by action.
        lose_after: Calls to come whose answer is lost, though they did what they were asked, by action.
        seen_late: Listings in which a new instance is missing.
        gone_late: Listings in which a terminated instance is still running.
    """

    capacity: dict[tuple[str, str], int] = field(default_factory=dict)
    throttle: dict[str, int] = field(default_factory=dict)
    lose_before: dict[str, int] = field(default_factory=dict)
    lose_after: dict[str, int] = field(default_factory=dict)
    seen_late: int = 0
    gone_late: int = 0
    created: list[str] = field(default_factory=list)  # ids, in order
    calls: list[Form] = field(default_factory=list)
    _tokens: dict[tuple[str, str], tuple[Form, Answer]] = field(default_factory=dict)
    _late: dict[str, int] = field(default_factory=dict)  # new: listings to come without it
    _lingering: dict[str, int] = field(default_factory=dict)  # terminated: listings to come with it
    _ended: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, form: Form, send: Send) -> Answer:
        """Answers one call."""
        with self._lock:
            self.calls.append(dict(form))
            action = form.get("Action", "")
            if _take(self.throttle, action):
                return error(503, "RequestLimitExceeded", "Request limit exceeded.")
            if _take(self.lose_before, action):
                return LOST
            given = self._once(form, send)
            return LOST if _take(self.lose_after, action) else given

    def reset(self) -> None:
        """Sets no rule and forgets all calls."""
        with self._lock:
            self.seen_late = self.gone_late = 0
            for held in (self.capacity, self.throttle, self.lose_before, self.lose_after, self._late, self._lingering):
                held.clear()
            self.created.clear()
            self.calls.clear()
            self._tokens.clear()
            self._ended.clear()

    # Rules

    def _once(self, form: Form, send: Send) -> Answer:
        """A call with a token is made once."""
        action, token = form.get("Action", ""), form.get("ClientToken", "")
        if not token:
            return self._made(form, send)
        held = self._tokens.get((action, token))
        if held is None:
            given = self._made(form, send)
            if given.status == 200:
                self._tokens[action, token] = dict(form), given
            return given
        if held[0] != form:
            text = "The client token you have provided is associated with another request with other parameters."
            return error(400, "IdempotentParameterMismatch", text)
        return held[1]

    def _made(self, form: Form, send: Send) -> Answer:
        action = form.get("Action", "")
        if action == "RunInstances":
            return self._run_instances(form, send)
        if action == "CreateFleet" and form.get("Type") == "instant":
            return self._create_fleet(form, send)
        given = send(form)
        if action == "TerminateInstances" and given.status == 200:
            for one in _numbered(form, "InstanceId"):
                if one not in self._ended:
                    self._ended.add(one)
                    self._lingering[one] = self.gone_late
        if action == "DescribeInstances" and given.status == 200:
            return self._listing(given)
        return given

    def _run_instances(self, form: Form, send: Send) -> Answer:
        kind = form.get("InstanceType", ""), form.get("SubnetId", "")
        least, most = int(form["MinCount"]), int(form["MaxCount"])
        count = min(most, self.capacity.get(kind, most))
        if count < least:
            return _no_capacity(*kind)
        given = send({**form, "MinCount": str(count), "MaxCount": str(count)})
        if given.status == 200:
            self._note_new(kind, [item.text or "" for item in ET.fromstring(given.body).iter(_tag("instanceId"))])
        return given

    def _create_fleet(self, form: Form, send: Send) -> Answer:
        """Override after override, as far as each has capacity; the stand-in puts all on the first."""
        wanted = int(form["TargetCapacitySpecification.TotalTargetCapacity"])
        prefix = "LaunchTemplateConfigs.1.Overrides."
        places = sorted({int(key[len(prefix) :].split(".")[0]) for key in form if key.startswith(prefix)})
        merged: ET.Element | None = None
        left, refused = wanted, []
        for place in places:
            own = {
                key.replace(f"{prefix}{place}.", ""): v
                for key, v in form.items()
                if key.startswith(f"{prefix}{place}.")
            }
            kind = own.get("InstanceType", ""), own.get("SubnetId", "")
            count = min(left, self.capacity.get(kind, left))
            if count < left:
                refused.append(kind)
            if count == 0:
                continue
            rest = {key: value for key, value in form.items() if not key.startswith(prefix) and key != "ClientToken"}
            one = {f"{prefix}1.{key}": value for key, value in own.items()}
            given = send({**rest, **one, "TargetCapacitySpecification.TotalTargetCapacity": str(count)})
            if given.status != 200:
                return given
            root = ET.fromstring(given.body)
            ids = [item.text or "" for group in root.iter(_tag("instanceIds")) for item in group]
            self._note_new(kind, ids)
            left -= count
            if merged is None:
                merged = root
            else:
                _child(merged, "fleetInstanceSet").extend(_child(root, "fleetInstanceSet"))
        if merged is None:
            merged = ET.Element(_tag("CreateFleetResponse"))
            ET.SubElement(merged, _tag("fleetId")).text = "fleet-00000000-0000-0000-0000-000000000000"
            ET.SubElement(merged, _tag("fleetInstanceSet"))
        if left:
            errors = ET.SubElement(merged, _tag("errorSet"))
            for kind in refused:
                item = ET.SubElement(errors, _tag("item"))
                ET.SubElement(item, _tag("errorCode")).text = "InsufficientInstanceCapacity"
                ET.SubElement(item, _tag("errorMessage")).text = _capacity_text(*kind)
        return Answer(200, ET.tostring(merged))

    def _note_new(self, kind: tuple[str, str], ids: list[str]) -> None:
        self.created += ids
        self._late |= dict.fromkeys(ids, self.seen_late)
        if kind in self.capacity:
            self.capacity[kind] -= len(ids)

    def _listing(self, given: Answer) -> Answer:
        root = ET.fromstring(given.body)
        reservations = _child(root, "reservationSet")
        for reservation in list(reservations):
            machines = _child(reservation, "instancesSet")
            for item in list(machines):
                one = item.findtext(_tag("instanceId")) or ""
                if _count_down(self._late, one):
                    machines.remove(item)
                elif _count_down(self._lingering, one):
                    state = _child(item, "instanceState")
                    _child(state, "code").text, _child(state, "name").text = "16", "running"
            if not len(machines):
                reservations.remove(reservation)
        return Answer(200, ET.tostring(root))


def error(status: int, code: str, text: str) -> Answer:
    """An error in EC2's words."""
    body = f"<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?>{body}<RequestID>r</RequestID></Response>'.encode())


def _no_capacity(instance_type: str, subnet: str) -> Answer:
    return error(500, "InsufficientInstanceCapacity", _capacity_text(instance_type, subnet))


def _capacity_text(instance_type: str, subnet: str) -> str:
    return f"We currently do not have sufficient {instance_type} capacity in the zone of {subnet}."


def _take(counts: dict[str, int], action: str) -> bool:
    """Uses up one of what is to come for an action."""
    for key in (action, "*"):
        if counts.get(key, 0) > 0:
            counts[key] -= 1
            return True
    return False


def _count_down(counts: dict[str, int], one: str) -> bool:
    if counts.get(one, 0) <= 0:
        counts.pop(one, None)
        return False
    counts[one] -= 1
    return True


def _numbered(form: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in form.items() if re.fullmatch(rf"{name}\.\d+", key)]


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _child(element: ET.Element, name: str) -> ET.Element:
    found = element.find(_tag(name))
    return ET.SubElement(element, _tag(name)) if found is None else found
