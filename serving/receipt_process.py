"""The process that predicts for a controller: pickled questions on standard input, predictions on standard output.

It is started by `serving.receipts` and ends with its standard input, so it never outlives a controller that was killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys

from controller.alternatives import Prediction, Question, WorldModelFactory, predict
from controller.compile import Setting
from controller.config import load_object

_NICENESS = 19


def _stand_back() -> None:
    """Takes a processor only where nobody else wants it: a late prediction is left out, a late request is missed."""
    os.nice(_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        # Ray's own workers are niced as well, so niceness alone would leave this process a good part of a core.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Serves until standard input ends."""
    _stand_back()
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    reference, setting = pickle.load(questions)
    make: WorldModelFactory = load_object(reference, "world_model")
    asked: Setting = setting
    model = make(asked)
    while True:
        try:
            question: Question = pickle.load(questions)
        except EOFError:
            return
        try:
            answer = predict(asked, model, question)
        except Exception as error:  # noqa: BLE001 - a model may refuse one state and predict the next
            answer = Prediction(tick=question.tick, missing=f"{type(error).__name__}: {error}"[:200])
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
