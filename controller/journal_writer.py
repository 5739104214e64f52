"""Writes journals: tick by tick, with the events between them; a journal that a kill cut can be continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from pydantic import JsonValue

from controller.arrays import F64, ActionArrays, ObservationArrays, PlanArrays
from controller.errors import mismatch
from controller.journal import Journal, JournalError, JournalHeader, JournalTick, open_journal, timings_path
from controller.journal_codec import EmptyArrays, as_json, encode, encode_array, next_history
from controller.measurements import WindowMeasurements
from controller.plan import reason_texts


class JournalWriter:
    """Writes a journal tick by tick; each line is handed to the system before `write` returns."""

    def __init__(self, path: Path | str, header: JournalHeader, env: int = 0, *, is_continuing: bool = False) -> None:
        """Starts a journal, or goes on with one.

        Args:
            path: File to write, replaced if it exists; compressed where the name ends in `.gz`.
            header: First line.
            env: The env whose ticks are written.
            is_continuing: What is in the file stays, but for a last line that was cut; a file that is not there yet is
                begun.

        Raises:
            JournalError: The file cannot be written, or it is continued and is compressed, damaged or of another run.
        """
        self.path = Path(path)
        self._env = env
        self._empty = EmptyArrays(header.shape)
        self._history: F64 | None = None
        self._ticks = 0
        is_continuing = is_continuing and self.path.exists()
        if is_continuing:
            self._ticks = _ticks_of(self.path, header)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab") if is_continuing else open_journal(self.path, "wb")
            self._timings = timings_path(self.path).open("ab" if is_continuing else "wb")
        except OSError as error:
            raise JournalError(
                f"{path}: expected a file that can be written, got: {error.strerror or error}"
            ) from error
        if not is_continuing:
            self._line(self._stream, header.model_dump(mode="json"))

    @property
    def ticks(self) -> int:
        """Ticks in the file so far."""
        return self._ticks

    def write(
        self,
        observation: ObservationArrays,
        raw: F64,
        plan: PlanArrays,
        actions: ActionArrays,
        shares: F64,
        predicted: Mapping[str, float] | None = None,
        timings_s: Mapping[str, float] | None = None,
        measured: WindowMeasurements | None = None,
    ) -> None:
        """Appends one tick.

        Args:
            observation: What was seen; arrays of N envs, of which the writer's env is kept. Likewise below.
            raw: Raw policy output, (N, K).
            plan: Plan after the guard.
            actions: Actions towards it.
            shares: Shares of traffic, (N, C, V, P).
            predicted: What the decision is expected to lead to, by name.
            timings_s: Wall-clock seconds by name, for the side file.
            measured: What a live run measured in the window observed; a simulated run has nothing to measure.
        """
        env = self._env
        line: dict[str, Any] = {"n": self._ticks, "observation": self._observation(observation)}
        line["raw"] = [as_json(x) for x in raw[env].tolist()]
        line["plan"] = encode(plan, env, self._empty.plan)
        line["actions"] = encode(actions, env, self._empty.actions)
        line["shares"] = encode_array(shares[env], np.zeros_like(shares[env]))
        line["reasons"] = reason_texts(int(plan.reasons[env]))
        if predicted is not None:
            line["predicted"] = {name: as_json(float(value)) for name, value in predicted.items()}
        if measured is not None:
            line["measured"] = measured.as_json()
        self._line(self._stream, line)
        if timings_s is not None:
            self._line(self._timings, {"n": self._ticks, **timings_s})
        self._ticks += 1

    def event(self, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """Appends what happened after the last tick.

        Args:
            kind: Word that readers pick events by.
            fields: Values that JSON has words for.
        """
        self._line(self._stream, {"event": kind, "after": self._ticks, "fields": dict(fields)})

    def close(self) -> None:
        """Ends both files; may be called twice."""
        self._stream.close()
        self._timings.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _observation(self, observation: ObservationArrays) -> dict[str, Any]:
        """The observation without its history where that follows from the arrivals written so far."""
        encoded = encode(observation, self._env, self._empty.observation)
        encoded.pop("history", None)
        actual = np.asarray(observation.history[self._env], np.float64)
        expected = next_history(self._history, observation, self._env)
        if expected is None or not np.array_equal(expected, actual):
            # First tick, or a tick was not journalled: the reader cannot rebuild it.
            encoded["history"] = encode_array(actual, np.zeros_like(actual)) or [[], []]
        self._history = actual.copy()
        return encoded

    @staticmethod
    def _line(stream: IO[bytes], value: Mapping[str, Any]) -> None:
        stream.write(json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        stream.flush()


def _ticks_of(path: Path, header: JournalHeader) -> int:
    """Ticks in a journal that is about to be continued; a cut last line is taken off the file."""
    if path.suffix == ".gz":
        raise JournalError(f"{path}: expected a plain file to continue, got a compressed one")
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(whole.rfind(b"\n") + 1)
    journal = Journal(path)
    # Another version may take over a run; all else decides what the lines mean.
    for name, value in header.model_dump(mode="json", exclude={"versions"}).items():
        found = journal.header.model_dump(mode="json")[name]
        if found != value:
            raise JournalError(mismatch(f"{path}, line 1, {name}", "that of the run that goes on", found))
    return sum(isinstance(record, JournalTick) for record in journal.records())
