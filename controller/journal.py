"""The journal of a run: every observation and every decision, line by line, so that the run can be decided again.

Two ideas are needed to read it. The first line holds what the decision path was built from (scenario, catalog, policy);
each further line is one tick of one env, or an event between two ticks. And arrays are stored as their difference from
the empty array of their kind, as `[[flat indices], [values]]`, which is short and exact: JSON gives every float back
bit by bit.

Wall-clock timings of the decisions lie beside the journal, never in it, so that equal simulated runs give equal
journals. What a live run measured of the world (`controller.measurements`) is in it; no decision reads that. Deciding
again is in `controller.replay`.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field, JsonValue

from controller.arrays import F64, ActionArrays, ObservationArrays, PlanArrays
from controller.config import StrictModel, parse_config, versions
from controller.errors import ConfigError, InputError, mismatch
from controller.journal_codec import EmptyArrays, decode, decode_array, next_history
from controller.measurements import WindowMeasurements, read_measurements
from controller.scenario import MeasuredSpans

SCHEMA: Final = 1

END = "end"
"""Kind of the event that closes a live run: `at_s`, and `spend_usd` by term since the last tick."""


class JournalError(InputError):
    """A journal is missing, damaged before its last line, or of another schema."""


class TruncatedJournalWarning(UserWarning):
    """The last line of a journal was cut, as a kill leaves it; the lines before it are whole."""


class JournalHeader(StrictModel):
    """First line of a journal: all that is needed to build the decision path again."""

    journal: Literal[1] = SCHEMA
    kind: Literal["live", "simulated"]
    scenario: dict[str, JsonValue] = Field(description="resolved, every default filled in")
    catalog: dict[str, JsonValue] = Field(description="the whole catalog, prices and calibrations included")
    catalog_fingerprint: str
    measured: MeasuredSpans | None = None
    policy: JsonValue = Field(description="what `make_policy` was given")
    policy_sha256: str | None = Field(default=None, description="of the policy file, where the policy is a file")
    policy_name: str
    seeds: tuple[int, ...]
    shape: tuple[int, int, int] = Field(description="(V, P, C)")
    world: dict[str, JsonValue] = Field(
        default_factory=dict, description="trace, day, scale and whatever else names the run"
    )
    versions: dict[str, str | None] = Field(default_factory=versions)


class JournalTick(NamedTuple):
    """One decision as it was journalled; arrays have an env axis of length 1."""

    line: int
    observation: ObservationArrays
    raw: F64  # (1, K)
    plan: PlanArrays
    actions: ActionArrays
    shares: F64  # (1, C, V, P)
    predicted: dict[str, float] | None
    measured: WindowMeasurements | None = None  # of a live run that measured; None in any other journal


class JournalEvent(NamedTuple):
    """What happened between two ticks: a change of mode, of the policy, of preferences, a receipt of a decision."""

    line: int
    after: int  # ticks journalled before it
    kind: str
    fields: dict[str, JsonValue]


class Place(NamedTuple):
    """A place between two lines of a journal, from which its records can be read on."""

    offset: int  # bytes before it, as they were written (before compression)
    line: int  # lines before it
    ticks: int  # ticks before it
    history: F64 | None  # (C, H) of the tick before it, which the next one may follow from; None: it stands by itself


def timings_path(journal: Path) -> Path:
    """The side file of a journal's wall-clock timings."""
    name = journal.name.removesuffix(".gz").removesuffix(".jsonl")
    return journal.with_name(f"{name}.timings.jsonl")


