"""Decides a journal again: the same observations, in order, through the same path, and every difference named.

The setting is rebuilt from the journal itself, so an edited catalog or scenario on disk changes nothing. Plan, actions
and shares must come out exactly; raw policy output may differ by what float arithmetic of another machine does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64
from controller.catalog import Catalog
from controller.compile import Setting, at_speed, compile_scenario
from controller.config import parse_config
from controller.errors import PolicyFileError, mismatch
from controller.journal import Journal, JournalHeader, JournalTick, MeasuredSpans
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason
from controller.policies.registry import PolicySpec, make_policy
from controller.scenario import Scenario

RAW_TOLERANCE = 1e-6
FILE_SUFFIXES = (".provisor", ".yaml", ".yml")
"""Endings by which `make_policy` takes a text for a file."""

_SHOWN = 10


@runtime_checkable
class RawReplayable(Protocol):
    """A policy whose plan can be made from a recorded raw output.

    Another machine's float arithmetic gives raw output that is equal within a tolerance only, and a plan rounds it. So
    the plan is decided from the recorded output, and the policy's own is compared with it.
    """

    def force_raw(self, raw: F64) -> None:
        """The next `decide` uses `raw` (N, K) instead of what the policy computes, which `raw_output` still returns."""


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
    ticks_on_rule: int  # decided by the fallback rule when the policy failed: shown, not compared
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
            "policy": policy if isinstance(policy, str) else policy.model_dump(mode="json"),
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
    if not isinstance(policy, str) or not policy.endswith(FILE_SUFFIXES):
        return None
    try:
        return hashlib.sha256(Path(policy).read_bytes()).hexdigest()
    except OSError:
        return None


def setting_of(header: JournalHeader) -> Setting:
    """The setting a journal's decisions were made for, from the header alone."""
    scenario = parse_config(header.scenario, Scenario, "journal header, scenario")
    catalog = parse_config(header.catalog, Catalog, "journal header, catalog")
    setting = compile_scenario(scenario, catalog)
    if header.measured is None:
        return setting
    spans = header.measured
    return replace(setting, catalog=at_speed(setting.catalog, scenario.speed, spans.start_s, spans.swap_s))


def replay_journal(path: Path | str, policy: str | PolicySpec | None = None) -> Replay:
    """Decides every tick of a journal again.

    Args:
        path: The journal.
        policy: What to decide with; None: what the header names. A policy file that moved is given here.

    Raises:
        JournalError: The journal is damaged; the line is named.
        PolicyFileError: The policy file is not the one that decided.
    """
    journal = Journal(path)
    header = journal.header
    if policy is None:
        recorded = header.policy
        policy = recorded if isinstance(recorded, str) else parse_config(recorded, PolicySpec, "journal header, policy")
        if header.policy_sha256 is not None and policy_digest(policy) != header.policy_sha256:
            raise PolicyFileError(
                mismatch(
                    f"{policy}", f"the file that decided (sha256 {header.policy_sha256[:12]})", policy_digest(policy)
                )
            )
    setting = setting_of(header)
    made = make_policy(policy, setting)
    loop = DecisionLoop(setting, made, 1)
    ticks = on_rule = different = 0
    shown: list[Difference] = []
    for tick in journal.ticks():
        if isinstance(made, RawReplayable):
            made.force_raw(tick.raw)
        decision = loop.decide(tick.observation)
        ticks += 1
        if tick.plan.reasons[0] & Reason.FALLBACK_RULE:
            on_rule += 1
            continue
        found = list(_differences(tick, decision))
        different += bool(found)
        shown += found[: _SHOWN - len(shown)]
    return Replay(ticks, on_rule, different, tuple(shown))


def _differences(tick: JournalTick, decision: Decision) -> Iterator[Difference]:
    raw = np.asarray(decision.raw, np.float64)
    if raw.shape != tick.raw.shape:
        yield Difference(tick.line, "raw.shape", (), tick.raw.shape, raw.shape)
    else:
        same = np.isclose(raw, tick.raw, rtol=RAW_TOLERANCE, atol=RAW_TOLERANCE, equal_nan=True)
        yield from _first(tick.line, "raw", tick.raw, raw, ~same)
    for kind, recorded, decided in (("plan", tick.plan, decision.plan), ("actions", tick.actions, decision.actions)):
        for name, a, b in zip(recorded._fields, recorded, decided, strict=True):
            yield from _first(tick.line, f"{kind}.{name}", a, b, _unequal(a, b))
    yield from _first(tick.line, "shares", tick.shares, decision.shares, _unequal(tick.shares, decision.shares))


def _unequal(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((a != b) & ~((a != a) & (b != b)))


def _first(
    line: int, field: str, recorded: NDArray[Any], decided: NDArray[Any], differs: NDArray[np.bool_]
) -> Iterator[Difference]:
    if differs.any():
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        yield Difference(line, field, at[1:], recorded[at].item(), decided[at].item())
