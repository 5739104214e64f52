"""Writes journals: tick by tick, with the events between them; a journal that a kill cut can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from pydantic import JsonValue

from controller.arrays import BILL_TERMS, F64, ActionArrays, ObservationArrays, PlanArrays
from controller.errors import mismatch
from controller.journal import (
    END,
    Journal,
    JournalError,
    JournalHeader,
    JournalTick,
    Place,
    open_journal,
    timings_path,
)
from controller.journal_codec import EmptyArrays, as_json, encode, encode_array, next_history
from controller.measurements import WindowMeasurements
from controller.plan import reason_texts

_BLOCK_BYTES = 1 << 16


class JournalWriter:
    """Writes a journal tick by tick; each line is handed to the system before `write` returns."""

    def __init__(
        self,
        path: Path | str,
        header: JournalHeader,
        env: int = 0,
        *,
        is_continuing: bool = False,
        after: Place | None = None,
    ) -> None:
        """Starts a journal, or goes on with one.

        Args:
            path: File to write, replaced if it exists; compressed where the name ends in `.gz`.
            header: First line.
            env: The env whose ticks are written.
            is_continuing: What is in the file stays, but for a last line that was cut; a file that is not there yet is
                begun.
            after: A place in the file that is known to be right; only what stands after it is read again.

        Raises:
            JournalError: The file cannot be written, or it is continued and is compressed, damaged or of another run.
        """
        self.path = Path(path)
        self._env = env
        self._empty = EmptyArrays(header.shape)
        self._history: F64 | None = None
        self._ticks = self._lines = 0
        is_continuing = is_continuing and self.path.exists()
        if is_continuing:
            self._lines, self._ticks = _read_again(self.path, header, after)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab") if is_continuing else open_journal(self.path, "wb")
            self._timings = timings_path(self.path).open("ab" if is_continuing else "wb")
        except OSError as error:
            raise JournalError(
                f"{path}: expected a file that can be written, got: {error.strerror or error}"
            ) from error
        if not is_continuing:
            self._record(header.model_dump(mode="json"))

    @property
    def ticks(self) -> int:
        """Ticks in the file so far."""
        return self._ticks

    @property
    def place(self) -> Place:
        """The end of the file, from which it can be read on later."""
        return Place(self._stream.tell(), self._lines, self._ticks, self._history)

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
        self._record(line)
        if timings_s is not None:
            self._line(self._timings, {"n": self._ticks, **timings_s})
        self._ticks += 1

    def event(self, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """Appends what happened after the last tick.

        Args:
            kind: Word that readers pick events by.
            fields: Values that JSON has words for.
        """
        self._record({"event": kind, "after": self._ticks, "fields": dict(fields)})

    def end(self, at_s: float, spend_usd: F64) -> None:
        """Appends what a live run spent since its last tick, by term, which no tick holds; `at_s` is when it ended."""
        by_term = dict(zip(BILL_TERMS, np.asarray(spend_usd).tolist(), strict=True))
        self.event(END, {"at_s": at_s, "spend_usd": by_term})

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

    def _record(self, value: Mapping[str, Any]) -> None:
        self._line(self._stream, value)
        self._lines += 1

    @staticmethod
    def _line(stream: IO[bytes], value: Mapping[str, Any]) -> None:
        stream.write(json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        stream.flush()


def _read_again(path: Path, header: JournalHeader, after: Place | None) -> tuple[int, int]:
    """Lines and ticks of a journal that is about to be continued; a cut last line is taken off the file."""
    if path.suffix == ".gz":
        raise JournalError(f"{path}: expected a plain file to continue, got a compressed one")
    _cut_to_whole_lines(path)
    journal = Journal(path)
    # Another version may take over a run; all else decides what the lines mean.
    for name, value in header.model_dump(mode="json", exclude={"versions"}).items():
        found = journal.header.model_dump(mode="json")[name]
        if found != value:
            raise JournalError(mismatch(f"{path}, line 1, {name}", "that of the run that goes on", found))
    lines, ticks = (1, 0) if after is None else (after.line, after.ticks)
    for record in journal.records(after):
        lines += 1
        ticks += isinstance(record, JournalTick)
    return lines, ticks


def _cut_to_whole_lines(path: Path) -> None:
    with path.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _BLOCK_BYTES)
            stream.seek(begin)
            found = stream.read(end - begin).rfind(b"\n")
            if found >= 0:
                stream.truncate(begin + found + 1)
                return
            end = begin
