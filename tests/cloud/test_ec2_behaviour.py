"""The contract of the stand-in: each row of the table of EC2's behaviour, by real calls over HTTP."""

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, HTTPClientError

from experiments.cloud.ec2_behaviour import BEHAVIOUR
from experiments.cloud.lifecycle import IMAGE
from tests.cloud.account import KINDS, kind_of, terms_of

LOST = (ConnectionClosedError, EndpointConnectionError, HTTPClientError)
PROVED = set()


def proves(name):
    """Marks a test as that of a row."""
    PROVED.add(name)
    return lambda test: test


@pytest.fixture
def ec2(aws):
    return aws.client("ec2")


@pytest.fixture
def subnet(aws):
    return terms_of(aws).subnets[KINDS[0].zone]


def run(ec2, subnet, least, most, token, **more):
    return ec2.run_instances(
        ImageId=IMAGE,
        InstanceType=KINDS[0].instance_type,
        SubnetId=subnet,
        MinCount=least,
        MaxCount=most,
        ClientToken=token,
        **more,
    )["Instances"]


def fleet(ec2, aws, count, token):
    data = {"ImageId": IMAGE, "InstanceType": "c5.large"}
    found = ec2.describe_launch_templates()["LaunchTemplates"]
    template = (
        found[0]
        if found
        else ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData=data)["LaunchTemplate"]
    )
    subnets = terms_of(aws).subnets
    return ec2.create_fleet(
        Type="instant",
        ClientToken=token,
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"},
                "Overrides": [
                    {"InstanceType": one.instance_type, "SubnetId": subnets[one.zone], "Priority": float(place)}
                    for place, one in enumerate(KINDS)
                ],
            }
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": count, "DefaultTargetCapacityType": "on-demand"},
    )


def state_of(ec2, machine):
    """As listed; None where it is not."""
    only = [{"Name": "instance-id", "Values": [machine["InstanceId"]]}]
    found = [one for group in ec2.describe_instances(Filters=only)["Reservations"] for one in group["Instances"]]
    return found[0]["State"]["Name"] if found else None


def refused(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


@proves("most_count")
def test_as_many_as_can_be_had_up_to_the_most(aws, ec2, subnet):
    assert len(run(ec2, subnet, 1, 3, "a")) == 3
    aws.behaviour.capacity[kind_of(aws, KINDS[0])] = 2
    assert len(run(ec2, subnet, 1, 3, "b")) == 2
    assert len(aws.there()) == 5


@proves("too_few")
def test_fewer_than_the_least_are_none(aws, ec2, subnet):
    aws.behaviour.capacity[kind_of(aws, KINDS[0])] = 1
    assert refused(lambda: run(ec2, subnet, 2, 3, "a")) == (500, "InsufficientInstanceCapacity")
    assert aws.there() == []
    # The token of a launch that failed is free.
    aws.behaviour.capacity.clear()
    assert len(run(ec2, subnet, 2, 3, "a")) == 3


@proves("partial_fleet")
def test_fleet_goes_through_its_kinds_and_names_what_it_lacks(aws, ec2):
    aws.behaviour.capacity |= {kind_of(aws, KINDS[0]): 1, kind_of(aws, KINDS[1]): 2}
    made = fleet(ec2, aws, 4, "a")
    by_type = {group["InstanceType"]: [] for group in made["Instances"]}
    for group in made["Instances"]:
        by_type[group["InstanceType"]] += group["InstanceIds"]
    assert {name: len(ids) for name, ids in by_type.items()} == {"c5.large": 1, "c5.xlarge": 2}
    assert {one["ErrorCode"] for one in made["Errors"]} == {"InsufficientInstanceCapacity"}
    assert len(aws.there()) == 3
    nothing = fleet(ec2, aws, 1, "b")
    assert nothing["Instances"] == []
    assert len(nothing["Errors"]) == 2


@proves("same_token")
@pytest.mark.parametrize("is_fleet", [False, True])
def test_call_that_is_repeated_launches_nothing(aws, ec2, subnet, is_fleet):
    def ids():
        if is_fleet:
            return sorted(one for group in fleet(ec2, aws, 2, "a")["Instances"] for one in group["InstanceIds"])
        return sorted(one["InstanceId"] for one in run(ec2, subnet, 1, 2, "a"))

    fleet(ec2, aws, 1, "other")  # makes the template
    first = ids()
    assert ids() == first
    assert len(aws.there()) == 3


@proves("other_call")
def test_token_with_other_parameters_is_refused(aws, ec2, subnet):
    run(ec2, subnet, 1, 1, "a")
    assert refused(lambda: run(ec2, subnet, 1, 2, "a")) == (400, "IdempotentParameterMismatch")
    assert len(aws.there()) == 1


@proves("throttled")
def test_throttled_call_does_nothing(aws, ec2, subnet):
    aws.behaviour.throttle["RunInstances"] = 1
    assert refused(lambda: run(ec2, subnet, 1, 1, "a")) == (503, "RequestLimitExceeded")
    assert aws.there() == []
    assert len(run(ec2, subnet, 1, 1, "a")) == 1


@proves("seen_late")
def test_new_machine_is_missing_from_the_first_listings(aws, ec2, subnet):
    aws.behaviour.seen_late = 2
    (machine,) = run(ec2, subnet, 1, 1, "a")
    assert [state_of(ec2, machine) for _ in range(3)] == [None, None, "running"]


@proves("gone_late")
def test_machine_that_is_gone_is_in_the_first_listings(aws, ec2, subnet):
    (machine,) = run(ec2, subnet, 1, 1, "a")
    aws.behaviour.gone_late = 1
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    assert [state_of(ec2, machine) for _ in range(2)] == ["running", "terminated"]
    assert aws.there() == []


@pytest.mark.parametrize(("when", "launched"), [("lose_before", 0), ("lose_after", 1)])
def test_answer_that_is_lost_leaves_open_what_was_done(aws, ec2, subnet, when, launched):
    getattr(aws.behaviour, when)["RunInstances"] = 1
    with pytest.raises(LOST):
        run(ec2, subnet, 1, 1, "a")
    assert len(aws.there()) == launched
    assert len(run(ec2, subnet, 1, 1, "a")) == 1
    assert len(aws.there()) == 1


def test_every_row_of_the_table_is_proved():
    assert {row.name for row in BEHAVIOUR} == PROVED
