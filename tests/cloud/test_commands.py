"""`provisor cloud` by real calls: a plan that buys nothing, a list, and giving back that proves itself."""

import base64
import io
import json
import zipfile

import pytest
import yaml
from click.testing import CliRunner

from controller.catalog import load_catalog
from experiments.cloud_commands import cloud
from serving.aws import giving_back
from tests.cloud.account import machines_of, terms_of


@pytest.fixture
def terms_file(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stand-in")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stand-in")
    monkeypatch.setattr(giving_back, "_STEP_S", 0.0)
    path = tmp_path / "aws.yaml"
    path.write_text(yaml.safe_dump({**terms_of(aws).model_dump(mode="json"), "endpoint_url": aws.url}))
    return path


def run(*arguments):
    result = CliRunner().invoke(cloud, list(map(str, arguments)), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.mark.slow
def test_plan_says_what_is_bought_and_what_it_costs_and_buys_nothing(aws, terms_file):
    plan = json.loads(run("plan", "--scenario", "demo", "--aws", terms_file, "--json"))
    assert [line["pool"] for line in plan["pools"]] == ["c5-large", "c5-large-spot", "c5-xlarge"]
    assert plan["total_usd_per_hour"] == pytest.approx(sum(one["count"] * one["usd_per_hour"] for one in plan["pools"]))
    assert plan["total_usd_per_hour"] > 0
    text = run("plan", "--scenario", "demo", "--aws", terms_file, "--calls")
    assert "create_fleet {Type: instant" in text
    assert "$/h by the catalog's prices" in text
    assert aws.there() == []
    assert {call["Action"][:8] for call in aws.behaviour.calls} == {"Describe"}


def test_list_names_the_runs_that_have_machines(aws, terms_file):
    assert "no run has machines" in run("list", "--aws", terms_file)
    machines_of(aws).launch("od", 2, "token")
    assert run("list", "--aws", terms_file) == f"{aws.run}: 2 machines\n"


def test_down_gives_back_what_is_the_run_s_and_nothing_else(aws, terms_file):
    ours = machines_of(aws).launch("od", 2, "token").ids
    others = machines_of(aws, run="another").launch("spot", 1, "theirs").ids
    assert len(ours + others) == 3
    text = run("down", "--aws", terms_file, "--run", aws.run, "--dry-run")
    assert sorted(aws.there()) == sorted([*ours, *others])
    assert f"2 machines of run {aws.run} are there" in text
    aws.behaviour.seen_late, aws.behaviour.throttle["DescribeInstances"] = 2, 1
    text = run("down", "--aws", terms_file, "--run", aws.run)
    assert all(f"gave back {one}" in text for one in ours)
    assert f"deleted launch template provisor-{aws.run}-od" in text
    assert f"nothing of run {aws.run} is left" in text
    assert aws.there() == list(others)


def test_down_says_where_something_is_still_there(aws, terms_file):
    from controller.errors import ClusterError

    (one,) = machines_of(aws).launch("od", 1, "token").ids
    aws.behaviour.throttle["TerminateInstances"] = 1_000_000
    with pytest.raises(ClusterError, match="expected nothing of the run to be there"):
        run("down", "--aws", terms_file, "--run", aws.run, "--timeout", 0.5)
    assert aws.there() == [one]


@pytest.fixture
def both_file(aws, account, tmp_path, terms_file):
    """Terms of an account with machines and functions, and a function of a run that has no machine."""
    terms = yaml.safe_load(terms_file.read_text())
    terms["functions"] = account.terms.functions.model_dump(mode="json") | {"endpoint_url": account.url}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(terms))
    return path


def test_plan_names_the_functions_and_what_calls_may_cost(both_file):
    text = run("plan", "--scenario", "demo", "--aws", both_file)
    assert "function   provisor-RUN-digits-large-3008, 3008 MB, charged by the call" in text
    assert "calls of functions for at most 1.0000 $/h" in text


def test_functions_are_listed_and_given_back(aws, account, both_file):
    one = account.digits()
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    code = {"ZipFile": base64.b64encode(packed.getvalue()).decode()}
    other = account.service.create({"FunctionName": "provisor-x", "Code": code})
    assert f"{account.run}: 1 functions" in run("list", "--aws", both_file)
    words = ("down", "--aws", both_file, "--run", account.run)
    assert f"would delete function {one.name}" in run(*words, "--dry-run")
    assert f"deleted function {one.name}" in run(*words)
    assert account.service.names() == [other["FunctionName"]]
    assert "no run has functions" in run("list", "--aws", both_file)


def test_measured_functions_make_a_catalog(account, both_file, tmp_path):
    out = tmp_path / "measured.yaml"
    text = run(
        *("measure", "--scenario", "demo", "--aws", both_file, "--cold", 1, "--warm", 4, "--out", out),
    )
    assert text.count(" cold ") == 3
    assert account.service.names() == []
    catalog = load_catalog(out)
    found = {(p.variant, p.pool): p for p in catalog.profiles}
    for name in ("digits-small", "digits-medium", "digits-large"):
        profile = found[name, "lambda-3008"]
        assert 0.0 < profile.service_slope_s.value < profile.cold_start_s.value
        assert "the emulator of Lambda, this machine" in profile.cold_start_s.measured
    before = {(p.variant, p.pool): p for p in load_catalog("demo").profiles}
    assert {key: p for key, p in found.items() if key[1] != "lambda-3008"} == {
        key: p for key, p in before.items() if key[1] != "lambda-3008"
    }
