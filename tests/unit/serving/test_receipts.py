"""A live tick never waits for a prediction, and each is either predicted or said not to be."""

import asyncio
import contextlib
import queue

import numpy as np
import pytest

from controller.alternatives import question_of
from controller.arrays import empty_observation, empty_plan
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.loop import DecisionLoop
from controller.replay import make_header
from serving.receipts import BUSY, Predictor, Receipts
from tests.unit.serving.worlds import setting

MODEL = "tests.unit.serving.world_models:Counting"
WAIT_S = 240  # compiling takes long on a busy machine


class Fixed:
    """Plans a number of small on-demand replicas."""

    name = "fixed"

    def __init__(self, replicas):
        self._replicas = replicas

    def reset(self, num_envs):
        self._plan = empty_plan(num_envs, (2, 3, 2))

    def decide(self, observation):
        self._plan.replicas[:, 0, 0] = self._replicas
        return self._plan

    def explain(self, observation):
        return {"rate_now_rps": 2.0 * self._replicas}

    def raw_output(self):
        return np.zeros((1, 0))


def question(tick):
    of = setting()
    seen, plan = empty_observation(1, of.shape), empty_plan(1, of.shape)
    seen.tick[:] = tick
    plan.replicas[0, 0, 0] = 2
    return question_of(tick, seen, plan)


@pytest.fixture(scope="module")
def answers():
    return queue.Queue()


@pytest.fixture(scope="module")
def predictor(answers):
    made = Predictor(MODEL, setting(), answers.put, rest=0.0)
    yield made
    made.close()


def test_prediction_compares_the_plan_with_at_least_three_others(predictor, answers):
    assert predictor.ask(question(2))
    assert not predictor.ask(question(3))  # one at a time
    found = answers.get(timeout=WAIT_S)
    assert (found.tick, found.replications, found.missing) == (2, 4, "")
    assert found.expected[0].name == "chosen"
    assert found.expected[0].cost_usd == 2.0
    assert found.expected[0].accuracy is None  # the model could not say
    assert len(found.expected) >= 4
    assert len({tuple(sorted(one.replicas.items())) for one in found.expected}) == len(found.expected)


def test_state_that_the_model_refuses_is_named_and_the_next_one_predicted(predictor, answers):
    predictor.ask(question(7))
    assert answers.get(timeout=WAIT_S).missing == "ValueError: tick seven"
    predictor.ask(question(8))
    assert answers.get(timeout=WAIT_S).missing == ""


def test_model_that_dies_is_started_anew_and_then_left_alone(predictor, answers, monkeypatch):
    monkeypatch.setattr("serving.receipts._MOST_STARTS", 2)
    for is_beyond_help in (False, True):
        assert predictor.ask(question(13))
        assert "exit code 3" in answers.get(timeout=WAIT_S).missing
        assert bool(predictor.fault) == is_beyond_help
    assert not predictor.ask(question(2))


class Watched(JournalWriter):
    """Tells when a prediction is written."""

    def __init__(self, path, header):
        super().__init__(path, header)
        self.predicted = asyncio.Event()

    def event(self, kind, fields):
        super().event(kind, fields)
        if kind == "prediction" and "missing" not in fields:
            self.predicted.set()


def journalled(path, world_model, ticks):
    """Decisions of a policy and a rule behind it, with receipts; returns the status at the end."""
    of = setting()
    loops = {"policy": DecisionLoop(of, Fixed(5)), "rule": DecisionLoop(of, Fixed(1))}

    async def run():
        receipts = Receipts(of, lambda: loops, world_model)
        with Watched(path, make_header(of, "mpc", "mpc", (0,), "live")) as journal:
            seen = empty_observation(1, of.shape)
            for tick in range(ticks):
                seen.tick[0] = tick
                decision, _ = [loop.decide(seen) for loop in loops.values()]
                journal.write(seen, decision.raw, decision.plan, decision.actions, decision.shares)
                receipts.write(journal, seen, decision)
            if world_model is not None:
                await journal.predicted.wait()
            status = receipts.status()
            receipts.close()
        return status

    return asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_receipt_names_the_limit_that_changed_the_plan(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert journalled(path, None, 1)["receipts"] == 1
    (receipt,) = Journal(path).events("receipt")
    assert receipt.fields["tick"] == 0
    assert receipt.fields["driver"] == "policy"
    assert receipt.fields["forecast"]["rate_now_rps"] == 10.0
    assert receipt.fields["proposed"] == {"small@od": 5}
    (limited,) = receipt.fields["limited"]
    assert (limited["where"], limited["proposed"], limited["applied"]) == ("small@od", 5.0, 3.0)
    assert limited["limits"] == [{"name": "quota", "value": 3.0}]  # three machines of each pool


def test_every_tick_has_a_prediction_or_says_why_not(tmp_path):
    path = tmp_path / "journal.jsonl"
    status = journalled(path, MODEL, 3)
    assert (status["receipts"], status["predictions"], status["without_prediction"]) == (3, 1, 2)
    found = {event.fields["tick"]: event.fields for event in Journal(path).events("prediction")}
    assert found[1]["missing"] == found[2]["missing"] == BUSY
    plans = {one["name"]: one["replicas"] for one in found[0]["expected"]}
    assert plans["chosen"] == {"small@od": 3}
    assert plans["the rule's plan"] == {"small@od": 1}


def test_answer_to_the_warm_up_is_not_journalled(tmp_path):
    of = setting()
    loop = DecisionLoop(of, Fixed(2))

    async def run():
        receipts = Receipts(of, lambda: {"policy": loop}, MODEL)
        seen = empty_observation(1, of.shape)
        receipts.warm_up(seen)
        with Watched(tmp_path / "j.jsonl", make_header(of, "mpc", "mpc", (0,), "live")) as journal:
            # Busy with the warm-up, the process takes no question of tick 0, and its answer names that tick.
            tick = 0
            while not journal.predicted.is_set():
                seen.tick[0] = tick
                decision = loop.decide(seen)
                journal.write(seen, decision.raw, decision.plan, decision.actions, decision.shares)
                receipts.write(journal, seen, decision)
                tick += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(journal.predicted.wait(), 0.1)
            receipts.close()

    asyncio.run(asyncio.wait_for(run(), WAIT_S))
    told = [event.fields for event in Journal(tmp_path / "j.jsonl").events("prediction")]
    assert told[0] == {"tick": 0, "missing": BUSY}
    assert [fields["tick"] for fields in told if "missing" not in fields] != [0]


def test_policy_that_cannot_explain_itself_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Fixed, "explain", lambda self, observation: 1 / 0)
    status = journalled(tmp_path / "journal.jsonl", None, 2)
    assert status["fault"] == "ZeroDivisionError: division by zero"
    assert len(list(Journal(tmp_path / "journal.jsonl").ticks())) == 2


def test_process_rests_after_an_answer(answers):
    slow = Predictor(MODEL, setting(), answers.put, rest=1e6)
    try:
        assert slow.ask(question(2))
        answers.get(timeout=WAIT_S)
        assert not slow.ask(question(3))
    finally:
        slow.close()
