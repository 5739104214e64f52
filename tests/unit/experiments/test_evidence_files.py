"""Files that evidence is computed from are believed only if they are what they say, and never the cause of a crash."""

from pathlib import Path

import pytest
import yaml

from controller.policies.levers import added_levers
from controller.policies.registry import GENERALIST, SHIPPED, settings_model
from experiments.clairvoyant import CLAIRVOYANT
from experiments.evidence_files import Artefacts, selected_by_validation
from experiments.held_out import HELD_OUT_SEED, held_out_text, held_out_variation
from experiments.study_config import LEFT_ALONE
from experiments.tuned_rivals import RULE, TOLD
from tests.evidence_artefacts import put_policy, put_settings


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(tmp_path / "experiments")


def test_settings_with_their_study_are_believed(artefacts: Artefacts) -> None:
    put_settings(artefacts, RULE, RULE)
    put_settings(artefacts, TOLD, CLAIRVOYANT)
    assert artefacts.settings_problem(RULE, "suite-cpu") is None
    assert artefacts.settings_problem(TOLD, "suite-cpu") is None


def test_missing_settings_name_the_file_and_what_makes_it(artefacts: Artefacts) -> None:
    found = artefacts.settings_problem("paragon", "suite-gpu")
    assert found is not None
    assert found.text == "experiments/tuned/suite-gpu/paragon.yaml: missing"
    assert found.command == (
        "provisor tune suite-gpu --suite --policy paragon --as-published --trials 300 "
        "--commit-to experiments/tuned/suite-gpu"
    )
    for name, policy in (
        ("paragon_plus", "paragon_plus"),
        ("mark_plus", "mark --name mark_plus"),
        ("infadapter", "infadapter"),
        (TOLD, f"{CLAIRVOYANT} --name {TOLD}"),
    ):
        found = artefacts.settings_problem(name, "suite-gpu")
        assert found is not None
        assert f" --policy {policy} --" in found.command, name
        assert "--as-published" not in found.command


@pytest.mark.parametrize(
    ("name", "begun_from"),
    [
        ("paragon_plus", "--borrow {0}/paragon.yaml --borrow {0}/mpc.yaml"),
        ("hpa_plus", "--start {0}/hpa.yaml --borrow {0}/paragon_plus.yaml"),
    ],
)
def test_schemes_with_every_lever_begin_with_what_is_known(artefacts: Artefacts, name: str, begun_from: str) -> None:
    wanted = begun_from.format("experiments/tuned/suite-gpu")
    assert f" {wanted} --trials 300 " in artefacts.tuning_command(name, "suite-gpu")


def test_a_search_in_every_lever_that_did_not_try_what_was_known_is_refused(artefacts: Artefacts) -> None:
    put_settings(artefacts, RULE, RULE, given={"spot_share": 0.3, "quantile": 0.8})
    put_settings(artefacts, "paragon_plus", "paragon_plus", given={"spot_share": 0.4, "headroom": 1.1})
    put_settings(artefacts, "mark_plus", "mark", given={})
    for name, kind in (("paragon_plus", "paragon_plus"), ("mark_plus", "mark")):
        assert artefacts.settings_problem(name, "suite-cpu") is None
        begun = {"start": {"spot_share": 0.7}, "more_starts": [{"spot_share": 0.5}]}
        put_settings(artefacts, name, kind, given={"spot_share": 0.4, "headroom": 1.1}, **begun)
        found = artefacts.settings_problem(name, "suite-cpu")
        assert found is not None, name
        assert found.why.startswith("more_starts: expected one with the levers as"), found.why


def test_settings_that_cannot_be_run_any_more_are_found_out(artefacts: Artefacts) -> None:
    put_settings(artefacts, "reactive", "reactive", given={"variant": "resnet9000"})
    found = artefacts.settings_problem("reactive", "suite-cpu")
    assert found is not None
    assert "resnet9000" in found.why
    assert "provisor tune suite-cpu" in found.command


