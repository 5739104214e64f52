"""A benchmark ends with the same leaderboard whoever runs it, interrupted or not, and each row can be had alone."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from controller import cli
from controller.compile import compile_scenario
from controller.errors import ConfigError, UsageError
from controller.forecast import persistence_forecast
from controller.observation import OBSERVATION_SIZE
from controller.policies.learned import content_of
from controller.policies.policy_file import TrainingRecord, save_policy_file
from controller.policies.predictive import MpcSettings
from controller.policies.registry import POLICIES
from controller.rule_arrays import NUM_KNOBS
from controller.scenario import load_scenario
from experiments.benchmark import CELLS, FinishedCells, Plan
from experiments.benchmark_cells import BenchmarkCell, CellResult, WorldSource, cell_key, run_cell, with_floors
from experiments.benchmark_config import BenchmarkConfig, PolicyEntry, load_benchmark, members_of, trace_label
from experiments.benchmark_run import BenchmarkRun
from experiments.clairvoyant import CLAIRVOYANT
from experiments.fanout import open_workers
from experiments.ppo import zero_tensors
from tests.tiered import ALONE, request_class, tiered_setting
from traces.generator import generate
from traces.readers import write_npz

CONFIG = {
    "name": "small",
    "scenarios": ["tiny"],
    "traces": ["own", "generated:azure_like"],
    "days": [2, 3],
    "hours": 0.25,
    "most_points": 1,
    "resamples": 200,
    "policies": ["mpc", "static"],
    "references": ["mpc", "static"],
}
LEADERBOARD = ("leaderboard.csv", "leaderboard.json")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run in one process."""
    folder = tmp_path_factory.mktemp("whole")
    assert cli.main(["benchmark", str(config), "--workers", "1", "--out", str(folder)]) == 0
    return folder


def texts(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in LEADERBOARD]


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "leaderboard.json").read_text())


def test_every_policy_has_a_row_for_every_trace_and_target(whole: Path) -> None:
    found = [row["row"] for row in rows_of(whole)]
    traces, targets = ("own", "generated:azure_like", "mean"), ("mpc", "static", "promise")
    assert found == [f"tiny/{t}/{p}@{target}" for t in traces for target in targets for p in ("mpc", "static")]


def test_a_reference_costs_what_it_costs_and_what_is_out_of_reach_says_so(whole: Path) -> None:
    rows = {row["row"]: row for row in rows_of(whole)}
    own = rows["tiny/own/mpc@mpc"]
    assert (own["status"], own["cost_difference"]) == ("equal", 0.0)
    assert own["cost_usd"] == pytest.approx(own["own_cost_usd"])
    assert own["attainment_at"] == pytest.approx(own["own_attainment"])
    # The fixed fleet runs the most accurate variants that the floors need and has no dial of accuracy; the rule mixes
    # them and is set to a mean just above the floors.
    for row in rows.values():
        assert (row["cost_difference"] is None) == (row["status"] == "not reachable")
        assert (row["reason"] == "") == (row["status"] == "equal")
    assert {row["status"] for row in rows.values()} >= {"equal", "not reachable"}


def test_page_shows_all_rows_and_loads_nothing(whole: Path) -> None:
    page = (whole / "leaderboard.html").read_text()
    assert "not reachable" in page
    assert "http-equiv" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    for row in rows_of(whole):
        assert row["row"] in page


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_number_of_workers(whole: Path, config: Path, tmp_path: Path) -> None:
    assert cli.main(["benchmark", str(config), "--workers", "2", "--out", str(tmp_path)]) == 0
    assert texts(tmp_path) == texts(whole)