class Journal:
    """A journal that was written: its header at once, its ticks one by one."""

    def __init__(self, path: Path | str) -> None:
        """Opens a journal and reads its header.

        Raises:
            JournalError: No such file, or the first line is not the header of a journal of this schema.
        """
        self.path = Path(path)
        first = next(self._values(), None)
        if first is None:
            raise JournalError(f"{self.path}: expected a journal, got an empty file")
        if not isinstance(first[1], dict) or "journal" not in first[1]:
            raise JournalError(f"{self.path}, line 1: expected the header of a journal")
        if first[1]["journal"] != SCHEMA:
            raise JournalError(mismatch(f"{self.path}, line 1, journal", f"schema {SCHEMA}", first[1]["journal"]))
        try:
            self.header = parse_config(first[1], JournalHeader, f"{self.path}, line 1")
        except ConfigError as error:
            raise JournalError(str(error)) from error

    def ticks(self) -> Iterator[JournalTick]:
        """Every whole tick, in order; warns and raises as `records` does."""
        return (record for record in self.records() if isinstance(record, JournalTick))

    def events(self, kind: str | None = None) -> Iterator[JournalEvent]:
        """Every event, or those of one kind, in order; warns and raises as `records` does."""
        events = (record for record in self.records() if isinstance(record, JournalEvent))
        return (event for event in events if kind is None or event.kind == kind)

    def records(self, after: Place | None = None) -> Iterator[JournalTick | JournalEvent]:
        """Every whole tick and event, in order.

        Args:
            after: Only those that stand after this place.

        Warns:
            TruncatedJournalWarning: The last line was cut; it is left out.

        Raises:
            JournalError: A line is damaged, missing or out of order; it is named.
        """
        empty = EmptyArrays(self.header.shape)
        values = self._values(0 if after is None else after.offset, 0 if after is None else after.line)
        if after is None:
            next(values)  # the header
        history, count = (None, 0) if after is None else (after.history, after.ticks)
        for number, value in values:
            where = f"{self.path}, line {number}"
            try:
                if "event" in value:
                    yield JournalEvent(number, int(value["after"]), str(value["event"]), dict(value["fields"]))
                    continue
                if value["n"] != count:
                    raise JournalError(mismatch(f"{where}, n", f"tick {count}", value["n"]))
                tick, history = _read_tick(number, value, empty, history)
            except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                raise JournalError(f"{where}: expected a tick, got damaged fields ({error!r})") from error
            count += 1
            yield tick

    def _values(self, offset: int = 0, number: int = 0) -> Iterator[tuple[int, Any]]:
        """Line numbers and parsed lines, after the first `number` in `offset` bytes; a cut last one is left out."""
        try:
            stream = open_journal(self.path, "rb")
        except OSError as error:
            raise JournalError(f"{self.path}: expected a readable journal, got: {error.strerror or error}") from error
        with stream:
            stream.seek(offset)
            while True:
                number += 1
                where = f"{self.path}, line {number}"
                try:
                    line = stream.readline()
                except EOFError:
                    line = b"cut"  # the archive ends in the middle of a line, or its end mark was never written
                except (OSError, zlib.error) as error:
                    raise JournalError(f"{where}: expected compressed lines, got damaged bytes ({error})") from error
                if not line:
                    return
                try:
                    value = json.loads(line)
                except ValueError as error:
                    if line.endswith(b"\n"):
                        raise JournalError(f"{where}: expected JSON, got damaged text ({error})") from error
                    text = f"{self.path}: the file was cut in line {number}; it counts up to the line before"
                    warnings.warn(text, TruncatedJournalWarning, stacklevel=2)
                    return
                yield number, value


def open_journal(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    """A journal's bytes, compressed where the name ends in `.gz`."""
    if path.suffix != ".gz":
        return path.open(mode)
    # No time of writing in the archive: equal runs are equal byte by byte. Its `flush` ends a whole block.
    return cast("IO[bytes]", gzip.GzipFile(path, mode, compresslevel=6, mtime=0))


def _read_tick(
    number: int, value: Mapping[str, Any], empty: EmptyArrays, history: F64 | None
) -> tuple[JournalTick, F64]:
    seen = value["observation"]
    observation = decode(seen, empty.observation, skip=("history",))
    if "history" in seen:
        after = decode_array(seen["history"], empty.observation.history[0])
    else:
        rebuilt = next_history(history, observation, 0)
        if rebuilt is None:
            raise ValueError("no history on the first tick")
        after = rebuilt
    predicted, measured = value.get("predicted"), value.get("measured")
    num_options = empty.shares.shape[2] * empty.shares.shape[3]
    tick = JournalTick(
        line=number,
        observation=observation._replace(history=after[None].copy()),
        raw=np.array([[float(x) for x in value["raw"]]], np.float64),
        plan=decode(value["plan"], empty.plan),
        actions=decode(value["actions"], empty.actions),
        shares=decode_array(value["shares"], empty.shares),
        predicted=None if predicted is None else {name: float(x) for name, x in predicted.items()},
        measured=None if measured is None else read_measurements(measured, num_options),
    )
    return tick, after
