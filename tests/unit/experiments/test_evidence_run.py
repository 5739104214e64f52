"""The evidence from files to values, on a small scenario: all is in the table, whatever is missing."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from controller import cli
from controller.errors import UsageError
from controller.policies.policy_file import load_policy_file
from controller.policies.registry import GENERALIST
from experiments import evidence_run
from experiments.benchmark import CELLS
from experiments.benchmark_cells import run_cell
from experiments.checks import Check
from experiments.clairvoyant import CLAIRVOYANT
from experiments.evidence_files import Artefacts
from experiments.evidence_plan import GENERALIST_ZERO, LEARNED, ZERO, Extent, rival_dials
from experiments.evidence_run import EvidenceRun, kept_record, training_check, wanted_rows
from experiments.fanout import open_workers
from experiments.run_config import load_run
from experiments.tuned_rivals import OTHERS, PUBLISHED, RULE, SOLVED, TOLD
from tests.evidence_artefacts import put_policy, put_settings

EXTENT = Extent(
    scenarios=("tiny",), traces=("own",), held_out=("tiny", "generated:azure_like"), days=(2, 3), hours=0.25
)  # fmt: skip
TUNED = (RULE, "paragon", "paragon_plus", "reactive")
LEFT_OUT = tuple(name for name in (*PUBLISHED, *OTHERS) if name not in TUNED)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    """All but the settings of some rivals, which are tuned elsewhere at the time."""
    made = Artefacts(tmp_path_factory.mktemp("package") / "experiments")
    for kind in (*TUNED, "infadapter"):
        put_settings(made, kind, kind, "tiny", given={"accuracy_margin": 0.002} if kind == RULE else {})
    put_settings(made, TOLD, CLAIRVOYANT, "tiny", given={})
    for seed in (0, 1):
        put_policy(made, "tiny", seed, value=1.0 - seed, scale=0.05 * seed)
        put_policy(made, GENERALIST, seed, value=1.0 + seed, scale=0.05 * seed, scenario="tiny")
    return made


@pytest.fixture(autouse=True)
def quick_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_run, "decision_check", lambda: Check("5: one decision", "90 us", "<= 200 us", True))


@pytest.fixture(scope="module")
def whole(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> EvidenceRun:
    """A finished run."""
    run = EvidenceRun(tmp_path_factory.mktemp("out"), EXTENT, artefacts)
    with open_workers(1) as workers:
        run.cells(workers)
    return run


def test_every_check_has_its_rows_and_every_missing_file_one(whole: EvidenceRun) -> None:
    checks = whole.checks()
    begins = [check.what.split(":")[0] for check in checks]
    assert {"1", "2", "3", "4", "5"} <= set(begins)
    missing = [check for check in checks if check.measured == "missing"]
    assert sorted(check.what for check in missing) == sorted(f"experiments/tuned/tiny/{k}.yaml" for k in LEFT_OUT)
    assert all(not check.holds and check.command.startswith("provisor tune tiny") for check in missing)
    assert all(check.command for check in checks if check.what != "5: one decision")
    # What is left out is no reason to leave out the rest.
    found = next(check for check in checks if check.what.startswith("1: rivals compared"))
    assert found.measured.endswith("of 2") or "% at accuracy" in found.what
    assert next(check for check in checks if check.what == "extent").holds is False


def test_settings_that_do_not_come_to_what_their_study_says_fall_short(whole: EvidenceRun) -> None:
    *each, all_of_them = [check for check in whole.checks() if check.what.startswith("tuned settings run again")]
    # Their summaries are made up; those of a rule that solves programs are left alone.
    assert {check.what.rpartition(" ")[2] for check in each} == {f"tiny/{name}.yaml" for name in (*TUNED, TOLD)}
    assert all("its study has 0.8000" in check.measured and check.command.startswith("provisor tune") for check in each)
    assert all_of_them.measured.startswith(f"0 of {len(each)}, at most ")
    assert not any(check.holds for check in (*each, all_of_them))


def test_policies_of_zero_action_are_the_selected_file_without_its_network(whole: EvidenceRun) -> None:
    assert whole.suite is not None
    members = {name: whole.suite.plan.members(name, "tiny") for name in whole.suite.plan.config.row_names}
    (zero,), learned = members[ZERO], members[LEARNED]
    content = load_policy_file(str(zero.policy))
    selected = load_policy_file(str(learned[1].policy))
    assert content.manifest.settings == selected.manifest.settings
    assert all((t == 0).all() for name, t in content.tensors.items() if name.startswith("knobs."))
    assert any((t != 0).any() for name, t in selected.tensors.items() if name.startswith("knobs."))
    assert [member.is_watched for member in (zero, *learned)] == [False, False, False]
    assert members["learned (selected)"][0].is_watched


def test_own_and_told_policies_are_swept_further_than_rivals(whole: EvidenceRun) -> None:
    assert whole.suite is not None
    plan = whole.suite.plan
    points = {name: len(plan.run_points(plan.members(name, "tiny")[0])) for name in plan.config.row_names}
    # The most that are run. Attainment: three values beside the own, of the largest with more headroom too, or two;
    # accuracy: floors below and above the own.
    assert (points[RULE], points[LEARNED], points[TOLD], points[ZERO]) == (9, 9, 6, 6)
    # Capacity down and up; accuracy where variants are mixed.
    assert (points["paragon"], points["paragon_plus"]) == (3, 6)


def test_on_what_is_held_out_the_generalist_is_turned_to_more_than_its_value_of_a_miss_brings(
    whole: EvidenceRun,
) -> None:
    assert whole.held_out is not None
    plan = whole.held_out.plan
    for name in (GENERALIST, GENERALIST_ZERO):
        points = plan.members(name, "tiny")[0].points.points
        assert any(point.settings.get("over_provision", 0.0) > 1.0 for point in points)


@pytest.mark.parametrize(
    ("kind", "settings", "attainment", "has_accuracy"),
    [
        ("reactive", [{}], (0.8, 1.35), False),
        ("reactive", [{"adaptive_variant": False}, {"adaptive_variant": True}], (0.8, 1.35), True),
        ("paragon", [{}], (0.8, 1.35), False),
        ("paragon_plus", [{}], (0.8, 1.35), True),
        ("hpa", [{}], (1 / 1.35, 1 / 0.8), False),
    ],
)
def test_a_rival_is_swept_to_less_capacity_and_to_more(
    kind: str, settings: list[dict], attainment: tuple[float, float], has_accuracy: bool
) -> None:
    dials = rival_dials(kind, settings)
    assert dials.attainment is not None
    assert dials.attainment.factors == attainment
    assert (dials.accuracy is not None) == has_accuracy


def test_tables_and_a_page_are_written(whole: EvidenceRun) -> None:
    checks = whole.checks()
    written = {path.relative_to(whole.directory).as_posix() for path in whole.write(checks, whole.tables())}
    assert {"suite/leaderboard.html", "held-out/leaderboard.csv", "checks.json", "evidence.html"} <= written
    rows = json.loads((whole.directory / "checks.json").read_text())
    assert [row["what"] for row in rows] == [check.what for check in checks]
    assert len((whole.directory / "checks.csv").read_text().splitlines()) == len(checks) + 1
    page = (whole.directory / "evidence.html").read_text()
    assert "provisor experiment evidence --only" in page
    board = json.loads((whole.directory / "suite" / "leaderboard.json").read_text())
    assert [row["row"] for row in board] == [key.text for key in wanted_rows(whole.suite)]  # type: ignore[arg-type]
    shares = {row["policy"]: row["rule_share"] for row in board}
    # The settings were never tuned: the hours break their promise, and the rule behind the policy takes over.
    assert 0.0 < shares["learned (selected)"] < 1.0
    assert shares[RULE] is None


def test_what_is_finished_is_not_run_again_and_one_row_can_be_had_alone(
    whole: EvidenceRun, artefacts: Artefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[object] = []
    monkeypatch.setattr("experiments.benchmark.run_cell", lambda cell: again.append(cell) or run_cell(cell))
    with open_workers(1) as workers:
        EvidenceRun(whole.directory, EXTENT, artefacts).cells(workers)
        assert again == []
        row = "tiny/own/zero action@mpc"
        text = EvidenceRun(tmp_path, EXTENT, artefacts).only(row, workers)
        assert len(again) < 1 + 6  # the reference's own point, and what is needed of the row's policy
        with pytest.raises(UsageError, match="--only"):
            whole.only("tiny/own/nobody@mpc", workers)
    lines = (whole.directory / "suite" / "leaderboard.csv").read_text().splitlines()
    assert not (whole.directory / CELLS).exists()
    assert text.splitlines() == [lines[0], next(line for line in lines if line.startswith(row + ","))]


def test_without_any_file_every_check_falls_short_and_none_is_left_out(tmp_path: Path) -> None:
    run = EvidenceRun(tmp_path / "out", Extent(), Artefacts(tmp_path / "experiments"))
    with open_workers(1) as workers:
        run.cells(workers)
    checks = run.checks()
    known = (*PUBLISHED, *OTHERS, TOLD)
    assert sum(check.measured == "missing" for check in checks) == 3 * len(known) + 3 + 1 + 1 + 1
    assert {check.what.split(":")[0] for check in checks if not check.holds} >= {"1", "2", "3", "4"}
    assert [check.what for check in checks if check.holds] == ["5: one decision"]
    run.write(checks, run.tables())
    assert (tmp_path / "out" / "evidence.html").exists()


def test_rules_that_solve_programs_take_part_under_full_alone(artefacts: Artefacts, tmp_path: Path) -> None:
    from dataclasses import replace

    run = EvidenceRun(tmp_path, replace(EXTENT, has_solved=True), artefacts)
    assert run.suite is not None
    plan = run.suite.plan
    assert SOLVED[0] in plan.config.references
    assert len(plan.run_points(plan.members(SOLVED[0], "tiny")[0])) == 1
    assert f"experiments/tuned/tiny/{SOLVED[1]}.yaml" in [one.file for one in run.comparisons[0].problems]
    assert not set(SOLVED) & set(EvidenceRun(tmp_path, EXTENT, artefacts).suite.plan.config.row_names)  # type: ignore[union-attr]


def test_a_training_without_its_configuration_falls_short(artefacts: Artefacts, tmp_path: Path) -> None:
    found = training_check(artefacts, tmp_path / "training")
    assert (found.holds, found.measured) == (False, "no generalist.yaml among the configurations")


def test_a_training_takes_one_seed_from_scratch_and_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, began_s = Artefacts(tmp_path / "experiments"), iter((0.0, 600.0, 0.0, 901.0, 0.0, 1.0))
    run_file = made.training_run(GENERALIST)
    run_file.parent.mkdir(parents=True)
    run_file.write_text(yaml.safe_dump({"train": {"seeds": [3, 4], "steps": 7}}))
    folder = tmp_path / "training"
    (folder / "run").mkdir(parents=True)
    seeds, codes = [], iter((0, 0, 1))

    def trained(words: list[str], **_: object) -> subprocess.CompletedProcess:
        assert not (folder / "run").exists()
        seeds.append(load_run(words[4]).train.seeds)
        return subprocess.CompletedProcess(words, next(codes), "", "no room")

    monkeypatch.setattr(evidence_run.subprocess, "run", trained)
    found = [training_check(made, folder, lambda: next(began_s)) for _ in range(3)]
    assert [(one.measured, one.holds) for one in found] == [
        ("10.0 minutes", True),
        ("15.0 minutes", False),
        ("failed: no room", False),
    ]
    assert seeds == [(3,)] * 3
    run_file.write_text("train: {steps: 0}")
    assert "steps" in training_check(made, folder).measured


def test_what_was_never_measured_in_full_falls_short(tmp_path: Path) -> None:
    title, (found,) = kept_record(tmp_path / "none.json")
    assert (found.holds, found.measured, found.command) == (
        False,
        "never measured",
        "provisor experiment evidence --full",
    )
    kept = Check("5: training", "12.0 minutes", "<= 15 minutes on 2 cores", True)
    evidence_run.keep_record([kept], tmp_path / "kept.json")
    title, found_again = kept_record(tmp_path / "kept.json")
    assert found_again == [kept]
    assert "as measured on 20" in title


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--check"], 1), (["--check", "--quick"], 1)])
def test_the_command_prints_all_and_says_by_its_exit_code(
    whole: EvidenceRun, artefacts: Artefacts, words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(evidence_run, "EvidenceRun", lambda folder, extent: EvidenceRun(folder, EXTENT, artefacts))
    monkeypatch.setattr(evidence_run, "kept_record", lambda: ("kept", [Check("y", "1", "1", True)]))
    out = ["--out", str(whole.directory), "--workers", "1"]
    assert cli.main(["experiment", "evidence", *out, *words]) == code
    told = capsys.readouterr().out
    assert "FALLS SHORT" in told
    assert "anew: provisor tune tiny" in told
    assert ("no evidence" in told) == ("--quick" in words)


@pytest.mark.parametrize("words", [["--quick", "--full"], ["--scenario", "suite-cpy"]])
def test_wrong_use_is_found_before_anything_runs(words: list[str], capsys) -> None:
    assert cli.main(["experiment", "evidence", *words]) == 2
    assert words[-1].removeprefix("--") in capsys.readouterr().err


def test_quick_runs_own_points_of_few_hours(artefacts: Artefacts, tmp_path: Path) -> None:
    extent = EXTENT.quick()
    run = EvidenceRun(tmp_path, extent, artefacts)
    assert run.suite is not None
    plan = run.suite.plan
    assert {len(plan.run_points(plan.members(name, "tiny")[0])) for name in plan.config.row_names} == {1}
    assert (plan.config.most_days, plan.config.hours) == (1, 1.0)
    with open_workers(1) as workers:
        run.cells(workers)
    (again,) = [check for check in run.checks() if check.what.startswith("tuned settings run again")]
    assert (again.holds, again.measured) == (False, "not run")
    assert not extent.is_whole
    assert Extent().is_whole
    assert Extent(has_solved=True).is_whole