def test_an_interrupted_run_goes_on_and_ends_the_same(
    whole: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    ran = []

    def interrupted(cell):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(cell_key(cell))
        return run_cell(cell)

    monkeypatch.setattr("experiments.benchmark.run_cell", interrupted)
    words = ["benchmark", str(config), "--workers", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 130
    assert f"go on with: provisor benchmark {config} --out {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / LEADERBOARD[0]).exists()
    # A kill in the middle of a line leaves a part of it.
    with (tmp_path / CELLS).open("a") as stream:
        stream.write('{"key": "half')
    again: list[str] = []
    monkeypatch.setattr("experiments.benchmark.run_cell", lambda cell: again.append(cell_key(cell)) or run_cell(cell))
    assert cli.main(words) == 0
    assert len(ran) == 3
    assert not set(ran) & set(again)
    assert texts(tmp_path) == texts(whole)


@pytest.mark.parametrize("row", ["tiny/own/static@mpc", "tiny/mean/mpc@promise"])
def test_command_of_a_row_computes_that_row_anew(
    whole: Path, tmp_path: Path, row: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (whole / "leaderboard.csv").read_text().splitlines()
    line = next(line for line in lines if line.startswith(row + ","))
    command = next(one["command"] for one in rows_of(whole) if one["row"] == row)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main([*command.split()[1:], "--workers", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [lines[0], line]
    assert (tmp_path / "runs" / "recomputed" / CELLS).exists()


def test_own_class_and_own_trace_are_taken(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "my_policies.py").write_text(
        "from controller.policies.predictive import MpcPolicy\n\n\n"
        "class Mine(MpcPolicy):\n"
        "    def __init__(self, setting):\n"
        "        super().__init__(setting, name='mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trace = write_npz(generate("azure_like", 3, 5, bin_seconds=60.0), tmp_path / "mine.npz")
    words = ["benchmark", str(config), "--policy", "my_policies:Mine", "--trace", str(trace), "--workers", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    rows = {row["row"]: row for row in rows_of(tmp_path / "out")}
    mine = rows["tiny/mine/my_policies:Mine@mpc"]
    # The same rule, without dials: as good as the reference at its own settings.
    assert (mine["status"], mine["cost_difference"]) == ("equal", pytest.approx(0.0, abs=1e-9))
    assert mine["own_cost_usd"] == rows["tiny/mine/mpc@mpc"]["own_cost_usd"]
    assert f"--policy my_policies:Mine --trace {trace}" in mine["command"]


def test_policy_files_of_a_group_are_swept_by_the_settings_of_their_rule(tmp_path: Path) -> None:
    setting = compile_scenario(load_scenario("tiny"))
    record = TrainingRecord(
        trace="t", scenario="tiny", train_days=(1, 1), validation_days=(2, 2), seeds=(0,), steps=1
    )  # fmt: skip
    for seed, headroom in enumerate((1.1, 1.9)):
        content = content_of(
            setting,
            zero_tensors(OBSERVATION_SIZE, (4,), NUM_KNOBS),
            settings=MpcSettings(headroom=headroom),
            forecast=persistence_forecast(),
            hidden=(4,),
            catalog="any",
            training=record,
            metrics={},
        )
        save_policy_file(tmp_path / f"seed-{seed}.provisor", content)
    files = [str(tmp_path / f"seed-{seed}.provisor") for seed in (0, 1)]
    ours = {"name": "ours", "members": [str(tmp_path / "seed-*.provisor")], "selected": files[1]}
    text = yaml.safe_dump({**CONFIG, "traces": ["own"], "policies": [files[0], ours], "references": ["seed-0"]})
    (tmp_path / "files.yaml").write_text(text)
    assert cli.main(["benchmark", str(tmp_path / "files.yaml"), "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    rows = {row["row"]: row for row in rows_of(tmp_path / "out")}
    single, group, selected = (rows[f"tiny/own/{name}@seed-0"] for name in ("seed-0", "ours", "ours (selected)"))
    assert (single["members"], group["members"], selected["members"]) == (1, 2, 1)
    assert group["own_cost_usd"] == pytest.approx((single["own_cost_usd"] + selected["own_cost_usd"]) / 2)
    assert selected["own_cost_usd"] > single["own_cost_usd"]
    # Each at its own value of a miss, at a larger one, and there with more capacity too; with two accuracies.
    assert len((tmp_path / "out" / CELLS).read_text().splitlines()) == 2 * 3 * 2


@pytest.mark.parametrize("policy", ["mpc", "paragon", "infadapter", CLAIRVOYANT])
def test_a_cell_that_nobody_watches_comes_to_the_same(policy: str) -> None:
    world = WorldSource(scenario="tiny", days=(2, 3))
    watched = BenchmarkCell(world=world, policy=policy, seed=3, hours=0.25)
    unwatched = watched.model_copy(update={"is_watched": False})
    assert cell_key(watched) != cell_key(unwatched)
    unknown = {"flaps": None, "capacity_changes": None, "ruled_ticks": None}
    seen, totals = run_cell(watched), run_cell(unwatched)
    assert [day.model_copy(update=unknown) for day in seen.days] == list(totals.days)
    assert all(None not in (day.flaps, day.capacity_changes, day.ruled_ticks) for day in seen.days)
    assert (seen.decide_ms_p99 is None, totals.decide_ms_p99 is None) == (False, True)


@pytest.mark.parametrize("policy", ["mpc", "reactive:adaptive_variant=true", "infadapter"])
def test_a_policy_told_of_other_floors_answers_as_accurately_as_those_and_is_judged_by_its_own(policy: str) -> None:
    world = WorldSource(scenario="tiny", days=(2, 3))
    accuracy, breaches = [], []
    for offset in (-0.02, 0.0, 0.02):
        cell = BenchmarkCell(world=world, policy=policy, seed=3, hours=2.0, is_watched=False, floor_offset=offset)
        days = run_cell(cell).days
        accuracy.append(sum(sum(d.accuracy_sum) for d in days) / sum(sum(d.answered) for d in days))
        breaches.append(sum(d.floor_breaches for d in days))
    less, own, more = accuracy
    assert less < own - 0.005
    assert more > own + 0.005
    # Below what is promised is a breach, whatever the policy was told.
    assert breaches[0] > 0
    assert breaches[2] == 0


def test_floors_of_each_answer_and_of_tiers_are_not_moved() -> None:
    world = WorldSource(scenario="tiny", days=(2, 2)).open()
    asked = with_floors(world, 0.01)
    floors = world.setting.workload.accuracy_floor
    assert asked.setting.workload.accuracy_floor == pytest.approx(floors + 0.01)
    assert with_floors(world, 9.0).setting.workload.accuracy_floor.max() <= world.setting.catalog.accuracy.max()
    each = world.setting.workload._replace(floor_each=np.ones_like(world.setting.workload.floor_each))
    strict = replace(world, setting=replace(world.setting, workload=each))
    assert with_floors(strict, 0.01).setting.workload.accuracy_floor.tolist() == floors.tolist()
    of_tiers = replace(world, setting=tiered_setting(request_class("asked", 1.0, ALONE)))
    assert of_tiers.setting.tiers is not None
    assert with_floors(of_tiers, 0.01) is of_tiers


def test_own_points_are_watched_and_others_are_not() -> None:
    config = BenchmarkConfig(scenarios=("tiny",), policies=("mpc", "paragon"), watched=("mpc",))
    plan = Plan(config)
    (case,) = plan.worlds
    by_name = {name: plan.members(name, "tiny")[0] for name in config.row_names}
    for name, member in by_name.items():
        watched = [k for k in plan.run_points(member) for cell in plan.cells_at(member, k, case) if cell.is_watched]
        assert watched == ([member.own] if name == "mpc" else [])


def test_a_key_names_all_that_a_result_depends_on() -> None:
    def key(policy: str = "mpc", **changes) -> str:
        fields = {"scenarios": ("tiny",), "days": (2, 3), "policies": (policy,), **changes}
        plan = Plan(BenchmarkConfig(**fields))
        return cell_key(plan.cells_at(plan.members(plan.config.row_names[0], "tiny")[0], 0, next(iter(plan.worlds)))[0])

    changes = ({"hours": 0.5}, {"days": (1, 2)}, {"seeds": (1,)}, {"rate": 2.0}, {"traces": ("generated:azure_like",)})
    keys = [key(), key("static"), key("static:headroom=1.4"), *(key(**one) for one in changes)]
    assert len(set(keys)) == len(keys)
    # Written out or by default, it is the same rule; and the same requests under another name are the same.
    assert key("static:headroom=1.5") == key("static")
    assert key(traces=("generated:twitter_like",)) == key()


def test_damaged_cells_are_named(tmp_path: Path) -> None:
    path = tmp_path / CELLS
    path.write_text('{"key": "a"}\n')
    with pytest.raises(ConfigError, match="line 1: expected a finished cell"):
        FinishedCells(path)


def test_finished_cells_are_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / CELLS
    result = CellResult(days=(), decide_ms_p99=0.1, wall_s=2.0)
    FinishedCells(path).add("a", result)
    size = path.stat().st_size
    with path.open("a") as stream:
        stream.write('{"key": "b", "res')
    found = FinishedCells(path)
    assert found["a"] == result
    assert "b" not in found
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenarios": []}, "scenarios"),
        ({"policies": ["mpc", "mpc"]}, "policies: expected different ones"),
        ({"references": ["paragon"]}, "references: expected one of"),
        ({"policies": [{"name": "promise", "policy": "mpc"}], "references": []}, "another name than 'promise'"),
        ({"policies": [{"name": "none"}], "references": []}, "either policy or members"),
        ({"policies": [{"name": "a", "members": ["mpc"]}], "references": ["a"]}, "single policies"),
        ({"dials": {"mpc": {"attainment": {"setting": "headroom"}, "accuracy": {"setting": "headroom"}}}}, "another"),
        ({"polices": ["mpc"]}, "did you mean 'policies'"),
        ({"watched": ["paragon"]}, "watched: expected one of"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_benchmark(path)


def test_an_unknown_policy_or_row_is_found_before_anything_runs(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        BenchmarkRun(config, policies=["reactiv"], out=tmp_path)
    with pytest.raises(UsageError, match="--only"):
        BenchmarkRun(config, out=tmp_path).keys("tiny/own/mpc@nothing")
    assert not (tmp_path / CELLS).exists()


def test_quick_takes_little_of_everything() -> None:
    config = load_benchmark(None, quick=True)
    assert len(config.traces) <= 2
    assert (config.most_days or 9) <= 2
    large = BenchmarkConfig(scenarios=("tiny",), traces=("own", "twitter", "nasa"), policies=("mpc",), seeds=(0, 1, 2))
    small = large.quick()
    assert (small.traces, small.seeds, small.hours) == (("own", "twitter"), (0,), 2.0)


def test_shipped_configurations_are_valid() -> None:
    for quick in (False, True):
        assert {name.removeprefix("tuned:") for name in load_benchmark(None, quick=quick).row_names} <= set(POLICIES)


def test_members_are_files_of_a_pattern_in_order(tmp_path: Path) -> None:
    for seed in (1, 0):
        (tmp_path / f"policy-{seed}.provisor").write_bytes(b"")
    ours = PolicyEntry(name="ours", members=(f"{tmp_path}/policy-*.provisor",), selected="x.provisor")
    config = BenchmarkConfig(scenarios=("tiny",), policies=("mpc", ours))
    assert config.row_names == ("mpc", "ours", "ours (selected)")
    entry = config.entries[1]
    assert [Path(str(one)).name for one in members_of(entry, "tiny")] == ["policy-0.provisor", "policy-1.provisor"]
    with pytest.raises(UsageError, match="a pattern that files fit"):
        members_of(entry.model_copy(update={"members": (f"{tmp_path}/none-*",)}), "tiny")


def test_scenario_stands_in_paths() -> None:
    config = BenchmarkConfig(scenarios=("tiny",), policies=("tuned/{scenario}/mpc.yaml",))
    assert members_of(config.entries[0], "suite-cpu") == ["tuned/suite-cpu/mpc.yaml"]
    (shipped,) = members_of(PolicyEntry(name="mpc", policy="tuned:mpc"), "scenarios/suite-gpu.yaml")
    assert Path(str(shipped)).parts[-4:] == ("experiments", "tuned", "suite-gpu", "mpc.yaml")


@pytest.mark.parametrize(
    ("trace", "label"),
    [("own", "own"), ("twitter", "twitter"), ("generated:azure_like", "generated:azure_like"), ("a/b.csv.gz:3", "b:3")],
)
def test_traces_are_called_by_name_or_file(trace: str, label: str) -> None:
    assert trace_label(trace) == label


def test_one_process_runs_cells_in_order(config: Path, tmp_path: Path) -> None:
    run = BenchmarkRun(config, out=tmp_path)
    keys = run.keys("tiny/own/static@static")
    done: list[tuple[int, int]] = []
    with open_workers(1) as workers:
        run.cells(keys, workers, lambda *counts: done.append(counts))
    total = done[-1][1]
    assert done == [(n, total) for n in range(total + 1)]
    (member,), (case,) = run.plan.members("static", "tiny"), keys[0].cases(run.plan)
    wanted = [cell_key(cell) for k in run.plan.run_points(member) for cell in run.plan.cells_at(member, k, case)]
    assert [json.loads(line)["key"] for line in (tmp_path / CELLS).read_text().splitlines()] == wanted