def test_a_scheme_as_published_is_searched_in_its_own_levers_and_the_other_in_all(artefacts: Artefacts) -> None:
    put_settings(artefacts, "mark", "mark", given={})
    put_settings(artefacts, "mark_plus", "mark", given={})
    assert artefacts.settings_problem("mark", "suite-cpu") is None
    assert artefacts.settings_problem("mark_plus", "suite-cpu") is None
    # One that came after the search was left alone: a scheme as published lacks nothing, one with every lever does.
    put_settings(artefacts, "mark_plus", "mark", given={}, ranges={"spot_spread": [0.0, 1.0]})
    found = artefacts.settings_problem("mark_plus", "suite-cpu")
    assert found is not None
    assert "ranges: expected every lever that can be judged, such as " in found.why
    assert "miss_budget" in found.why
    # MArk sends what would wait to serverless by itself, and batches are no lever of a scheme.
    assert "overflow" not in found.why.replace("patient_overflow", "")
    assert "batch_slack" not in found.why
    put_settings(artefacts, "mark", "mark", given={}, ranges={"headroom": [0.5, 2.0], "spot_spread": [0.0, 1.0]})
    found = artefacts.settings_problem("mark", "suite-cpu")
    assert found is not None
    assert "ranges: expected nothing that was added to what was published, such as spot_spread" in found.why
    turned = {"miss_budget": 0.5}
    put_settings(artefacts, "mark", "mark", given=turned)
    found = artefacts.settings_problem("mark", "suite-cpu")
    assert found is not None
    assert "such as miss_budget" in found.why
    # Without variants to mix, what only matters to a mixture cannot be judged.
    levers = [lever for lever in added_levers(settings_model("hpa")) if lever not in LEFT_ALONE["hpa"]]
    put_settings(artefacts, "hpa_plus", "hpa", given={}, ranges={lever: [0.0, 1.0] for lever in levers})
    assert artefacts.settings_problem("hpa_plus", "suite-cpu") is None


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"worlds": [{"suite_trace": "twitter", "day": 14}]}, "tuned on day 14 of twitter, which is a test day"),
        ({"settings": {"headroom": 1.3}}, "not the settings that its study found"),
        ({"policy": {"kind": "paragon", "name": "mpc"}}, "not the settings that its study found"),
        ({"worlds": 3}, "not iterable"),
        ({"objective": {"miss_weight": -1.0}}, "miss_weight"),
    ],
)
def test_settings_that_their_study_contradicts_are_refused(artefacts: Artefacts, summary: dict, message: str) -> None:
    put_settings(artefacts, RULE, RULE, **summary)
    found = artefacts.settings_problem(RULE, "suite-cpu")
    assert found is not None
    assert message in found.why


def test_settings_of_another_kind_broken_or_without_study_are_refused(artefacts: Artefacts) -> None:
    path = put_settings(artefacts, RULE, "paragon")
    found = artefacts.settings_problem(RULE, "suite-cpu")
    assert found is not None
    assert "kind: expected mpc, got 'paragon'" in found.why
    path.write_text(yaml.safe_dump({"kind": RULE, "settings": {"headrom": 1.2}}))
    found = artefacts.settings_problem(RULE, "suite-cpu")
    assert found is not None
    assert "did you mean 'headroom'" in found.why
    put_settings(artefacts, RULE, RULE).with_suffix(".json").unlink()
    found = artefacts.settings_problem(RULE, "suite-cpu")
    assert found is not None
    assert "no summary of its study" in found.why


