"""An evaluation runs every policy on the same cells and writes what it found, whole or interrupted."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from controller import cli
from controller.arrays import ObservationArrays
from controller.errors import ConfigError, UsageError
from controller.loop import Decision
from controller.policies.registry import PolicySpec
from envs.world import Cell, World
from experiments.evaluate import build_worlds, evaluate, evaluate_on, run_evaluation, write_evaluation
from experiments.fanout import open_workers
from experiments.rollout import MOST_ENVS, Progress, batches, prepare
from experiments.run_config import RunConfig, load_run, policy_labels
from traces.generator import generate
from traces.readers import write_npz


class Counting(Progress):
    def __init__(self, stop_at: int | None = None) -> None:
        self.steps = self.ticks = 0
        self.stop_at = stop_at

    def started(self, steps: int) -> None:
        self.steps = steps

    def advanced(self) -> None:
        self.ticks += 1
        if self.ticks == self.stop_at:
            raise KeyboardInterrupt


def test_rows_cover_policies_days_and_seeds_in_order(plain_world: World) -> None:
    progress = Counting()
    result = evaluate([plain_world], ["two", "three"], [0, 5], progress)
    found = [(row.policy, row.seed, row.day) for row in result.rows]
    assert found == [(p, s, d) for p in ("two", "three") for s in (0, 5) for d in (3, 4)]
    assert not result.is_partial
    # 120 ticks of 12 minutes per day; the four cells of a policy run side by side.
    assert progress.ticks == progress.steps == 2 * 120


def test_policies_meet_the_same_requests(plain_world: World) -> None:
    result = evaluate([plain_world], ["two", "three"], [0, 1])
    requests = [row.requests for row in result.rows]
    assert requests[:4] == requests[4:]
    assert len(set(requests[:4])) > 1
    assert result.rows[4].misses < result.rows[0].misses
    assert result.rows[4].cost_usd == pytest.approx(1.5 * result.rows[0].cost_usd)


def test_numbers_do_not_depend_on_the_other_policies(plain_world: World) -> None:
    def numbers(policies: list[str]) -> list[dict[str, Any]]:
        rows = evaluate([plain_world], policies, [0]).rows
        return [r.model_dump(exclude={"decide_ms_p99"}) for r in rows if r.policy == "two"]

    assert numbers(["two"]) == numbers(["nervous", "two"])


def test_flaps_are_those_of_the_policy(plain_world: World) -> None:
    rows = evaluate([plain_world], ["two", "nervous"], [0]).rows
    # A day has 120 plans of 12 minutes, in turn 3, 2, 3, ...: 119 changes, all but the first turn back.
    assert rows[0].flaps_per_hour == 0
    assert rows[2].flaps_per_hour == pytest.approx(118 / 24)


def test_timeline_is_that_of_the_first_cell(plain_world: World) -> None:
    result = evaluate([plain_world], ["two"], [4])
    (timeline,) = result.timelines
    assert (timeline.policy, timeline.day, timeline.seed) == ("two", 3, 4)
    assert timeline.hours[-1] == pytest.approx(24.0)
    assert timeline.cost_usd[-1].sum() == pytest.approx(result.rows[0].cost_usd)
    tick_s = plain_world.setting.control.tick_s
    assert timeline.load_rps.sum() * tick_s == pytest.approx(result.rows[0].requests)
    assert set(timeline.capacity[:, 0]) == {2.0}


def test_interrupted_evaluation_keeps_the_policies_that_were_finished(plain_world: World) -> None:
    result = evaluate([plain_world], ["two", "three"], [0], Counting(stop_at=150))
    assert result.is_partial
    assert {row.policy for row in result.rows} == {"two"}


def test_an_unknown_policy_is_found_before_anything_runs(plain_world: World) -> None:
    progress = Counting()
    with pytest.raises(UsageError, match="expected one of"):
        evaluate([plain_world], ["two", "nonsense"], [0], progress)
    assert progress.ticks == 0


def test_cells_begin_with_the_hour_before_and_a_fleet(plain_world: World) -> None:
    cells = [Cell(3, 0), Cell(4, 0)]
    start = prepare(plain_world, cells)
    assert start.history == pytest.approx(plain_world.history(cells))
    assert start.replicas[:, 0, 0].tolist() == [2, 2]


def test_many_cells_are_run_in_batches() -> None:
    cells = [Cell(day, 0) for day in range(1, MOST_ENVS + 3)]
    assert [len(batch) for batch in batches(cells)] == [MOST_ENVS, 2]
    assert [cell for batch in batches(cells) for cell in batch] == cells


class Page(HTMLParser):
    """Collects references and the balance of tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "use", "image"}:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_is_one_page_that_loads_nothing(plain_world: World, tmp_path: Path) -> None:
    result = evaluate([plain_world], ["two", "three"], [0])
    report = write_evaluation(result, tmp_path, "a <title>")[-1]
    text = report.read_text()
    page = Page(text)
    assert page.open == []
    assert all(reference.startswith("#") for reference in page.references)
    assert "url(http" not in text
    assert "<script" not in text
    assert "a &lt;title&gt;" in text
    assert text.count("<svg") == 3  # Pareto and a timeline per policy
    assert "SLO 1.5 s" in text
    assert "attainment %" in text
    for name in ("two", "three"):
        assert name in text


def test_equal_evaluations_give_equal_pages(plain_world: World, tmp_path: Path) -> None:
    pages = []
    for run in ("a", "b"):
        result = evaluate([plain_world], ["two"], [0])
        result.rows = [row.model_copy(update={"decide_ms_p99": None}) for row in result.rows]
        pages.append(write_evaluation(result, tmp_path / run, "run")[-1].read_text())
    assert pages[0] == pages[1]


