"""The machines of a run by real calls: found by tags, launched once, in the order of their kinds, given back."""

import base64

import pytest

from serving.aws.faults import AwsError, Fault
from serving.aws.machines import POOL_TAG, RUN_TAG, State
from serving.aws.terms import Choice
from tests.cloud.account import KINDS, kind_of, machines_of


def actions(aws):
    return [call["Action"] for call in aws.behaviour.calls]


def test_machines_carry_the_run_the_pool_and_the_owner_s_tags(aws):
    machines = machines_of(aws)
    made = machines.launch("spot", 2, "token")
    assert made.fault is None
    found = {one.instance_id: one for one in machines.all() if one.is_here}
    assert sorted(found) == sorted(made.ids)
    assert {(one.pool, one.is_spot, one.instance_type) for one in found.values()} == {("spot", True, "c5.large")}
    tags = aws.client("ec2").describe_instances(InstanceIds=[made.ids[0]])["Reservations"][0]["Instances"][0]["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags}.items() >= {
        RUN_TAG: aws.run,
        POOL_TAG: "spot",
        "team": "serving",
    }.items()


def test_machines_of_others_are_not_seen(aws):
    others = machines_of(aws, run="another")
    assert len(others.launch("od", 1, "token").ids) == 1
    assert [one for one in machines_of(aws).all() if one.is_here] == []


def test_launch_that_is_repeated_buys_nothing(aws):
    machines = machines_of(aws)
    first = machines.launch("od", 2, "token")
    assert machines.launch("od", 2, "token") == first
    assert aws.there() == sorted(first.ids)
    assert machines.launch("od", 1, "another").ids != first.ids


def test_kinds_are_bought_in_their_order_and_what_is_lacking_is_named(aws):
    aws.behaviour.capacity |= {kind_of(aws, KINDS[0]): 1, kind_of(aws, KINDS[1]): 1}
    machines = machines_of(aws)
    made = machines.launch("od", 3, "token")
    assert made.fault is Fault.NO_CAPACITY
    assert "InsufficientInstanceCapacity" in made.text
    kinds = {one.instance_id: one.instance_type for one in machines.all()}
    assert [kinds[one] for one in made.ids] == ["c5.large", "c5.xlarge"]


def test_fleet_that_answers_with_an_error_of_its_own_is_an_answer(aws, monkeypatch):
    aws.behaviour.capacity |= {kind_of(aws, kind): 0 for kind in KINDS}
    made = aws.behaviour._made

    def answered(form, send):
        given = made(form, send)
        return given._replace(body=given.body.replace(b"InsufficientInstanceCapacity", b"InternalError"))

    monkeypatch.setattr(aws.behaviour, "_made", answered)
    assert machines_of(aws).launch("od", 1, "token").fault is Fault.NO_CAPACITY  # not to be sent again as it was


@pytest.mark.parametrize("pool", ["od", "spot"])
def test_without_the_right_to_fleets_each_kind_is_bought_by_itself(aws, pool, monkeypatch):
    machines = machines_of(aws)
    aws.behaviour.capacity[kind_of(aws, KINDS[0])] = 1
    refuse_fleets(monkeypatch, aws)
    made = machines.launch(pool, 3, "token")
    assert made.fault is None
    found = [one for one in machines.all() if one.instance_id in made.ids]
    assert sorted(one.instance_type for one in found) == ["c5.large", "c5.xlarge", "c5.xlarge"]
    assert {(one.pool, one.is_spot) for one in found} == {(pool, pool == "spot")}
    assert machines.launch(pool, 3, "token") == made
    assert len(aws.there()) == 3
    assert actions(aws).count("CreateFleet") == 1  # it is not asked for again


def refuse_fleets(monkeypatch, aws):
    from experiments.cloud.ec2_behaviour import error

    made = aws.behaviour._made

    def refused(form, send):
        if form["Action"] == "CreateFleet":
            return error(403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
        return made(form, send)

    monkeypatch.setattr(aws.behaviour, "_made", refused)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [("throttle", Fault.THROTTLED), ("lose_before", Fault.NO_ANSWER), ("lose_after", Fault.NO_ANSWER)],
)
def test_launch_without_an_answer_says_so_and_can_be_repeated(aws, rule, fault):
    machines = machines_of(aws)
    machines.prepare(("od",))
    getattr(aws.behaviour, rule)["CreateFleet"] = 1
    lost = machines.launch("od", 2, "token")
    assert (lost.ids, lost.fault) == ((), fault)
    assert len(machines.launch("od", 2, "token").ids) == 2
    assert len(aws.there()) == 2


def test_listing_without_an_answer_raises(aws):
    aws.behaviour.throttle["DescribeInstances"] = 1
    with pytest.raises(AwsError) as caught:
        machines_of(aws).all()
    assert caught.value.fault is Fault.THROTTLED


def test_machines_are_given_back_though_some_are_unknown(aws):
    machines = machines_of(aws)
    made = machines.launch("od", 2, "token")
    machines.terminate([*made.ids, "i-0123456789abcdef0"])
    assert aws.there() == []
    assert {one.state for one in machines.all() if one.instance_id in made.ids} == {State.TERMINATED}


def test_template_is_made_once_and_anew_where_it_changes(aws):
    machines_of(aws).prepare(("od", "spot"))
    machines_of(aws).prepare(("od", "spot"))
    ec2 = aws.client("ec2")
    templates = ec2.describe_launch_templates()["LaunchTemplates"]
    names = [f"provisor-{aws.run}-od", f"provisor-{aws.run}-spot"]
    assert sorted(one["LaunchTemplateName"] for one in templates) == names
    assert {one["LatestVersionNumber"] for one in templates} == {1}
    other = (Choice(instance_type="m5.large", zone=KINDS[0].zone),)
    changed = machines_of(aws, other)
    changed.prepare(("od",))
    made = changed.launch("od", 1, "token")
    (machine,) = [one for one in changed.all() if one.instance_id in made.ids]
    assert machine.instance_type == "m5.large"
    assert changed.forget_templates() == names
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []


def test_new_machine_joins_under_its_pool_s_label_and_ends_itself_where_it_cannot(aws):
    machines_of(aws).prepare(("od",))
    (version,) = aws.client("ec2").describe_launch_template_versions(LaunchTemplateName=f"provisor-{aws.run}-od")[
        "LaunchTemplateVersions"
    ]
    data = version["LaunchTemplateData"]
    script = base64.b64decode(data["UserData"]).decode()
    assert "ray start --address=10.0.0.1:6379" in script
    assert "provisor-pool=od,provisor-instance=$INSTANCE_ID" in script
    assert '{"slot_od": 1}' in script
    assert script.strip().endswith("shutdown -h now")
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["MetadataOptions"]["HttpTokens"] == "required"


def test_dry_run_tells_the_calls_and_makes_none(aws):
    told = []
    machines = machines_of(aws, is_dry=True, tell=lambda name, parameters: told.append((name, parameters)))
    assert machines.launch("spot", 2, "token") == machines.launch("spot", 2, "token")
    machines.terminate(["i-0123456789abcdef0"])
    assert [name for name, _ in told] == [
        "create_launch_template",
        "create_fleet",
        "create_fleet",
        "terminate_instances",
    ]
    assert told[1][1]["TargetCapacitySpecification"]["TotalTargetCapacity"] == 2
    assert {action[:8] for action in actions(aws)} == {"Describe"}
