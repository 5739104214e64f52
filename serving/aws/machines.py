"""The machines of one run on EC2, through boto3: found by their tags, launched by a fleet, given back by id.

Every call is repeatable. A launch carries a token, by which EC2 answers a repeated call with what the first one bought;
templates and terminations are idempotent by themselves. What a call came to is told in the few words that matter to an
owner of nodes: what was bought, and whether there was no capacity, too many calls, no answer, or a refusal for good.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from serving.aws.faults import AwsError, Fault, call, fault_of
from serving.aws.join import user_data
from serving.aws.terms import OURS, AwsTerms, Purchase

RUN_TAG, POOL_TAG = f"{OURS}run", f"{OURS}pool"

_NO_FLEETS = frozenset({"UnauthorizedOperation", "InvalidAction", "UnsupportedOperation"})
_GONE = "InvalidInstanceID.NotFound"
_PAGE = 1000


class State(StrEnum):
    """Of a machine, in EC2's words."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Machine:
    """One machine that carries a run's tag."""

    instance_id: str
    pool: str  # as its tag says; empty without one
    state: State
    instance_type: str
    zone: str
    is_spot: bool
    launched_s: float  # seconds since the epoch, by EC2's clock

    @property
    def is_here(self) -> bool:
        """Whether it exists or is coming up, and nobody has given it up."""
        return self.state in (State.PENDING, State.RUNNING)


@dataclass(frozen=True)
class Launched:
    """What a launch came to."""

    ids: tuple[str, ...]
    fault: Fault | None = None  # why there are fewer than asked for; without an answer or throttled: so far
    text: str = ""


