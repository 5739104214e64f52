"""Why a plan came out as it did is told from the journal alone, also while it is written and after a kill."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.arrays import COMPUTE, empty_actions, empty_observation, empty_plan
from controller.errors import UsageError
from controller.journal import Journal, TruncatedJournalWarning
from controller.journal_writer import JournalWriter
from controller.plan import Reason
from controller.replay import make_header
from controller.why import tell
from controller.why_text import as_text, as_values
from tests.tiny import MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, tiny_setting

GOLDEN = Path(__file__).parents[2] / "golden" / "why.txt"

RECEIPT = {
    "tick": 1,
    "driver": "policy",
    "forecast": {"need_rps": 62.5, "rate_now_rps": 50.0, "largest_rate_rps q90": 61.25},
    "proposed": {"small@od": 2, "medium@spot-a": 6},
    "limited": [
        {
            "lever": "replicas",
            "where": "medium@spot-a",
            "proposed": 6.0,
            "applied": 4.0,
            "limits": [{"name": "pools.max", "value": 4.0}],
        }
    ],
    "num_limited": 1,
}


def expected(name: str, cost_usd: float, replicas: dict[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "replicas": replicas,
        "cost_usd": cost_usd,
        "cost_usd_error": 0.001,
        "attainment": 0.995,
        "attainment_error": 0.002,
        "accuracy": 0.745,
        "accuracy_error": None,
    }


PREDICTION = {
    "tick": 1,
    "horizon_s": 300.0,
    "replications": 16,
    "expected": [
        expected("chosen", 0.1, {"small@od": 2, "medium@spot-a": 4}),
        expected("as it stands", 0.08, {"small@od": 2}),
        expected("one less of small@od", 0.07, {"small@od": 1, "medium@spot-a": 4}),
        expected("one more of small@spot-a", 0.109, {"small@od": 2, "small@spot-a": 1, "medium@spot-a": 4}),
    ],
}


def written(path: Path, *, is_closed: bool = True) -> JournalWriter:
    """Three ticks: quiet, then busier with a limit, then the machines are there."""
    setting = tiny_setting()
    journal = JournalWriter(path, make_header(setting, "mpc", "mpc", (0,), "simulated"))
    journal.event("mode", {"to": "active", "reason": "promoted after 1 h of shadow"})
    for tick, (arrivals, spot) in enumerate((((0, 0), 0), ((260, 290), 0), ((250, 250), 4))):
        seen, plan = empty_observation(1, setting.shape), empty_plan(1, setting.shape)
        actions = empty_actions(1, setting.shape)
        seen.tick[0], seen.time_s[0] = tick, 10.0 * tick
        seen.arrivals[0] = arrivals
        seen.history[0, :, 0], seen.history[0, :, 1] = (260, 290) if tick else (0, 0), (250, 250) if tick > 1 else 0
        seen.missed[0, STRICT], seen.waiting[0, RELAXED] = (5, 12) if tick == 1 else (0, 0)
        seen.latency[0, :, 72] = arrivals
        seen.ready[0, SMALL, OD] = 2
        seen.ready[0, MEDIUM, SPOT_A] = spot
        seen.spend_usd[0, COMPUTE] = 0.002
        plan.replicas[0, SMALL, OD] = 2
        plan.replicas[0, MEDIUM, SPOT_A] = 4 if tick else 0
        plan.need_rps[0] = 62.5
        plan.reasons[0] = int(Reason.FOLLOW_DEMAND | (Reason.POOL_MAX if tick == 1 else Reason(0)))
        actions.launch[0, MEDIUM, SPOT_A] = 4 if tick == 1 else 0
        journal.write(seen, np.zeros((1, 0)), plan, actions, np.zeros((1, 2, 3, 4)))
        if tick == 1:
            journal.event("receipt", RECEIPT)
            journal.event("preferences", {"miss_multiplier": 2.0})
    journal.event("prediction", PREDICTION)
    if is_closed:
        journal.close()
    return journal


def test_story_reads_as_the_stored_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    written(tmp_path / "j.jsonl")
    journal = Journal(tmp_path / "j.jsonl")
    text = as_text(tell(journal, tick=1), journal.header) + "\n"
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_prediction_that_came_after_later_ticks_belongs_to_its_own(tmp_path: Path) -> None:
    written(tmp_path / "j.jsonl")
    story = tell(Journal(tmp_path / "j.jsonl"), tick=1)
    assert story.prediction is not None
    assert [one.name for one in story.prediction.expected][:2] == ["chosen", "as it stands"]
    last = tell(Journal(tmp_path / "j.jsonl"))
    assert (last.tick, last.prediction, last.receipt) == (2, None, None)


def test_time_picks_the_decision_in_force(tmp_path: Path) -> None:
    written(tmp_path / "j.jsonl")
    journal = Journal(tmp_path / "j.jsonl")
    assert [tell(journal, at_s=at_s).tick for at_s in (0.0, 9.9, 10.0, 19.0, 20.0, 30.0)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("at_s", [-1.0, 30.5])
def test_time_outside_the_journal_is_refused_with_what_it_covers(tmp_path: Path, at_s: float) -> None:
    written(tmp_path / "j.jsonl")
    with pytest.raises(UsageError, match=r"--at: expected seconds of the run, 0..30, got"):
        tell(Journal(tmp_path / "j.jsonl"), at_s=at_s)
    with pytest.raises(UsageError, match=r"--tick: expected 0..2, got 3"):
        tell(Journal(tmp_path / "j.jsonl"), tick=3)


def test_events_of_any_kind_are_told_by_their_fields(tmp_path: Path) -> None:
    written(tmp_path / "j.jsonl")
    story = tell(Journal(tmp_path / "j.jsonl"))
    assert story.earlier["mode"].fields["to"] == "active"
    assert story.earlier["preferences"].after == 2
    text = as_text(story, Journal(tmp_path / "j.jsonl").header)
    assert "Who may drive last changed at tick 0: mode: to active, reason promoted after 1 h of shadow." in text
    assert "Events of this tick:\n  preferences: miss_multiplier 2.0" in text


def test_driver_is_the_one_that_the_last_event_names(tmp_path: Path) -> None:
    journal = written(tmp_path / "j.jsonl", is_closed=False)
    journal.event(
        "drive", {"driver": "rule", "from": "policy", "reason": "slo_burn: 14 times too fast", "band": {"a": 1}}
    )
    journal.close()
    story = tell(Journal(tmp_path / "j.jsonl"))
    assert story.driver == "policy"  # the event stands before the line of a tick that is not there yet
    assert [event.kind for event in story.since] == ["drive"]
    text = as_text(story, Journal(tmp_path / "j.jsonl").header)
    assert "drive: driver rule, from policy, reason slo_burn: 14 times too fast, band {a}" in text


def test_journal_that_is_still_written_and_one_that_was_cut_are_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = written(path, is_closed=False)
    assert tell(Journal(path)).tick == 2
    journal.close()
    path.write_bytes(path.read_bytes()[:-40])  # in the middle of the prediction
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedJournalWarning)
        story = tell(Journal(path), tick=1)
    assert story.prediction is None
    assert story.receipt is not None


def test_values_for_programs_are_json(tmp_path: Path) -> None:
    written(tmp_path / "j.jsonl")
    values = json.loads(json.dumps(as_values(tell(Journal(tmp_path / "j.jsonl"), tick=1)), allow_nan=False))
    assert values["planned"] == {"small@od": 2, "medium@spot-a": 4}
    assert values["seen"]["rate_rps"] == 55.0
    assert values["receipt"]["limited"][0]["limits"] == [{"name": "pools.max", "value": 4.0}]


def test_money_is_per_hour_of_control_time(tmp_path: Path) -> None:
    # 0.002 $ in a tick of 10 s of control time.
    written(tmp_path / "j.jsonl")
    assert tell(Journal(tmp_path / "j.jsonl")).seen.usd_per_hour == pytest.approx(0.72)
