"""Settings are tuned on whole days of several worlds, by any number of workers, and kept with their summary."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.cli import main
from controller.errors import ConfigError, ProvisorError, UsageError
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import make_policy
from experiments.day_outcome import DayJob, DayOutcome, run_day
from experiments.fanout import open_workers
from experiments.objective import Outcome
from experiments.search_plan import StopRule
from experiments.study import STUDY_LOG, StudyProgress, WorldJudge, run_study
from experiments.study_config import study_config
from experiments.study_summary import SETTINGS, SUMMARY, commit_study, pack_trials, unpack_trials
from experiments.world_ref import WorldRef, named_days, world_of

DAYS = named_days(["tiny"], days=(2, 3))
FLEET = "tests.tuned_policy:Fleet"


class PricedWorkers:
    """Stand-in for days: every machine costs 2 USD, and with fewer than five 30 % of the strict requests are missed."""

    count = 1

    def __init__(self) -> None:
        self.jobs: list[DayJob] = []

    def run(self, function: Callable[[DayJob], DayOutcome], items):
        assert function is run_day
        for index, job in enumerate(items):
            self.jobs.append(job)
            machines = int(job.settings["machines"])
            missed = 300 if machines < 5 else 0
            if machines == 9:
                yield index, DayOutcome(None, 0.0, "nine are refused")
                continue
            cost = np.array([2.0 * machines * job.world.day])
            arrivals, answered = np.array([[1000, 1000]]), np.array([[1000 - missed, 1000]])
            accuracy = answered * 0.9
            yield index, DayOutcome(Outcome(cost, arrivals, arrivals - answered, answered, accuracy), 0.5)


@pytest.fixture
def short_traces(tmp_path: Path) -> tuple[str, str]:
    """Two traces of twenty minutes."""
    rng = np.random.default_rng(0)
    seconds = np.arange(1200)
    rates = {"wave": 10 + 5 * np.sin(seconds / 120), "step": np.where(seconds % 600 < 300, 2.0, 18.0)}
    for name, rate in rates.items():
        np.savetxt(tmp_path / f"{name}.txt", rng.poisson(rate), fmt="%d")
    return tuple(str(tmp_path / f"{name}.txt") for name in rates)


def test_cheapest_fleet_that_keeps_the_promise_is_found(tmp_path: Path) -> None:
    workers = PricedWorkers()
    config = study_config(FLEET, DAYS, seed=1)
    result = run_study(config, StopRule(trials=30), tmp_path, workers)
    assert result.settings == {"machines": 5}
    # The start's three machines cost 3 x 2 x 2 and 3 x 2 x 3 USD and miss 30 % where 0.8 x 1 % is allowed for:
    # 1 + 40 x 0.292 = 12.68. Five cost 5/3 as much and miss nothing.
    assert result.references_usd == (12.0, 18.0)
    assert result.search.course[0] == pytest.approx(12.68)
    assert result.search.course[-1] == pytest.approx(5 / 3)
    # Equal settings are run once on a day.
    asked = [(job.settings["machines"], job.world.day) for job in workers.jobs]
    assert len(asked) == len(set(asked)) <= 18


def test_summary_tells_what_is_needed_to_judge_and_to_repeat(tmp_path: Path) -> None:
    config = study_config(FLEET, DAYS, seed=1)
    result = run_study(config, StopRule(trials=30), tmp_path / "out", PricedWorkers())
    held = json.loads((tmp_path / "out" / SUMMARY).read_text())
    assert held["settings"] == {"machines": 5}
    assert held["start"] == {"machines": 3}
    assert held["edges"] == []
    states = held["trials"]
    assert states["total"] == 30 == states["complete"] + states["given_up"] + states["failed"]
    assert states["failed"] > 0
    assert states["ended_by"] == "trials"
    assert held["value"]["gain"] == pytest.approx(1 - 5 / 3 / 12.68)
    assert held["value"]["gain_of_last"] == {"trials": 29, "gain": held["value"]["gain"]}
    assert held["convergence"][0] == [1, pytest.approx(12.68)]
    assert held["convergence"][-1] == [30, pytest.approx(5 / 3)]
    world = held["worlds"][1]
    assert (world["scenario"], world["day"], world["reference_usd"]) == ("tiny", 3, 18.0)
    assert world["best"]["cost_usd"] == 30.0
    assert world["start"]["miss_share"] == [0.3, 0.0]
    assert {"seed", "batch"} <= set(held["search"])
    assert held["versions"]["optuna"]
    assert len(held["kernels"]) == 16
    assert (tmp_path / "out" / "run.json").exists()
    assert [path.name for path in commit_study(result, tmp_path / "kept")] == ["Fleet.yaml", "Fleet.json"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["Fleet.json", "Fleet.yaml"]
    assert (tmp_path / "kept" / "Fleet.yaml").read_text() == (tmp_path / "out" / SETTINGS).read_text()


def test_settings_at_the_end_of_their_range_are_named(tmp_path: Path) -> None:
    # Without a penalty for misses one machine is cheapest, which is the least there may be.
    config = study_config(FLEET, DAYS, objective={"miss_weight": 0.0})
    run_study(config, StopRule(trials=30), tmp_path, PricedWorkers())
    held = json.loads((tmp_path / SUMMARY).read_text())
    assert held["edges"] == [{"name": "machines", "value": 1, "end": "low", "range": [1, 9]}]


@pytest.mark.slow
@pytest.mark.timeout(900)  # may be the first to compile the kernels
def test_results_are_those_of_one_worker_and_settings_serve_as_a_policy(
    tmp_path: Path, short_traces: tuple[str, str]
) -> None:
    config = study_config("mpc:headroom=1.5", named_days(["tiny"], short_traces, (1, 1)), batch=4)
    held = []
    for count in (1, 2):
        with open_workers(count) as workers:
            run_study(config, StopRule(trials=9), tmp_path / str(count), workers)
        held.append(json.loads((tmp_path / str(count) / SUMMARY).read_text()))
        assert held[-1].pop("cpu_seconds") > 0
    assert held[0] == held[1]
    assert held[0]["trials"]["complete"] >= 1
    assert held[0]["start"]["headroom"] == 1.5
    made = make_policy(str(tmp_path / "2" / SETTINGS), world_of(config.worlds[0]).setting)
    assert isinstance(made, MpcPolicy)
    assert made.name == "mpc"
    assert json.loads(made.settings.model_dump_json()) == held[0]["settings"]
    # What a rule without knobs cannot feel stays as it was.
    assert made.settings.miss_multiplier == MpcSettings().miss_multiplier


@pytest.mark.slow
@pytest.mark.timeout(900)  # may be the first to compile the kernels
def test_outcome_of_a_day_is_what_evaluation_says_of_it(short_traces: tuple[str, str]) -> None:
    from experiments.evaluate import evaluate

    ref = named_days(["tiny"], short_traces[:1], (1, 1))[0]
    found = run_day(DayJob("reactive", {"headroom": 1.3}, ref)).outcome
    row = evaluate([world_of(ref)], ["reactive:headroom=1.3"], [ref.seed]).rows[0]
    assert found.cost_usd.tolist() == [pytest.approx(row.cost_usd)]
    assert found.missed.sum() == row.misses
    assert found.arrivals.sum() == row.requests > 0


def test_settings_a_policy_refuses_are_an_outcome() -> None:
    day = run_day(DayJob("reactive", {"headroom": 99.0}, DAYS[0]))
    assert day.outcome is None
    assert "headroom" in day.failure


@pytest.mark.slow
def test_interrupted_study_is_continued_by_the_same_call(tmp_path: Path) -> None:
    class Interrupted(PricedWorkers):
        def run(self, function, items):
            if len(self.jobs) > 6:
                raise KeyboardInterrupt
            yield from super().run(function, items)

    config = study_config(FLEET, DAYS)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, StopRule(trials=30), tmp_path / "a", Interrupted())
    assert json.loads((tmp_path / "a" / SUMMARY).read_text())["trials"]["ended_by"] is None
    for name in ("a", "b"):
        run_study(config, StopRule(trials=30), tmp_path / name, PricedWorkers())
    # Days that were run before the interrupt took half a second of a worker each, like those of the other study.
    assert json.loads((tmp_path / "a" / SUMMARY).read_text()) == json.loads((tmp_path / "b" / SUMMARY).read_text())


def test_folder_of_another_study_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    run_study(study_config(FLEET, DAYS), StopRule(trials=1), tmp_path, PricedWorkers())
    run_study(study_config(FLEET, DAYS), StopRule(trials=9, until_gain=0.1), tmp_path, PricedWorkers())  # may differ
    with pytest.raises(UsageError, match=r"one with config.objective.miss_weight = 40.0 \(here 39.0\)"):
        run_study(
            study_config(FLEET, DAYS, objective={"miss_weight": 39.0}), StopRule(trials=9), tmp_path, PricedWorkers()
        )


def test_given_references_replace_the_cost_of_the_start(tmp_path: Path) -> None:
    config = study_config(FLEET, DAYS, references_usd=[6.0, 9.0])
    judge = WorldJudge(config, PricedWorkers(), StudyProgress())
    assert [one.value for one in judge([({"machines": 5}, 0), ({"machines": 6}, 1)])] == [20 / 6, 36 / 9]
    with pytest.raises(ConfigError, match="references_usd: expected 2 numbers > 0"):
        study_config(FLEET, DAYS, references_usd=[6.0])


def test_start_that_is_refused_somewhere_names_the_world(tmp_path: Path) -> None:
    config = study_config(f"{write_fleet(tmp_path, 9)}", DAYS)
    with pytest.raises(
        UsageError, match="start: expected settings that can be run on tiny day 2, got: nine are refused"
    ):
        run_study(config, StopRule(trials=5), tmp_path / "out", PricedWorkers())


def test_settings_found_earlier_are_tried_after_the_start(tmp_path: Path) -> None:
    config = study_config(FLEET, DAYS, starts=[write_fleet(tmp_path, 6)])
    result = run_study(config, StopRule(trials=2), tmp_path / "out", PricedWorkers())
    assert [trial.params for trial in result.search.trials] == [{"machines": 3}, {"machines": 6}]


def test_settings_of_another_policy_are_tried_as_far_as_they_are_shared(tmp_path: Path) -> None:
    published, other = tmp_path / "ray_serve.yaml", tmp_path / "mark.yaml"
    published.write_text("kind: ray_serve\nsettings: {target_ongoing_requests: 3.0, batch_slack: 0.3}\n")
    other.write_text("kind: mark\nsettings: {overflow_fraction: 0.7, batch_slack: 0.6, interval_s: 90.0}\n")
    config = study_config("ray_serve", DAYS, starts=[published], borrowed=[other])
    assert config.more_starts[1] == {**config.more_starts[0], "overflow_fraction": 0.7, "batch_slack": 0.6}
    assert study_config("ray_serve", DAYS, borrowed=[other]).more_starts == (
        {**config.start, "overflow_fraction": 0.7, "batch_slack": 0.6},
    )


def test_a_scheme_as_published_is_searched_in_what_it_was_published_with() -> None:
    config = study_config("exascale", DAYS, fixed=("window_s",), is_as_published=True)
    assert {one.name for one in config.ranges} == {"spot_share", "batch_slack", "headroom", "cooldown_s"}
    every = study_config("exascale", DAYS)
    assert {"miss_budget", "adaptive_variant", "window_s"} < {one.name for one in every.ranges}


def write_fleet(folder: Path, machines: int) -> Path:
    path = folder / f"fleet-{machines}.yaml"
    path.write_text(f"kind: {FLEET}\nsettings: {{machines: {machines}}}\n")
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "mcp"], "policy: expected one of"),
        (["--policy", "mpc", "--as-published"], "--as-published: expected a published scheme, such as mark, got 'mpc'"),
        (["--policy", "tests.tuned_policy:Bare"], "expected a class whose `Settings` is a pydantic model"),
        (["--policy", "a.provisor"], "--policy: expected a kind, a YAML file or module:Class"),
        (["--policy", FLEET, "--fix", "machines"], "expected a policy with settings that have ranges beside machines"),
        (["--policy", FLEET, "--fix", "machine"], "fixed: expected fields of FleetSettings: machines"),
        (["--policy", "mpc:headroom=9"], "headroom"),
        (["--policy", "mpc", "--trials", "0"], "trials: expected"),
        (["--policy", "mpc", "--until-gain", "2"], "until_gain: expected"),
        (["--policy", "mpc", "--batch", "0"], "batch: expected"),
        (["--policy", "mpc", "--workers", "0"], "--workers: expected a number >= 1"),
        (["--policy", "mpc", "--days", "4"], "days: expected A:B within 1:3"),
        (["--policy", "mpc", "--days", "x"], "--days: expected days A:B"),
        (["--policy", "mpc", "--name", "a b"], "name: expected"),
        (["--policy", "mpc", "--resume"], "--resume: expected a study in"),
        (["--policy", "mpc", "--start", "missing.yaml"], "missing.yaml"),
    ],
)
def test_wrong_words_are_one_clear_error(tmp_path: Path, monkeypatch, capsys, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "tiny", "--workers", "1", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_day_that_results_are_told_of_is_not_tuned_on() -> None:
    day = WorldRef(scenario="demo", suite_trace="generated-burst", day=8)
    with pytest.raises(UsageError, match=r"days: expected training or validation days of generated-burst, .* got 8"):
        study_config("mpc", [day])
    assert study_config("mpc", [day.model_copy(update={"day": 7})]).worlds[0].day == 7


def test_settings_of_another_kind_are_no_start(tmp_path: Path) -> None:
    other = tmp_path / "mpc.yaml"
    other.write_text("kind: mpc\n")
    with pytest.raises(UsageError, match=f"--start .*: expected settings of kind {FLEET}, got 'mpc'"):
        study_config(FLEET, DAYS, starts=[other])


@pytest.mark.parametrize(
    ("kind", "other", "message"),
    [
        (
            FLEET,
            "{kind: hpa, settings: {target_utilisation: 0.5}}",
            f"--borrow .*some of machines, which {FLEET} has too",
        ),
        (
            FLEET,
            f"{{kind: '{FLEET}', settings: {{machines: 99}}}}",
            "--borrow .*machines: expected a number <= 9, got 99",
        ),
        ("mpc", "{kind: mark, settings: {headroom: 0.4}}", "--borrow .*headroom: expected a number >= 0.7, got 0.4"),
        ("mpc", "{kind: mark, settings: {headroom: 1.4, charm: 1}}", "--borrow .*charm"),
        ("mpc", "{kind: marc, settings: {headroom: 1.4}}", "expected one of .*, got 'marc'"),
    ],
)
def test_settings_that_do_not_fit_are_not_borrowed(tmp_path: Path, kind: str, other: str, message: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(other)
    with pytest.raises(ProvisorError, match=f"(?s){message}"):
        study_config(kind, DAYS, borrowed=[path])


@pytest.mark.slow
@pytest.mark.timeout(900)  # may be the first to compile the kernels
def test_command_tunes_on_short_traces_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch, capsys, short_traces: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["tune", "tiny", "--policy", "reactive", "--days", "1", "--trials", "5", "--workers", "1", "--batch", "4"]
    words += ["--trace", short_traces[0], "--name", "mine", "--commit-to", "kept"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "5 trials: best" in shown.out
    assert "1 of 5 trials, best " in shown.err
    assert make_policy("kept/mine.yaml", world_of(DAYS[0]).setting).name == "mine"
    before = Path("kept/mine.json").read_text()
    assert main([*words, "--resume"]) == 0
    assert Path("kept/mine.json").read_text() == before


@pytest.mark.slow
def test_stopped_study_goes_on_elsewhere_from_its_packed_trials(tmp_path: Path) -> None:
    config = study_config(FLEET, DAYS, seed=1)
    whole = run_study(config, StopRule(trials=30), tmp_path / "whole", PricedWorkers())
    run_study(config, StopRule(trials=12), tmp_path / "begun", PricedWorkers())
    kept = pack_trials(tmp_path / "begun" / STUDY_LOG, tmp_path / "not" / "there", "Fleet")
    elsewhere = tmp_path / "elsewhere" / STUDY_LOG
    assert unpack_trials(elsewhere, kept.parent, "Fleet")
    workers = PricedWorkers()
    result = run_study(config, StopRule(trials=30), elsewhere.parent, workers)
    assert [(one.params, one.value) for one in result.search.trials] == [
        (one.params, one.value) for one in whole.search.trials
    ]
    assert not unpack_trials(elsewhere, kept.parent, "Fleet")  # what is there is not overwritten
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"Fleet.log.xz: expected a study's packed trials"):
        unpack_trials(tmp_path / "third" / STUDY_LOG, kept.parent, "Fleet")


def test_study_goes_on_under_other_kernels_where_its_trials_come_to_the_same(tmp_path: Path, monkeypatch) -> None:
    config = study_config(FLEET, DAYS, seed=1)
    run_study(config, StopRule(trials=12), tmp_path, PricedWorkers())
    monkeypatch.setattr("experiments.study.kernels_hash", lambda: "of other sources")
    workers = PricedWorkers()
    assert len(run_study(config, StopRule(trials=14), tmp_path, workers).search.trials) == 14
    repeated = {(job.settings["machines"], job.world.day) for job in workers.jobs}
    assert {(3, 2), (3, 3), (5, 2), (5, 3)} <= repeated  # the start and the best
    workers = PricedWorkers()
    run_study(config, StopRule(trials=14), tmp_path, workers)
    assert {job.settings["machines"] for job in workers.jobs} == {3}  # only what the start costs: they are known now


def test_study_of_kernels_that_give_other_costs_is_refused(tmp_path: Path, monkeypatch) -> None:
    class DearerWorkers(PricedWorkers):
        def run(self, function, items):
            for index, day in super().run(function, items):
                cost = None if day.outcome is None else replace(day.outcome, cost_usd=1.001 * day.outcome.cost_usd)
                yield index, replace(day, outcome=cost)

    config = study_config(FLEET, DAYS, seed=1)
    run_study(config, StopRule(trials=12), tmp_path, PricedWorkers())
    monkeypatch.setattr("experiments.study.kernels_hash", lambda: "of other sources")
    with pytest.raises(UsageError, match=r"study.log: trial 0 was judged by other code, which world 0 shows"):
        run_study(config, StopRule(trials=14), tmp_path, DearerWorkers())
    with pytest.raises(UsageError, match="trial 0 was judged by other code"):  # and is not taken for renewed
        run_study(config, StopRule(trials=14), tmp_path, DearerWorkers())
