"""Everyone's figures come from the same code: fates of requests, cost, flaps; who is missing is told."""

import json
from itertools import pairwise

import numpy as np
import pytest

from controller.errors import RunError
from controller.flaps import flap_index
from controller.policies.registry import GENERALIST
from experiments import live_process
from experiments.compared_run import ComparedRun, Stretch, measured, native_run, our_run
from experiments.evidence_files import Artefacts
from experiments.live_compare import (
    ANY,
    LEARNED,
    NATIVE,
    RULE,
    Compared,
    CompareOptions,
    compare,
    contenders,
    serve_words,
)
from experiments.live_process import run_to_end
from experiments.live_requests import Requests, read_requests, write_requests
from experiments.live_study import LiveStudy, checks_of, run_study
from experiments.replica_log import ReplicaLog
from experiments.show_compare import cells_of, compare_checks, spread
from serving.load import LoadRecord, Schedule
from tests.evidence_artefacts import put_policy

NAN = float("nan")


def requests(*fates, at_s=30.0):
    """Fates as (class, status, latency) of requests at one time."""
    c, status, latency_s = zip(*fates, strict=True)
    times = np.full(len(c), at_s), np.full(len(c), 0.002)
    return Requests(times[0], np.array(c), np.array(status), np.array(latency_s, float), times[1])


# The strict class has 1.5 s, the relaxed one 10 s.
FATES = requests((0, 200, 1.0), (0, 200, 1.6), (1, 200, 1.6), (1, 504, NAN), (1, 503, NAN), (0, 500, NAN), (0, 0, NAN))


def test_late_refused_and_timed_out_requests_are_missed_and_only_unexplained_failures_are_lost():
    slo_s = np.array([1.5, 10.0])
    assert FATES.is_missed(slo_s).tolist() == [False, True, False, True, True, True, True]
    assert FATES.is_lost.tolist() == [False, False, False, False, False, True, True]


def test_latencies_are_of_answers_late_ones_included():
    assert FATES.latency_quantiles_s((0.0, 0.5, 1.0)) == (1.0, 1.6, 1.6)
    assert requests((0, 504, NAN)).latency_quantiles_s((0.5,)) == (None,)


def test_requests_that_warmed_up_do_not_count_and_the_rest_is_read_back(tmp_path):
    schedule = Schedule(np.array([-1.0, 1.0, 2.0]), np.array([0, 1, 0]), np.array([9, 0, 1]))
    record = LoadRecord(
        np.array([-1.0, 1.25, NAN]), np.array([0.1, 0.2, NAN]), np.array([200, 200, -1]), ("", "", ""), np.zeros(3)
    )
    found = Requests.of(schedule, record, skipped=1)
    write_requests(found, tmp_path)
    again = read_requests(tmp_path)
    assert again.arrival_s.tolist() == [1.0, 2.0]
    assert again.request_class.tolist() == [1, 0]
    assert again.late_s[0] == 0.25
    assert np.isnan(again.late_s[1])
    assert again.is_missed(np.array([1.5, 10.0])).tolist() == [False, True]
    assert not again.is_lost.any()
    with pytest.raises(RunError, match="the requests of a replay"):
        read_requests(tmp_path / "none")


def test_figures_of_a_run():
    counts = np.array([2, 3, 2, 2]).reshape(-1, 1, 1)
    stretch = Stretch(duration_s=120)
    run = measured(FATES, stretch, stretch.setting, 4, 0.25, flap_index(counts, 600.0))
    assert (run.requests, run.missed, run.lost, run.seed) == (7, 5, 2, 4)
    assert run.attainment == pytest.approx(2 / 7)
    assert run.attainment_by_class == pytest.approx({"strict": 1 / 4, "relaxed": 1 / 3})
    assert run.usd_per_hour == pytest.approx(0.25 / 0.5)  # half an hour of the trace
    assert (run.p50_s, run.late_ms_p99) == pytest.approx((1.6, 2.0))
    assert (run.changes_per_hour, run.flaps_per_hour) == pytest.approx((4.0, 2.0))


def test_first_quarter_counts_for_nobody_but_its_losses_do():
    stretch = Stretch(duration_s=120.0)
    assert stretch.span(stretch.setting.control.tick_s) == (60, 240)  # ticks of half a second
    flaps = flap_index(np.zeros((2, 1, 1), np.int64), 10.0)
    run = measured(requests((0, 500, NAN), (0, 200, 1.0), at_s=29.9), stretch, stretch.setting, 0, 0.25, flaps)
    assert (run.requests, run.missed, run.attainment, run.lost) == (0, 0, 1.0, 1)
    assert run.p99_s is None


def test_native_run_is_billed_at_the_speed_of_the_trace(tmp_path):
    write_requests(FATES, tmp_path)
    log = ReplicaLog()
    for at_s, replicas in ((-1.0, ("a", "b")), (18.0, ("a", "b", "c")), (40.0, ("a", "b", "c"))):
        log.saw(at_s, dict.fromkeys(replicas, "RUNNING"))
    log.write(tmp_path)
    run = native_run(tmp_path, Stretch(duration_s=36.0), 0)
    # From second 9 on two all the time and one from second 18 on, on machines of 0.085 $/h; time is 20 times as fast.
    assert run.cost_usd == pytest.approx((27 + 27 + 18) * 20 * 0.085 / 3600)
    assert run.usd_per_hour == pytest.approx((27 + 27 + 18) / 27 * 0.085)
    assert run.changes_per_hour == pytest.approx(1 / 0.15)
    assert run.flaps_per_hour == 0.0
    assert (run.accuracy, run.rule_share) == (0.974, None)


