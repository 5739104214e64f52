"""The process that predicts for a controller: pickled questions on standard input, predictions on standard output.

It is started by `serving.receipts` and ends with its standard input, so it never outlives a controller that was killed.
"""

from __future__ import annotations

import os
import pickle
import sys

from controller.alternatives import Prediction, Question, WorldModelFactory, predict
from controller.compile import Setting
from controller.config import load_object

_NICENESS = 19
# Replicas and router come first: a prediction that is late is left out, a request that is late is missed.


def main() -> None:
    """Serves until standard input ends."""
    os.nice(_NICENESS)
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
