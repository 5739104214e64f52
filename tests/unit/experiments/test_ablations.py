"""An ablation changes what it names and nothing else."""

import pytest

from controller.errors import ConfigError, UsageError
from experiments.ablations import ablated_run, ablation_names
from experiments.run_config import load_run

RUN = """
name: own
scenario: tiny
train:
  steps: 77
  warm_start: clone
  base: {headroom: 1.5}
  ppo: {num_envs: 8, batch_size: 64}
"""


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    return path


def test_every_shipped_ablation_makes_a_run_of_its_own(run_file):
    plain = ablated_run(run_file, [])
    assert plain.name == "own"
    found = {name: ablated_run(run_file, [name]) for name in ablation_names()}
    assert {"no-warm-start", "no-forecaster", "evolution", "recurrent", "residual", "direct", "per-option"} <= set(
        found
    )
    for name, run in found.items():
        assert run.name == f"own-{name}"
        assert (run.train.steps, run.train.ppo) == (77, plain.train.ppo)
        assert name == "warm-start" or run.train != plain.train
    assert {name for name, run in found.items() if not run.train.is_exported} == {
        "recurrent",
        "residual",
        "direct",
        "per-option",
    }


def test_every_ablation_fits_a_run_of_another_learner(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: own\nscenario: tiny\ntrain: {learner: schedule}\n")
    learners = {name: ablated_run(path, [name]).train.learner for name in ablation_names()}
    kept = {"no-warm-start", "no-forecaster", "schedule", "constants"}
    assert {name for name, learner in learners.items() if learner == "schedule"} == kept
    assert learners["evolution"] == "evolution"
    assert learners["residual"] == learners["warm-start"] == learners["ppo"] == "ppo"


def test_a_schedule_of_constants_has_those_alone(tmp_path):
    path = tmp_path / "run.yaml"
    weights = "weights: [{knob: overflow_fraction, of: day_misses, most: 3.0}]"
    starts = "starts: [{overflow_fraction by day_misses: 2.0}]"
    path.write_text(f"name: own\nscenario: tiny\ntrain: {{learner: schedule, schedule: {{{weights}, {starts}}}}}\n")
    schedule = ablated_run(path, ["constants"]).train.schedule
    assert {weight.of for weight in schedule.weights} == {"constant"}
    assert len(schedule.weights) == 6
    assert schedule.starts == ()


def test_mappings_are_merged_field_by_field_and_in_order(run_file, tmp_path):
    later = tmp_path / "more.yaml"
    later.write_text("train: {base: {quantile: 0.5}, steps: 5}\n")
    run = ablated_run(run_file, ["no-forecaster", str(later)])
    assert run.name == "own-no-forecaster-more"
    base = run.train.base
    assert (base.headroom, base.forecaster, base.quantile, run.train.steps) == (1.5, "persistence", 0.5, 5)
    assert not run.train.fit_forecaster


def test_what_does_not_fit_together_is_refused_by_name(run_file, tmp_path):
    with pytest.raises(UsageError, match="ablation: expected a file or one of constants, direct, evolution"):
        ablated_run(run_file, ["nonsense"])
    with pytest.raises(ConfigError, match="action: expected 'knobs' for learner 'evolution', got 'residual'"):
        ablated_run(run_file, ["residual", "evolution"])
    with pytest.raises(ConfigError, match="warm_start: expected 'none'.*got 'clone'"):
        ablated_run(run_file, ["residual", "warm-start"])
    listed = tmp_path / "list.yaml"
    listed.write_text("- 1\n")
    with pytest.raises(ConfigError, match="a mapping"):
        ablated_run(run_file, [str(listed)])


def test_base_goes_over_the_settings_of_the_file_it_is_from(run_file, tmp_path):
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text("kind: mpc\nname: mine\nsettings: {headroom: 1.1, quantile: 0.7}\n")
    run_file.write_text(f"scenario: tiny\ntrain: {{base_from: {tuned}, base: {{headroom: 1.5}}}}\n")
    base = ablated_run(run_file, ["no-forecaster"]).train.base
    assert (base.headroom, base.quantile, base.forecaster) == (1.5, 0.7, "persistence")
    assert load_run(run_file).train.base == base.model_copy(update={"forecaster": "default"})


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("other.yaml", "kind: reactive\n", "train.base_from: kind in .*other.yaml: expected mpc, got 'reactive'"),
        ("tuned.txt", "", "train.base_from: expected a YAML file"),
        ("none.yaml", None, "none.yaml"),
        ("wrong.yaml", "kind: mpc\nsettings: {headroom: -1}\n", "train.base.headroom"),
    ],
)
def test_what_is_no_file_of_the_rules_settings_is_named(tmp_path, path, text, message):
    found, run_file = tmp_path / path, tmp_path / "run.yaml"
    if text is not None:
        found.write_text(text)
    run_file.write_text(f"scenario: tiny\ntrain: {{base_from: {found}}}\n")
    with pytest.raises(ConfigError, match=message):
        load_run(run_file)