def test_run_notes_what_is_run_and_writes_everything(plain_world: World, tmp_path: Path) -> None:
    config = RunConfig(scenario="toy", policies=("two",), seeds=(0, 1), out=str(tmp_path / "out"))
    result, written = run_evaluation(config)
    assert {path.name for path in written} == {"results.json", "results.csv", "report.html"}
    header = json.loads((tmp_path / "out" / "run.json").read_text())
    assert header["seeds"] == [0, 1]
    assert header["config"]["run"]["policies"] == ["two"]
    assert header["config"]["scenarios"][0]["name"] == "toy"
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == len(result.rows) == 4


def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    trace = write_npz(generate("azure_like", 0.02, 5, bin_seconds=60.0), tmp_path / "half-an-hour.npz")
    config = RunConfig(scenario="tiny", trace=str(trace), policies=("mpc", "static"), seeds=(0, 4))
    worlds = build_worlds(config)
    alone = evaluate(worlds, config.policies, config.seeds)
    with open_workers(1) as workers:
        shared = evaluate_on(workers, config, worlds)
    for row, other in zip(alone.rows, shared.rows, strict=True):
        assert row.model_copy(update={"decide_ms_p99": None}) == other.model_copy(update={"decide_ms_p99": None})
    assert alone.scales == shared.scales
    for course, other in zip(alone.timelines, shared.timelines, strict=True):
        assert (course.policy, course.day, course.seed) == (other.policy, other.day, other.seed)
        assert (course.cost_usd == other.cost_usd).all()


def test_interrupted_workers_leave_the_policies_that_were_finished(plain_world: World) -> None:
    class Interrupted:
        count = 2

        def run(self, function, items):
            for index in (0, 1, 3):
                yield index, function(items[index])
            raise KeyboardInterrupt

    config = RunConfig(scenario="toy", policies=("two", "three"), seeds=(0, 4))
    result = evaluate_on(Interrupted(), config, [plain_world])
    assert result.is_partial
    assert [(row.policy, row.seed) for row in result.rows] == [("two", 0), ("two", 0), ("two", 4), ("two", 4)]
    with pytest.raises(UsageError, match="expected one of"):
        evaluate_on(Interrupted(), config.model_copy(update={"policies": ("nonsense",)}), [plain_world])


def test_a_run_without_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="policies: expected at least one"):
        run_evaluation(RunConfig(policies=()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenari: default", "did you mean 'scenario'"),
        ("policies: [static, static]", "policies: expected different ones"),
        ("seeds: []", "seeds"),
        ("seeds: [-1]", "seeds"),
        ("scale: -2.0", "scale"),
        ("days: [1]", "days"),
    ],
)
def test_wrong_run_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "RUN.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_run(path)


def test_policies_are_named_by_kind_file_or_name_and_told_apart() -> None:
    named = PolicySpec(kind="static", settings={"replicas": 3}, name="three")
    specs = ("static", "static:headroom=2", named, "runs/a/best.provisor", "tuned.yaml")
    assert policy_labels(specs) == ["static", "static:headroom=2", "three", "best", "tuned"]
    twins = ("runs/a/best.provisor", "runs/b/best.provisor", "mpc")
    assert policy_labels(twins) == ["runs/a/best.provisor", "runs/b/best.provisor", "mpc"]


def test_verb_prints_the_table_and_writes(plain_world: World, tmp_path: Path, capsys) -> None:
    words = ["evaluate", "--policy", "two", "--policy", "three", "--seeds", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "three" in shown
    assert "attainment %" in shown
    assert str(tmp_path / "report.html") in shown


def test_verb_prints_json_alone_when_asked(plain_world: World, tmp_path: Path, capsys) -> None:
    assert cli.main(["evaluate", "--policy", "two", "--seeds", "1", "--out", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_options_replace_fields_of_the_run_file(plain_world: World, tmp_path: Path, capsys) -> None:
    path = tmp_path / "RUN.yaml"
    path.write_text(f"policies: [two]\nseeds: [7, 8]\nout: {tmp_path / 'a'}\n")
    assert cli.main(["evaluate", str(path), "--policy", "three", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["policy"], row["seed"]) for row in rows} == {("three", 7), ("three", 8)}
    assert (tmp_path / "a" / "results.json").exists()


def test_interrupted_verb_writes_what_it_has_and_exits_130(
    plain_world: World, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))

    def interrupted(self: object, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        if next(ticks) == 150:
            raise KeyboardInterrupt

    monkeypatch.setattr("experiments.timeline.TimelineRecorder.decided", interrupted)
    words = ["evaluate", "--policy", "two", "--policy", "three", "--seeds", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 130
    assert {row["policy"] for row in json.loads((tmp_path / "results.json").read_text())} == {"two"}
    assert "interrupted" in (tmp_path / "report.html").read_text()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "two", "--days", "5:2"], "--days: expected days A:B"),
        (["--policy", "two", "--seeds", "0"], "--seeds: expected a number >= 1"),
        (["--policy", "two", "--scale", "x"], "--scale"),
        (["--policy", "two", "--scale", "-1"], "scale"),
        ([], "policies: expected at least one"),
        (["none.yaml"], "none.yaml"),
    ],
)
def test_wrong_words_exit_2(words: list[str], message: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *words]) == 2
    assert message in capsys.readouterr().err