class Machines:
    """The machines of one run.

    Args:
        client: Of EC2, by boto3; without retries of its own, so that a pause is ours to choose.
        run: Word that marks what is this run's.
        terms: Of the account.
        buys: How each pool is bought.
        is_dry: Calls that change something are told and not made.
        tell: Told of each call that changes something: its name and parameters.
    """

    def __init__(
        self,
        client: Any,
        run: str,
        terms: AwsTerms,
        buys: Mapping[str, Purchase],
        *,
        is_dry: bool = False,
        tell: Callable[[str, Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._client, self._run, self._terms, self._buys = client, run, terms, buys
        self._is_dry = is_dry
        self._tell = tell
        self._templates: dict[str, tuple[str, str]] = {}  # pool to id and version
        self._has_fleets = True

    # What there is

    def all(self) -> list[Machine]:
        """All that carry the run's tag, those given up lately too, oldest first.

        Raises:
            AwsError: No answer, or a refusal.
        """
        found: list[Machine] = []
        more: dict[str, Any] = {}
        while True:
            page = self._call("describe_instances", Filters=[_filter(RUN_TAG, self._run)], MaxResults=_PAGE, **more)
            found += [_machine(one) for group in page["Reservations"] for one in group["Instances"]]
            if not page.get("NextToken"):
                return sorted(found, key=lambda machine: (machine.launched_s, machine.instance_id))
            more = {"NextToken": page["NextToken"]}

    # What is changed

    def prepare(self, pools: Iterable[str]) -> None:
        """Makes sure that each pool has a launch template as it is to be now.

        Raises:
            AwsError: One could not be made.
        """
        for pool in pools:
            if pool not in self._templates:
                self._templates[pool] = self._template(self._buys[pool])

    def launch(self, pool: str, count: int, token: str) -> Launched:
        """Asks for machines of a pool, as many as can be had up to a number.

        Args:
            pool: Name.
            count: >= 1.
            token: Equal tokens with equal counts are one launch, however often they are sent.
        """
        try:
            self.prepare((pool,))
            if self._has_fleets:
                try:
                    return self._by_fleet(self._buys[pool], count, token)
                except AwsError as error:
                    if error.code not in _NO_FLEETS:
                        raise
                    self._has_fleets = False
            return self._one_by_one(self._buys[pool], count, token)
        except AwsError as error:
            return Launched((), error.fault, error.text)

    def terminate(self, ids: Iterable[str]) -> None:
        """Gives machines back; those that are gone already are no error.

        Raises:
            AwsError: It is not known whether all were given back.
        """
        left = sorted(ids)
        while left:
            try:
                self._change("terminate_instances", InstanceIds=left)
                return
            except AwsError as error:
                # One that EC2 has forgotten fails the call for all of them.
                gone = [one for one in left if one in error.text] if error.code == _GONE else []
                if not gone:
                    raise
                left = [one for one in left if one not in gone]

    def forget_templates(self) -> list[str]:
        """Deletes the run's launch templates; returns their names.

        Raises:
            AwsError: One could not be deleted.
        """
        page = self._call("describe_launch_templates", Filters=[_filter(RUN_TAG, self._run)])
        names = [one["LaunchTemplateName"] for one in page["LaunchTemplates"]]
        for name in names:
            self._change("delete_launch_template", LaunchTemplateName=name)
        self._templates.clear()
        return sorted(names)

    # Steps

    def _template(self, buy: Purchase) -> tuple[str, str]:
        data = self._template_data(buy)
        name, digest = f"provisor-{self._run}-{buy.pool}", _digest(data)
        named = self._call("describe_launch_templates", Filters=[{"Name": "launch-template-name", "Values": [name]}])
        if not named["LaunchTemplates"]:
            made = self._change(
                "create_launch_template",
                LaunchTemplateName=name,
                VersionDescription=digest,
                LaunchTemplateData=data,
                ClientToken=_token(name, digest),
                TagSpecifications=[{"ResourceType": "launch-template", "Tags": self._tags(buy.pool)}],
            )
            return (made or {}).get("LaunchTemplate", {}).get("LaunchTemplateId", name), "1"
        template = named["LaunchTemplates"][0]["LaunchTemplateId"]
        versions = self._call("describe_launch_template_versions", LaunchTemplateId=template)["LaunchTemplateVersions"]
        same = [v["VersionNumber"] for v in versions if v.get("VersionDescription") == digest]
        if same:
            return template, str(max(same))
        made = self._change(
            "create_launch_template_version",
            LaunchTemplateId=template,
            VersionDescription=digest,
            LaunchTemplateData=data,
            ClientToken=_token(template, digest),
        )
        return template, str((made or {}).get("LaunchTemplateVersion", {}).get("VersionNumber", "$Latest"))

    def _template_data(self, buy: Purchase) -> dict[str, Any]:
        terms = self._terms
        data: dict[str, Any] = {
            "ImageId": buy.image_id,
            "InstanceType": buy.order[0].instance_type,
            "SecurityGroupIds": list(terms.security_groups),
            "UserData": _base64(user_data(terms, buy.pool, is_spot=buy.is_spot)),
            # A machine that shuts itself down is given back, and its metadata is for programs with a token only.
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        }
        if terms.instance_profile:
            data["IamInstanceProfile"] = {"Name": terms.instance_profile}
        if terms.key_name:
            data["KeyName"] = terms.key_name
        return data

    def _by_fleet(self, buy: Purchase, count: int, token: str) -> Launched:
        template, version = self._templates[buy.pool]
        overrides = [
            {"InstanceType": one.instance_type, "SubnetId": self._terms.subnets[one.zone], "Priority": float(place)}
            for place, one in enumerate(buy.order)
        ]
        made = self._change(
            "create_fleet",
            Type="instant",
            ClientToken=token,
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": version},
                    "Overrides": overrides,
                }
            ],
            TargetCapacitySpecification={
                "TotalTargetCapacity": count,
                "DefaultTargetCapacityType": "spot" if buy.is_spot else "on-demand",
            },
            SpotOptions={"AllocationStrategy": "capacity-optimized-prioritized"},
            OnDemandOptions={"AllocationStrategy": "prioritized"},
            TagSpecifications=[
                {"ResourceType": kind, "Tags": self._tags(buy.pool)} for kind in ("fleet", "instance", "volume")
            ],
        )
        if made is None:
            return Launched(())
        ids = tuple(one for group in made.get("Instances") or () for one in group["InstanceIds"])
        errors = [(one.get("ErrorCode", ""), one.get("ErrorMessage", "")) for one in made.get("Errors") or ()]
        if len(ids) >= count:
            return Launched(ids)
        return _short(ids, errors or [("InsufficientInstanceCapacity", "fewer machines than asked for")])

    def _one_by_one(self, buy: Purchase, count: int, token: str) -> Launched:
        """Without fleets: each kind of machine in its order, as far as it goes."""
        template, version = self._templates[buy.pool]
        ids: tuple[str, ...] = ()
        errors: list[tuple[str, str]] = []
        for place, one in enumerate(buy.order):
            more: dict[str, Any] = {}
            if buy.is_spot:
                more["InstanceMarketOptions"] = {
                    "MarketType": "spot",
                    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
                }
            try:
                made = self._change(
                    "run_instances",
                    LaunchTemplate={"LaunchTemplateId": template, "Version": version},
                    InstanceType=one.instance_type,
                    SubnetId=self._terms.subnets[one.zone],
                    MinCount=1,
                    MaxCount=count - len(ids),
                    ClientToken=_token(token, str(place)),
                    TagSpecifications=[
                        {"ResourceType": kind, "Tags": self._tags(buy.pool)} for kind in ("instance", "volume")
                    ],
                    **more,
                )
            except AwsError as error:
                if error.fault is not Fault.NO_CAPACITY:
                    return Launched(ids, error.fault, error.text)
                errors.append(("InsufficientInstanceCapacity", error.text))
                continue
            ids += tuple(machine["InstanceId"] for machine in (made or {}).get("Instances", ()))
            if len(ids) >= count or made is None:
                return Launched(ids)
        return _short(ids, errors or [("InsufficientInstanceCapacity", "fewer machines than asked for")])

    def _tags(self, pool: str) -> list[dict[str, str]]:
        ours = {RUN_TAG: self._run, POOL_TAG: pool, "Name": f"provisor {self._run} {pool}"}
        return [{"Key": key, "Value": value} for key, value in {**self._terms.tags, **ours}.items()]

    def _change(self, name: str, **parameters: Any) -> Any:
        """A call that changes something; None where it was not made."""
        if self._tell is not None:
            self._tell(name, parameters)
        return None if self._is_dry else self._call(name, **parameters)

    def _call(self, name: str, **parameters: Any) -> Any:
        return call(self._client, name, **parameters)


def _short(ids: tuple[str, ...], errors: Sequence[tuple[str, str]]) -> Launched:
    """Fewer than asked for, by an answer: whatever EC2 names, there are none for now, unless all of it is refused."""
    is_refused = all(fault_of(code) is Fault.REFUSED for code, _ in errors)
    return Launched(
        ids,
        Fault.REFUSED if is_refused else Fault.NO_CAPACITY,
        "; ".join(sorted({f"{code}: {text}" for code, text in errors})),
    )


def _machine(fields: Mapping[str, Any]) -> Machine:
    tags = {tag["Key"]: tag["Value"] for tag in fields.get("Tags", ())}
    return Machine(
        instance_id=fields["InstanceId"],
        pool=tags.get(POOL_TAG, ""),
        state=State(fields["State"]["Name"]),
        instance_type=fields["InstanceType"],
        zone=fields.get("Placement", {}).get("AvailabilityZone", ""),
        is_spot=fields.get("InstanceLifecycle") == "spot",
        launched_s=fields["LaunchTime"].timestamp(),
    )


def _filter(tag: str, value: str) -> dict[str, Any]:
    return {"Name": f"tag:{tag}", "Values": [value]}


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def _token(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:64]


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()