def test_run_that_left_nothing_is_told(tmp_path):
    with pytest.raises(RunError, match="the requests of a replay"):
        our_run(tmp_path, Stretch(), 0)


def test_everyone_is_asked_for_the_same_stretch(tmp_path):
    asked = Stretch(duration_s=60.0, start_hour=7.0).asked(3)
    words = serve_words(tmp_path / "p.provisor", tmp_path / "mpc.yaml", asked, tmp_path)
    told = dict(pairwise(words))
    expected = {
        "--scenario": Stretch().scenario,
        "--duration": "60",
        "--speed": "1",
        "--start-hour": "7",
        "--seed": "3",
    }
    assert {name: told[name] for name in expected} == expected
    assert told["--policy"].endswith("p.provisor")
    assert told["--rule"].endswith("mpc.yaml")  # what drives after an alarm is tuned too
    assert words.count("--model") == 3


def test_policy_that_is_not_shipped_is_a_row_that_says_missing(tmp_path):
    found = contenders(CompareOptions(rule=tmp_path / "no.yaml"), Artefacts(tmp_path))
    assert [one.name for one in found] == [LEARNED, ANY, RULE, NATIVE]
    assert all(one.missing.startswith("missing: ") for one in found)
    here = tmp_path / "mine.provisor"
    here.touch()
    (learned, for_any, *_) = contenders(CompareOptions(learned=here, generalist=here), Artefacts(tmp_path))
    assert [(one.file, one.missing) for one in (learned, for_any)] == [(here, "")] * 2


def test_rows_are_of_the_policy_learned_there_and_of_the_one_for_any_catalog(tmp_path):
    for learner in ("side-by-side", GENERALIST):
        put_policy(Artefacts(tmp_path), learner, 0, scenario="tiny")
    (learned, for_any, *_) = contenders(CompareOptions(), Artefacts(tmp_path))
    assert learned.file == tmp_path / "policies" / "side-by-side" / "policy-seed-0.provisor"
    assert for_any.file == tmp_path / "policies" / GENERALIST / "policy-seed-0.provisor"


def test_comparison_without_any_file_starts_nothing_and_falls_short(tmp_path):
    nothing = tmp_path / "no.yaml"
    asked = CompareOptions(learned=nothing, generalist=nothing, rule=nothing, native=nothing)
    rows = compare(asked, tmp_path / "out", lambda _: None)
    assert [row.runs for row in rows] == [()] * 4
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["problem"].split(":")[0] for row in written["rows"]] == ["missing"] * 4
    assert not any(check.holds for check in compare_checks(rows))
    study = run_study(tmp_path / "study", lambda _: None, ["compare"], asked)
    assert (study.faults, study.parity, len(checks_of(study))) == ((), None, 4)


def compared(**changed):
    base = ComparedRun(
        seed=0,
        cost_usd=0.1,
        usd_per_hour=0.2,
        attainment=0.5,
        attainment_by_class={"strict": 0.25, "relaxed": 0.75},
        p50_s=0.3,
        p99_s=2.0,
        changes_per_hour=4.0,
        flaps_per_hour=1.0,
        requests=100,
        missed=50,
        lost=0,
        late_ms_p99=5.0,
    )
    return ComparedRun(**{**vars(base), **changed})


def test_any_loss_falls_short_and_any_attainment_holds():
    rows = (Compared("a", (compared(attainment=0.0),)), Compared("b", (compared(), compared(lost=1))))
    assert [check.holds for check in checks_of(LiveStudy((), None, None, rows))] == [True, False]
    assert "1 lost, 200 requests" in compare_checks(rows)[1].measured


def test_a_run_that_the_rule_drove_says_nothing_of_its_policy():
    rows = [Compared("a", (compared(rule_share=share),)) for share in (None, 0.05, 0.06)]
    assert [check.holds for check in compare_checks(rows)] == [True, True, False]
    assert "rule drove 6 %" in compare_checks(rows)[2].measured


def test_repetitions_are_shown_as_mean_and_spread():
    assert spread([1.0, 2.0, 6.0], ".1f") == "3.0 (1.0..6.0)"
    assert spread([1.0], ".2f") == "1.00"
    assert spread([1.0, None], ".2f") == "-"
    cells = cells_of(Compared("a", (compared(cost_usd=0.1), compared(cost_usd=0.3))), ["strict"])
    assert cells[:2] == ["a", "0.2000 (0.1000..0.3000)"]
    assert cells[4].startswith("25.00")
    assert cells_of(Compared("b", (), "missing: x"), ["strict"]) == ["b", "missing: x"]


def test_command_that_fails_or_does_not_end_is_told_with_its_last_words(tmp_path, monkeypatch):
    # Where these tests run in the background, what they start ignores Ctrl-C.
    monkeypatch.setattr(live_process, "_STOP_TIMEOUT_S", 0.5)
    run_to_end(["true"], tmp_path / "log", 10.0)
    with pytest.raises(RunError, match=r"status 3; its last words:\ngone"):
        run_to_end(["sh", "-c", "echo gone; exit 3"], tmp_path / "log", 10.0)
    with pytest.raises(RunError, match="within 0 s"):
        run_to_end(["sleep", "60"], tmp_path / "log", 0.0)