@pytest.mark.parametrize(
    ("name", "kind", "summary", "message"),
    [
        ("paragon", "paragon", {"trials": {"total": 299}}, "trials: expected at least 300, got 299"),
        ("infadapter", "infadapter", {"trials": {"total": 49}}, "trials: expected at least 50, got 49"),
        (
            RULE,
            RULE,
            {"value": {"gain_of_last": {"trials": 500, "gain": 0.021}}},
            "trials: expected less than 0.5% gained by the last 500, got '2.1% by the last 500 of 700'",
        ),
        (TOLD, CLAIRVOYANT, {"value": {"gain_of_last": {"trials": 499, "gain": 0.0}}}, "0.0% by the last 499 of 700"),
    ],
)
def test_a_rival_that_was_tuned_too_little_is_refused(artefacts, name, kind, summary, message) -> None:
    put_settings(artefacts, name, kind, given={}, **summary)
    found = artefacts.settings_problem(name, "suite-cpu")
    assert found is not None
    assert message in found.why


def test_the_two_strongest_others_are_searched_to_the_end(artefacts: Artefacts) -> None:
    costs = {"paragon_plus": (50.0, 0.9), "mark": (40.0, 0.9), "mixed": (60.0, 0.7), "reactive": (10.0, 9.0)}
    for name, (usd, value) in costs.items():
        world = {"suite_trace": "twitter", "day": 11, "reference_usd": usd, "best": {"value": value}}
        put_settings(artefacts, name, name, given={}, worlds=[world])
    put_settings(artefacts, RULE, RULE)
    found = artefacts.strongest_problems("suite-cpu")
    assert [one.text.partition(":")[0] for one in found] == [
        "experiments/tuned/suite-cpu/mark.yaml",
        "experiments/tuned/suite-cpu/mixed.yaml",
    ]
    assert "one of the 2 strongest others: trials: expected less than 0.5% gained" in found[0].why
    assert " --policy mark --as-published --until-gain 0.005 " in found[0].command
    world = {"suite_trace": "twitter", "day": 11, "reference_usd": 40.0, "best": {"value": 0.9}}
    ended = {"gain_of_last": {"trials": 500, "gain": 0.004}}
    put_settings(artefacts, "mark", "mark", given={}, worlds=[world], value=ended)
    assert [one.text.partition(":")[0] for one in artefacts.strongest_problems("suite-cpu")] == [
        "experiments/tuned/suite-cpu/mixed.yaml"
    ]


def test_the_rule_of_the_held_out_catalog_needs_its_trials(artefacts: Artefacts) -> None:
    scenario = str(artefacts.held_out_scenario())
    artefacts.held_out_scenario().parent.mkdir(parents=True)
    artefacts.held_out_scenario().write_text(held_out_text())
    put_settings(artefacts, RULE, RULE, scenario)
    found = artefacts.settings_problem(RULE, scenario)
    assert found is not None
    assert "trials: expected at least 1000, got 700" in found.why
    assert "--trace nasa" in found.command
    put_settings(artefacts, RULE, RULE, scenario, trials={"total": 1000})
    assert artefacts.settings_problem(RULE, scenario) is None


def test_policies_of_a_scenario_are_believed_and_the_best_by_validation_selected(artefacts: Artefacts) -> None:
    for seed, value in ((0, 0.9), (1, 0.8), (10, 0.85)):
        put_policy(artefacts, "tiny", seed, value)
    assert artefacts.policies_problem("tiny") is None
    files = artefacts.policy_files("tiny")
    assert [path.stem for path in files] == ["policy-seed-0", "policy-seed-1", "policy-seed-10"]
    assert selected_by_validation(files) == files[1]


@pytest.mark.parametrize(
    ("learner", "record", "message"),
    [
        ("tiny", {"train_days": (1, 3)}, "training.train_days: expected no test day (3:3), got '1:3'"),
        ("tiny", {"validation_days": (3, 3)}, "training.validation_days"),
        ("tiny", {"scenario": "demo"}, "training.scenario: expected tiny"),
        ("tiny", {"scenario": "tiny.twitter", "train_days": (10, 14)}, "no test day (14:17)"),
        (GENERALIST, {"scenario": "suite-cpu.twitter", "trace": "twitter+nasa"}, "no nasa, which is held out"),
        (GENERALIST, {"scenario": "suite-cpu.nasa", "trace": "x"}, "no nasa, which is held out"),
    ],
)
def test_policies_trained_on_what_they_are_tested_on_are_refused(
    artefacts: Artefacts, learner: str, record: dict, message: str
) -> None:
    put_policy(artefacts, learner, 0, **record)
    found = artefacts.policies_problem(learner)
    assert found is not None
    assert message in found.why
    assert found.file == f"experiments/policies/{learner}/policy-seed-0.provisor"
    assert f"provisor train experiments/configs/{learner}.yaml" in found.command


