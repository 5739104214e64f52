"""The rights in the policy file are those that the calls need: none is missing, none is idle, none is unbounded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import serving
from experiments.cloud.ec2_behaviour import error
from serving.aws.events import EventQueue
from serving.aws.function_calls import FunctionCaller
from serving.aws.function_package import package
from serving.bring_your_own import ModelSpec
from tests.cloud.account import machines_of

POLICY = json.loads((Path(serving.__file__).parent / "deploy" / "aws-iam-policy.json").read_text())
STATEMENTS = POLICY["Statement"]
LOOKS = ("ec2:Describe", "lambda:List")
BY_OTHERS = {"ec2:CreateTags", "iam:PassRole", "lambda:GetLayerVersion", "lambda:TagResource"}
"""Rights that EC2 and Lambda ask for within other calls."""
RIGHTS = {"lambda:Invoke": "lambda:InvokeFunction"}
"""Of calls that are named otherwise."""


def actions_of(statement):
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def without_fleets(made):
    def answered(form, send):
        return error(403, "UnauthorizedOperation", "no") if form["Action"] == "CreateFleet" else made(form, send)

    return answered


@pytest.fixture
def made(aws, monkeypatch):
    """Names of all calls of a life: templates, both ways to buy, giving back, notices."""
    called = set()
    machines = machines_of(aws)
    machines.launch("od", 1, "token")
    monkeypatch.setattr(aws.behaviour, "_made", without_fleets(aws.behaviour._made))
    again = machines_of(aws, order=machines._buys["od"].order[1:])
    again.launch("od", 1, "another")
    again.terminate([one.instance_id for one in again.all()])
    again.forget_templates()
    called |= {f"ec2:{call['Action']}" for call in aws.behaviour.calls}
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    sqs.meta.events.register("before-call.sqs", lambda model, **_: called.add(f"sqs:{model.name}"))
    EventQueue(sqs, url, wait_s=0).read()
    # IAM knows the right to delete messages, however many at once.
    return {name.removesuffix("Batch") for name in called}


@pytest.fixture
def made_of_functions(account, monkeypatch):
    """Names of all calls of functions: made, changed, called, deleted."""
    called = set()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stand-in")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stand-in")
    caller = FunctionCaller(account.terms, 1)
    functions, one = account.functions(), account.wanted("own")
    for client in (functions._client, caller._client):
        client.meta.events.register("before-call.lambda", lambda model, **_: called.add(f"lambda:{model.name}"))
    parity = package(ModelSpec("own", reference="tests.cloud.own_models:Parity"))
    slow = package(ModelSpec("own", reference="tests.cloud.own_models:slow"))
    functions.ensure([one], {"own": parity})
    functions.ensure([replace(one, memory_mb=1024)], {"own": slow})
    caller.call(one.name, [[1]])
    functions.forget()
    return {RIGHTS.get(name, name) for name in called}


def test_calls_need_what_is_granted_and_no_more(made, made_of_functions):
    granted = set().union(*map(actions_of, STATEMENTS))
    assert made | made_of_functions | BY_OTHERS == granted


def test_no_right_is_a_pattern_and_all_that_change_something_are_bounded():
    for statement in STATEMENTS:
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions_of(statement))
        if not all(action.startswith(LOOKS) for action in actions_of(statement)):
            assert statement["Resource"] != "*"
            # Images and layers are only read.
            assert "Condition" in statement or statement["Resource"].endswith(("image/*", "layer:*:*"))


def test_what_is_given_back_must_carry_our_tag():
    for action in ("ec2:TerminateInstances", "lambda:DeleteFunction"):
        (statement,) = [one for one in STATEMENTS if action in actions_of(one)]
        assert statement["Condition"] == {"Null": {"aws:ResourceTag/provisor:run": "false"}}
