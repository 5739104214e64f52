"""A simulated day is journalled tick by tick, and deciding it again comes out equal or says where it does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import cli
from controller.errors import PolicyFileError, ProvisorError, UsageError
from controller.journal import Journal, timings_path
from controller.replay import make_header, policy_digest, replay_journal, setting_of
from controller.scenario import MeasuredSpans, load_scenario
from envs.world import World, WorldChoice
from experiments.rollout import Progress
from experiments.simulate import simulate


@pytest.fixture
def journal(plain_world: World, tmp_path: Path) -> Path:
    """Journal of day 3 under the nervous stand-in, plain text so that it can be altered."""
    done = simulate("toy", "nervous", seed=1, out=tmp_path / "run")
    path = tmp_path / "journal.jsonl"
    import gzip

    path.write_bytes(gzip.decompress(done.journals[0].read_bytes()))
    return path


def altered(path: Path, line: int, old: str, new: str) -> Path:
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines))
    return path


def test_every_day_has_a_row_and_a_journal(plain_world: World, tmp_path: Path) -> None:
    done = simulate("toy", "two", seed=1, out=tmp_path)
    assert [row.day for row in done.rows] == [3, 4]
    assert [path.name for path in done.journals] == ["day03-journal.jsonl.gz", "day04-journal.jsonl.gz"]
    assert len(list(Journal(done.journals[0]).ticks())) == 120
    assert len(timings_path(done.journals[0]).read_text().splitlines()) == 120
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2


def test_journal_holds_what_was_seen_before_each_decision(plain_world: World, tmp_path: Path) -> None:
    done = simulate("toy", "two", seed=1, out=tmp_path)
    ticks = list(Journal(done.journals[0]).ticks())
    assert [tick.observation.tick[0] for tick in ticks] == list(range(120))
    assert ticks[0].observation.arrivals.sum() == 0
    # All windows but the last one, which no decision followed.
    seen = sum(int(tick.observation.arrivals.sum()) for tick in ticks)
    assert seen == pytest.approx(done.rows[0].requests * 119 / 120)


def test_without_a_directory_nothing_is_written(plain_world: World, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = simulate("toy", "two", ticks=5)
    assert done.journals == ()
    assert list(tmp_path.iterdir()) == []


def test_days_side_by_side_give_the_rows_of_days_one_by_one(tmp_path: Path) -> None:
    choice = WorldChoice(days=(1, 3))
    beside = simulate("tiny", "mpc", choice=choice, ticks=30)
    alone = simulate("tiny", "mpc", choice=choice, ticks=30, out=tmp_path)
    assert [row.model_copy(update={"decide_ms_p99": None}) for row in beside.rows] == [
        row.model_copy(update={"decide_ms_p99": None}) for row in alone.rows
    ]
    assert [row.day for row in beside.rows] == [1, 2, 3]


def test_a_simulated_journal_replays_equal(journal: Path) -> None:
    replay = replay_journal(journal)
    assert replay.is_equal
    assert replay.ticks == 120


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"replicas":[[0],[3]]', '"replicas":[[0],[4]]', "plan.replicas[0, 0]: recorded 4, decided 3"),
        ('"shares":[[0,4],[1.0,1.0]]', '"shares":[[0,4],[1.0,0.9]]', "shares[1, 0, 0]: recorded 0.9, decided 1.0"),
        ('"actions":{}', '"actions":{"drain":[[1],[2]]}', "actions.drain[0, 1]: recorded 2, decided 0"),
        ('"raw":[3.25]', '"raw":[3.26]', "raw[0]: recorded 3.26, decided 3.25"),
    ],
)
def test_every_difference_is_named(journal: Path, old: str, new: str, field: str) -> None:
    replay = replay_journal(altered(journal, 4, old, new))
    assert not replay.is_equal
    assert [str(difference) for difference in replay.differences] == [f"line 4, {field}"]


def test_raw_output_within_float_tolerance_is_equal(journal: Path) -> None:
    assert replay_journal(altered(journal, 4, '"raw":[3.25]', '"raw":[3.2500001]')).is_equal


def test_plans_are_decided_from_the_recorded_raw_output(journal: Path) -> None:
    # 4.25 would plan 4 machines, so the recorded 3 come out different too: raw output is what the plan is made from.
    replay = replay_journal(altered(journal, 4, '"raw":[3.25]', '"raw":[4.25]'))
    assert [difference.field for difference in replay.differences] == ["raw", "plan.replicas"]


def test_all_differences_are_counted_and_the_first_ten_shown(journal: Path) -> None:
    replay = replay_journal(journal, "three")
    # The nervous policy has 3 and 2 machines in turn, so half of the ticks agree but for raw output.
    assert replay.ticks_different == 60
    assert len(replay.differences) == 10


def test_setting_is_rebuilt_from_the_journal_alone(make_setting: Callable) -> None:
    setting = make_setting(mean_rps=7.0)
    header = make_header(setting, "static", "static", (0,), "simulated")
    rebuilt = setting_of(header)
    assert rebuilt.scenario == setting.scenario
    assert rebuilt.source == setting.source


def test_replica_spans_measured_live_are_part_of_the_setting(make_setting: Callable) -> None:
    setting = make_setting(speed=10.0)
    spans = MeasuredSpans(start_s=1.5, swap_s=0.5)
    rebuilt = setting_of(make_header(setting, "static", "static", (), "live", measured=spans))
    assert set(rebuilt.catalog.load_s.ravel()) == {1.5}
    assert rebuilt.catalog.launch_s == pytest.approx(setting.catalog.launch_s / 10)


def test_replica_spans_of_the_scenario_are_part_of_the_setting(make_setting: Callable) -> None:
    setting = make_setting(speed=10.0, measured={"start_s": 1.5, "swap_s": 0.5})
    rebuilt = setting_of(make_header(setting, "static", "static", (0,), "simulated"))
    assert rebuilt.catalog.load_s == pytest.approx(setting.catalog.load_s)
    assert rebuilt.catalog.price_usd_per_s == pytest.approx(setting.catalog.price_usd_per_s)
    assert "measured" not in make_setting(speed=10.0).scenario.model_dump()


def test_another_policy_file_under_the_same_name_is_refused(plain_world: World, tmp_path: Path) -> None:
    file = tmp_path / "policy.provisor"
    file.write_bytes(b"first")
    header = make_header(plain_world.setting, str(file), "policy", (0,), "simulated")
    assert header.policy_sha256 == policy_digest(str(file))
    path = tmp_path / "journal.jsonl"
    path.write_text(header.model_dump_json() + "\n")
    file.write_bytes(b"second")
    with pytest.raises(PolicyFileError, match="the file that decided"):
        replay_journal(path)
    file.unlink()
    with pytest.raises(PolicyFileError, match="got None"):
        replay_journal(path)


def test_interrupted_simulation_keeps_its_journal(plain_world: World, tmp_path: Path) -> None:
    class Stop(Progress):
        ticks = 0

        def advanced(self) -> None:
            self.ticks += 1
            if self.ticks == 130:
                raise KeyboardInterrupt

    done = simulate("toy", "two", out=tmp_path, progress=Stop())
    assert done.is_partial
    assert [row.day for row in done.rows] == [3]
    assert len(list(Journal(done.journals[1]).ticks())) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ticks": 0}, "ticks: expected 1..120"),
        ({"ticks": 121}, "ticks"),
        ({"seed": -1}, "seed"),
        ({"policy": "no"}, "no"),
    ],
)
def test_wrong_arguments_are_named(plain_world: World, tmp_path: Path, changes: dict, message: str) -> None:
    arguments = {"policy": "two", "out": tmp_path / "none", **changes}
    with pytest.raises(UsageError, match=message):
        simulate("toy", **arguments)
    assert not (tmp_path / "none").exists()


def test_verbs_simulate_and_replay(plain_world: World, tmp_path: Path, capsys) -> None:
    assert cli.main(["simulate", "toy", "--policy", "two", "--days", "3", "--out", str(tmp_path)]) == 0
    assert "day03-journal.jsonl.gz" in capsys.readouterr().out
    path = str(tmp_path / "day03-journal.jsonl.gz")
    assert cli.main(["replay", path]) == 0
    assert "120 decisions replayed, all equal" in capsys.readouterr().out
    assert cli.main(["replay", path, "--policy", "three"]) == 1
    shown = capsys.readouterr().out
    assert "120 different" in shown
    assert "line 2, raw[0]: recorded 2.25, decided 3.25" in shown


def test_replay_warns_of_a_cut_journal_and_refuses_a_damaged_one(journal: Path, capsys) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-10])
    assert cli.main(["replay", str(journal)]) == 0
    shown = capsys.readouterr()
    assert "119 decisions replayed, all equal" in shown.out
    assert "warning: " in shown.err
    journal.write_bytes(whole.replace(b'"n":7,', b'"n":9,'))
    assert cli.main(["replay", str(journal)]) == 2
    assert "line 9" in capsys.readouterr().err


def test_missing_journal_exits_2(capsys) -> None:
    assert cli.main(["replay", "none.jsonl"]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_unknown_scenario_is_named() -> None:
    with pytest.raises(ProvisorError, match="scenario: expected one of"):
        simulate("nowhere", "two", choice=WorldChoice())


@pytest.mark.parametrize("name", ["steady", "diurnal", "burst", "flash-crowd", "spot-storm", "many-classes"])
def test_named_scenarios_run_on_their_test_days(name: str) -> None:
    done = simulate(name, "mpc", choice=WorldChoice(days=load_scenario(name).splits.test), ticks=6)
    assert [row.day for row in done.rows] == [5]
    assert done.rows[0].requests > 0
