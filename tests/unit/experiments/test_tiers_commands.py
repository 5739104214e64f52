import json

import pytest
from click.testing import CliRunner

from controller.errors import ConfigError, UsageError
from controller.scenario import load_scenario
from controller.tiers.generate import Tolerance, generate
from controller.tiers.tier_file import load_tiers, tier_file
from experiments.tiers_commands import tiers
from tests.unit.controller.tiers.synthetic import population


def run(*words):
    result = CliRunner().invoke(tiers, list(map(str, words)), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture
def calibration(tmp_path):
    population(4000).save(tmp_path / "c.npz")
    return tmp_path / "c.npz"


def test_tiers_are_generated_written_and_shown(calibration, tmp_path):
    out = tmp_path / "tiers.json"
    text = run("generate", calibration, "--out", out, "--tolerances", "0,0.05", "--objective", "cost")
    assert "5.00%" in text
    assert run("table", out) == text
    found = load_tiers(out)
    assert [tier.tolerance.value for tier in found.named()] == [0.0, 0.05]
    table = population(4000)
    assert found.named() == generate(table, [Tolerance(0.0), Tolerance(0.05)], [found.tiers[0].objective])
    assert found.calibration_sha256 == table.digest()
    with pytest.raises(UsageError, match="does not exist yet"):
        run("generate", calibration, "--out", out)


@pytest.mark.parametrize("text", ["a", "0.1,0.1", ""])
def test_tolerances_that_are_none_are_refused(calibration, tmp_path, text):
    with pytest.raises(UsageError, match="--tolerances: expected"):
        run("generate", calibration, "--out", tmp_path / "t.json", "--tolerances", text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"best": "v9"}, "best: expected one of"),
        ({"confidence": 1.5}, "confidence"),
        ({"tiers": []}, "tiers"),
    ],
)
def test_wrong_file_is_refused(tmp_path, change, text):
    table = population(1000)
    found = tier_file(table, generate(table, [Tolerance(0.1)])).model_dump(mode="json")
    (tmp_path / "t.json").write_text(json.dumps(found | change))
    with pytest.raises(ConfigError, match=text):
        load_tiers(tmp_path / "t.json")
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ConfigError, match="expected tiers as JSON"):
        load_tiers(tmp_path / "t.json")


def test_a_scenario_of_tiers_is_written_for_the_calibration_they_were_generated_from(calibration, tmp_path):
    file, out = tmp_path / "tiers.json", tmp_path / "mine"
    run("generate", calibration, "--out", file, "--tolerances", "0,0.05")
    words = ["scenario", file, "--calibration", calibration, "--out", out, "--mix", "cost:0.05=1,cost:0=1"]
    assert "2 tiers, 5 versions" in run(*words, "--slo-cost", "4", "--rps", "7")
    found = load_scenario(str(out / "scenario.yaml"))
    assert [(one.name, one.share, one.slo_s) for one in found.workload.classes] == [
        ("cost-5", 0.5, 4.0),
        ("cost-0", 0.5, 4.0),
    ]
    assert found.mean_rps == 7.0
    assert found.load_catalog().answers is not None
    with pytest.raises(UsageError, match="does not exist yet"):
        run(*words)
    population(500).save(tmp_path / "other.npz")
    words[3] = tmp_path / "other.npz"
    with pytest.raises(UsageError, match="--calibration: expected the calibration that"):
        run(*words, "--force")