def test_a_policy_around_another_rule_than_the_tuned_one_is_refused(artefacts: Artefacts) -> None:
    put_settings(artefacts, RULE, RULE, "tiny", given={"headroom": 1.2})
    put_policy(artefacts, "tiny", 0)
    assert artefacts.policies_problem("tiny") is None
    put_settings(artefacts, RULE, RULE, "tiny", given={"headroom": 1.2, "accuracy_tilt": 0.1, "accuracy_band": 0.01})
    assert artefacts.policies_problem("tiny") is None  # how far a knob reaches, and what holds it
    put_settings(artefacts, RULE, RULE, "tiny", given={"headroom": 1.1})
    found = artefacts.policies_problem("tiny")
    assert found is not None
    assert found.why == "settings.headroom: expected 1.1, as in experiments/tuned/tiny/mpc.yaml, got 1.2"


def test_policies_that_are_missing_damaged_twice_the_same_seed_or_never_validated_are_refused(
    artefacts: Artefacts,
) -> None:
    found = artefacts.policies_problem("tiny")
    assert found is not None
    assert found.why == "missing"
    path = put_policy(artefacts, "tiny", 0)
    path.write_bytes(path.read_bytes()[:-10])
    found = artefacts.policies_problem("tiny")
    assert found is not None
    assert "expected" in found.why
    put_policy(artefacts, "tiny", 0)
    put_policy(artefacts, "tiny", 1, seeds=(0,))
    found = artefacts.policies_problem("tiny")
    assert found is not None
    assert "another seed than policy-seed-0.provisor" in found.why
    put_policy(artefacts, "tiny", 1, value=None)
    found = artefacts.policies_problem("tiny")
    assert found is not None
    assert "metrics.validation.policy.value" in found.why


def test_the_shipped_held_out_scenario_is_the_variation_that_is_named() -> None:
    shipped = Artefacts()
    assert shipped.held_out_problem() is None
    assert shipped.held_out_scenario().read_text() == held_out_text()
    assert f"seed {HELD_OUT_SEED}" in held_out_text()


def test_the_policy_that_serve_begins_with_is_the_generalist_selected_by_validation() -> None:
    assert SHIPPED.read_bytes() == selected_by_validation(Artefacts().policy_files(GENERALIST)).read_bytes()


def test_another_held_out_scenario_is_refused(artefacts: Artefacts) -> None:
    path = artefacts.held_out_scenario()
    found = artefacts.held_out_problem()
    assert found is not None
    assert found.why == "missing"
    path.parent.mkdir(parents=True)
    path.write_text(held_out_text().replace(f"mean_rps: {held_out_variation().mean_rps}", "mean_rps: 20.0"))
    found = artefacts.held_out_problem()
    assert found is not None
    assert found.why == "not the variation that is held out"


def test_a_generalist_whose_run_draws_the_held_out_catalog_is_refused(artefacts: Artefacts) -> None:
    put_policy(artefacts, GENERALIST, 0, scenario="tiny")
    run = artefacts.training_run(GENERALIST)
    run.parent.mkdir(parents=True)
    for seed, is_drawn in ((HELD_OUT_SEED - 2, False), (HELD_OUT_SEED - 1, True), (HELD_OUT_SEED, True)):
        run.write_text(yaml.safe_dump({"train": {"suite": {"variations": 2, "seed": seed}}}))
        found = artefacts.policies_problem(GENERALIST)
        assert (found is not None) == is_drawn
    assert found is not None
    assert found.file == "experiments/configs/generalist.yaml"
