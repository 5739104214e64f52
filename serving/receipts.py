"""Receipts of a live run: written at once, predictions as they come, and never a tick that waits for one.

A world model is not imported here but named, and runs in a process of its own at the lowest priority: its compiled code
takes seconds to load, and a decision has two milliseconds. At most one question is being answered; a tick that comes
meanwhile is said to have no prediction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.alternatives import Prediction, Question, question_of
from controller.arrays import ObservationArrays, empty_plan
from controller.compile import Setting
from controller.journal_writer import JournalWriter
from controller.loop import Decision, DecisionLoop
from controller.receipts import PREDICTION, RECEIPT, fields_of, receipt_of

_MOST_STARTS = 3
"""Times that the process is started: one that keeps dying is left alone."""

_END_TIMEOUT_S = 2.0

BUSY = "the prediction before was still being made, or had only just been"


class Predictor:
    """Asks a world model in another process, one question at a time.

    Args:
        world_model: `"module:callable"` that makes a world model of a setting.
        setting: What is decided for.
        answered: Called with every prediction, from another thread.
        rest: Of the time that an answer took, the process rests afterwards this many times as long: short ticks must
            not keep a core busy that replicas could use.
    """

    def __init__(
        self, world_model: str, setting: Setting, answered: Callable[[Prediction], None], rest: float = 1.0
    ) -> None:
        self.fault = ""
        self._rest = rest
        self._rested_s = 0.0  # when it has rested enough, by the monotonic clock
        self._told = pickle.dumps((world_model, setting))
        self._answered = answered
        self._questions: queue.Queue[Question | None] = queue.Queue(maxsize=1)
        self._is_free = threading.Event()
        self._is_free.set()
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="predictor", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> bool:
        """Takes a question unless another is being answered or the process is beyond help."""
        if self.fault or not self._is_free.is_set() or time.monotonic() < self._rested_s:
            return False
        self._is_free.clear()
        self._questions.put_nowait(question)
        return True

    def close(self) -> None:
        """Ends the process; a question that is being answered stays without an answer."""
        self._is_closed = True
        if self._is_free.is_set():
            self._questions.put_nowait(None)
        process = self._process
        if process is not None:
            process.kill()  # ends the wait for its answer, where there is one
        self._thread.join(_END_TIMEOUT_S)
        if process is not None:
            _end(process)

    def _serve(self) -> None:
        while (question := self._questions.get()) is not None:
            began_s = time.monotonic()
            try:
                answer = self._answer(question)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                answer = self._failed(question, error)
            ended_s = time.monotonic()
            self._rested_s = ended_s + self._rest * (ended_s - began_s)
            self._is_free.set()
            if self._is_closed:
                return
            self._answered(answer)

    def _answer(self, question: Question) -> Prediction:
        process = self._process
        if process is None:
            process = self._start()
        if self._is_closed:
            raise EOFError
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        pickle.dump(question, process.stdin)
        process.stdin.flush()
        answer: Prediction = pickle.load(process.stdout)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._starts += 1
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-P", "-m", "serving.receipt_process"]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._process = process
        assert process.stdin is not None
        process.stdin.write(self._told)
        process.stdin.flush()
        return process

    def _failed(self, question: Question, error: Exception) -> Prediction:
        process, self._process = self._process, None
        ended = ""
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its own exit code, where it is on its way out
                process.wait(_END_TIMEOUT_S)
            ended = f" (exit code {_end(process)})"
        text = f"the world model's process failed{ended}: {type(error).__name__}"
        if self._starts >= _MOST_STARTS:
            self.fault = text
        return Prediction(tick=question.tick, missing=text)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ends a process and closes its pipes; returns its exit code. May be called twice."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was still to be written has no reader any more
                pipe.close()
    return process.wait()


class Receipts:
    """Journals why each decision came out as it did.

    Args:
        setting: What is decided for.
        loops: Says whoever decides now, by name, `policy` and `rule`; each keeps its proposals once it was met here.
        world_model: As for `Predictor`; None: receipts have no predictions.
    """

    def __init__(
        self, setting: Setting, loops: Callable[[], Mapping[str, DecisionLoop]], world_model: str | None = None
    ) -> None:
        self._setting, self._named = setting, loops
        self._loops: dict[str, DecisionLoop] = {}
        self._meet()
        self._fault = ""
        self._journal: JournalWriter | None = None
        self._events: asyncio.AbstractEventLoop | None = None
        self._predictor = None if world_model is None else Predictor(world_model, setting, self._answered)
        self._asked = -1  # tick of the question whose answer is awaited
        self._counts = {"receipts": 0, "predictions": 0, "without_prediction": 0}

    def warm_up(self, observation: ObservationArrays) -> None:
        """Starts the world model's process before the run, which takes it some seconds; its answer is dropped."""
        if self._predictor is not None:
            self._predictor.ask(question_of(0, observation, empty_plan(1, self._setting.shape)))

    def write(self, journal: JournalWriter, observation: ObservationArrays, decision: Decision) -> None:
        """Journals the receipt of the tick written last, and asks what it will lead to; called once it is applied.

        Nothing that goes wrong here reaches the control loop.
        """
        try:
            self._explain(journal, observation, decision)
        except Exception as error:  # noqa: BLE001 - a user's policy may raise anything when it is asked to explain itself
            self._fault = f"{type(error).__name__}: {error}"[:200]

    def _explain(self, journal: JournalWriter, observation: ObservationArrays, decision: Decision) -> None:
        tick = journal.ticks - 1
        self._meet()
        who = self._driver(decision)
        loop = self._loops.get(who)
        journal.event(RECEIPT, fields_of(receipt_of(self._setting, observation, decision, tick, loop)))
        self._counts["receipts"] += 1
        if self._predictor is None:
            return
        self._journal, self._events = journal, asyncio.get_running_loop()
        others = {
            f"the {name}'s plan": one.proposed
            for name, one in self._loops.items()
            if name != who and one.proposed is not None and one.proposed_at == observation.tick[0]
        }
        if self._predictor.ask(question_of(tick, observation, decision.plan, others)):
            self._asked = tick
        else:
            self._write(Prediction(tick=tick, missing=self._predictor.fault or BUSY))

    def status(self) -> dict[str, Any]:
        """Counts, and what keeps predictions from being made."""
        return self._counts | {"fault": self._fault or (self._predictor.fault if self._predictor is not None else "")}

    def close(self) -> None:
        """Ends the world model's process; nothing is written afterwards."""
        self._journal = None
        if self._predictor is not None:
            self._predictor.close()

    def _meet(self) -> None:
        """Whoever decides now; one that took over just now has kept no proposal of this tick yet."""
        self._loops = dict(self._named())
        for loop in self._loops.values():
            if loop.proposed is None:
                loop.keep_proposals()

    def _driver(self, decision: Decision) -> str:
        """Name of the loop that made a decision: the one whose proposal it holds."""
        for name, loop in self._loops.items():
            if decision.proposed is not None and loop.proposed is decision.proposed:
                return name
        return ""

    def _answered(self, prediction: Prediction) -> None:
        if self._events is not None and not self._events.is_closed():
            self._events.call_soon_threadsafe(self._take, prediction)

    def _take(self, prediction: Prediction) -> None:
        """An answer, unless it is that of the warm-up."""
        if prediction.tick == self._asked:
            self._asked = -1
            self._write(prediction)

    def _write(self, prediction: Prediction) -> None:
        if self._journal is None:
            return
        self._journal.event(PREDICTION, fields_of(prediction))
        self._counts["without_prediction" if prediction.missing else "predictions"] += 1
