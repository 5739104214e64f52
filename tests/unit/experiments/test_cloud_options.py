"""What `provisor serve` says of options about AWS that do not go together."""

import pytest
import yaml
from click.testing import CliRunner

from controller.catalog import load_catalog
from controller.errors import ConfigError, UsageError
from controller.scenario import load_scenario
from experiments.calibrated import document_of
from experiments.serve_commands import serve

TERMS = {
    "region": "us-east-1",
    "image_id": "ami-1",
    "subnets": {"us-east-1a": "subnet-1", "us-east-1f": "subnet-2"},
    "security_groups": ["sg-1"],
    "join_address": "10.0.0.5:6379",
}


@pytest.fixture
def aws(tmp_path):
    path = tmp_path / "aws.yaml"
    path.write_text(yaml.safe_dump(TERMS))
    return str(path)


def refused(*words):
    result = CliRunner().invoke(serve, list(map(str, words)), standalone_mode=False)
    assert isinstance(result.exception, UsageError | ConfigError), result
    return str(result.exception)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--aws", "AWS"), "--aws: expected nothing without --nodes aws or --serverless aws"),
        (("--nodes", "aws"), "--aws: expected a file, with --nodes aws"),
        (("--serverless", "aws"), "--aws: expected a file, with --serverless aws"),
        (("--serverless", "aws", "--aws", "AWS"), "--aws: expected a file with `functions`, for --serverless aws"),
        (("--nodes", "aws", "--aws", "AWS"), "--address: expected host:port of the Ray that machines join"),
        (("--nodes", "aws", "--aws", "AWS", "--speed", 2), "--speed: expected 1 with --nodes aws"),
        (("--serverless", "aws", "--aws", "AWS", "--attach", "m.yaml"), "--serverless aws: expected no --attach"),
        (
            ("--nodes", "aws", "--aws", "AWS", "--address", "h:1", "--mode", "replay"),
            "--mode: expected one that applies something, with --nodes aws",
        ),
    ],
)
def test_what_does_not_go_together_is_said(aws, words, text):
    assert text in refused(*(aws if word == "AWS" else word for word in words))


def test_pool_whose_nodes_are_somebody_elses_is_refused_before_anything_is_started(aws, tmp_path):
    catalog = document_of(load_catalog("demo"))
    catalog["pools"][0]["node_owner"] = "kuberay"
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    scenario = load_scenario("demo").model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump({**scenario, "catalog": str(tmp_path / "catalog.yaml")}))
    words = ("--nodes", "aws", "--aws", aws, "--address", "h:1", "--scenario", path)
    expected = (
        "pools.c5-large.node_owner: expected provisor with --nodes aws, or a limit of 0 for the pool, got 'kuberay'"
    )
    assert expected in refused(*words, "--out", tmp_path / "out")
