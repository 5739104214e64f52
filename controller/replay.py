"""Decides a journal again: the same observations, in order, through the same path, and every difference named.

The setting is rebuilt from the journal itself, so an edited catalog or scenario on disk changes nothing. Plan, actions
and shares must come out exactly; raw policy output may differ by what float arithmetic of another machine does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ActionArrays, PlanArrays
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.errors import PolicyFileError, mismatch
from controller.journal import Journal, JournalEvent, JournalHeader, JournalTick
from controller.loop import Decision
from controller.policies.registry import PolicySpec, plain_spec, written_out
from controller.scenario import MeasuredSpans, Scenario
from controller.trust.again import DecideAgain
from controller.trust.store import FOLDER, file_digest, policy_path

RAW_TOLERANCE = 1e-6
FILE_SUFFIXES = (".provisor", ".yaml", ".yml")
"""Endings by which `make_policy` takes a text for a file."""

_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """One array that came out differently."""

    line: int  # of the journal, from 1
    field: str
    index: tuple[int, ...]  # of the first entry that differs
    recorded: Any
    decided: Any

    def __str__(self) -> str:
        at = ", ".join(str(i) for i in self.index)
        return f"line {self.line}, {self.field}[{at}]: recorded {self.recorded!r}, decided {self.decided!r}"


@dataclass(frozen=True)
class Replay:
    """What deciding again came to."""

    ticks: int
    by_driver: Mapping[str, int]  # of those, whose decisions they are
    not_compared: int  # ticks of a rule that the journal does not name: written before journals did
    beside: int  # second decisions of a tick, compared too
    ticks_different: int
    differences: tuple[Difference, ...]  # the first few

    @property
    def is_equal(self) -> bool:
        """Whether every decision came out as recorded."""
        return self.ticks_different == 0


def make_header(
    setting: Setting,
    policy: str | PolicySpec,
    policy_name: str,
    seeds: tuple[int, ...],
    kind: str,
    world: dict[str, Any] | None = None,
    measured: MeasuredSpans | None = None,
) -> JournalHeader:
    """Header of a journal of decisions for a setting.

    Args:
        setting: What is decided for.
        policy: What `make_policy` was given.
        policy_name: Name in tables.
        seeds: Seeds of the run; empty for a live one.
        kind: `live` or `simulated`.
        world: Trace, day, scale and whatever else names the run.
        measured: Replica spans that a live run put in place of the catalog's.
    """
    return parse_config(
        {
            "kind": kind,
            "scenario": setting.scenario.model_dump(mode="json"),
            "catalog": setting.source.model_dump(mode="json"),
            "catalog_fingerprint": setting.source.fingerprint,
            "measured": None if measured is None else measured.model_dump(mode="json"),
            "policy": plain_spec(policy),
            "policy_sha256": policy_digest(policy),
            "policy_name": policy_name,
            "seeds": list(seeds),
            "shape": list(setting.shape),
            "world": world or {},
        },
        JournalHeader,
        "journal header",
    )


def policy_digest(policy: str | PolicySpec) -> str | None:
    """SHA-256 of the policy file that `policy` names; None where it names none."""
    path = policy_path(policy)
    return None if path is None else file_digest(path)


def setting_of(header: JournalHeader) -> Setting:
    """The setting a journal's decisions were made for, from the header alone."""
    scenario = parse_config(header.scenario, Scenario, "journal header, scenario")
    catalog = parse_config(header.catalog, Catalog, "journal header, catalog")
    return compile_scenario(scenario, catalog, header.measured)


def replay_journal(path: Path | str, policy: str | PolicySpec | None = None) -> Replay:
    """Decides every tick of a journal again.

    Args:
        path: The journal.
        policy: What to decide with at first; None: what the journal names. A policy file that moved is given here;
            what was pushed later is taken from beside the journal.

    Raises:
        JournalError: The journal is damaged; the line is named.
        PolicyFileError: The policy file is not the one that decided.
    """
    journal = Journal(path)
    header = journal.header
    if policy is None:
        policy = _recorded_policy(journal)
    again = DecideAgain(setting_of(header), journal.path.parent, policy)
    by_driver: Counter[str] = Counter()
    not_compared = beside = different = 0
    shown: list[Difference] = []
    for record in journal.records():
        if isinstance(record, JournalEvent):
            again.happened(record)
            continue
        tick = again.decide(record)
        by_driver[tick.driver] += 1
        not_compared += tick.decision is None
        found = [] if tick.decision is None else list(_differences(record, tick.decision))
        for name, raw, plan, decided in tick.beside:
            beside += 1
            found += _raw_and_plan(record.line, f"{name} beside: ", raw, plan, decided)
        different += bool(found)
        shown += found[: _SHOWN - len(shown)]
    return Replay(sum(by_driver.values()), dict(by_driver), not_compared, beside, different, tuple(shown))


def _recorded_policy(journal: Journal) -> str | PolicySpec:
    """What the header names; of a file that is no longer there, the copy that the run kept beside its journal."""
    header = journal.header
    recorded = header.policy
    policy = recorded if isinstance(recorded, str) else parse_config(recorded, PolicySpec, "journal header, policy")
    if header.policy_sha256 is None or policy_digest(policy) == header.policy_sha256:
        return policy
    named = policy_path(policy)
    kept = journal.path.parent / FOLDER / f"{header.policy_sha256}{'' if named is None else named.suffix}"
    if file_digest(kept) == header.policy_sha256:
        return written_out(str(policy)).replace(str(named), str(kept), 1)
    expected = f"the file that decided (sha256 {header.policy_sha256[:12]})"
    raise PolicyFileError(mismatch(f"{policy}", expected, policy_digest(policy)))


def _differences(tick: JournalTick, decision: Decision) -> Iterator[Difference]:
    yield from _raw_and_plan(tick.line, "", tick.raw, tick.plan, decision)
    for name, a, b in zip(ActionArrays._fields, tick.actions, decision.actions, strict=True):
        yield from _first(tick.line, f"actions.{name}", a, b, _unequal(a, b))
    yield from _first(tick.line, "shares", tick.shares, decision.shares, _unequal(tick.shares, decision.shares))


def _raw_and_plan(line: int, prefix: str, recorded: F64, plan: PlanArrays, decision: Decision) -> Iterator[Difference]:
    raw = np.asarray(decision.raw, np.float64)
    if raw.shape != recorded.shape:
        yield Difference(line, f"{prefix}raw.shape", (), recorded.shape, raw.shape)
    else:
        same = np.isclose(raw, recorded, rtol=RAW_TOLERANCE, atol=RAW_TOLERANCE, equal_nan=True)
        yield from _first(line, f"{prefix}raw", recorded, raw, ~same)
    for name, a, b in zip(PlanArrays._fields, plan, decision.plan, strict=True):
        yield from _first(line, f"{prefix}plan.{name}", a, b, _unequal(a, b))


def _unequal(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((a != b) & ~((a != a) & (b != b)))


def _first(
    line: int, field: str, recorded: NDArray[Any], decided: NDArray[Any], differs: NDArray[np.bool_]
) -> Iterator[Difference]:
    if differs.any():
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        yield Difference(line, field, at[1:], recorded[at].item(), decided[at].item())
