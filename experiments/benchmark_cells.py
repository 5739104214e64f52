"""One cell of a benchmark: a policy at one point of its dials, on the days of one world, under one random seed.

A cell is plain data, and what it comes to depends on it and on the program's sources alone: the same in any process, on
any machine of a cluster, beside any other cells. Its key names all of that, so a finished cell is never computed twice
and one of another scenario, policy or source is never taken for it.

A cell is *watched* tick by tick, or only its totals are wanted: then a compiled policy runs whole days in one call,
five times faster. Watched policy files have the rails of a live run, the rule behind them included
(`experiments.railed`); else both give the same totals.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, SERVERLESS, Bool, ObservationArrays
from controller.compile import Setting
from controller.config import StrictModel
from controller.loop import Decision
from controller.policies.registry import PolicySpec, policy_file, read_spec, settings_model
from controller.ports import Policy
from controller.scenario import DayRange, GeneratedTrace, load_scenario
from envs.world import Cell, World, WorldChoice, build_world
from experiments.benchmark_config import OWN, PRESET
from experiments.clairvoyant import policy_in
from experiments.railed import RailedLoop, has_rails
from experiments.results import Tally, floor_breaches
from experiments.rollout import Recorder, Timer, batches, begin, new_simulator, prepare, roll
from experiments.run_config import PolicyChoice
from experiments.suite import Split, suite_world
from experiments.world_ref import ALL_TRACES

if TYPE_CHECKING:
    from envs.kernels.state import TotalArrays

_SOURCE_PACKAGES = ("controller", "envs", "traces")
_SOURCE_MODULES = (
    "benchmark_cells.py",
    "clairvoyant.py",
    "forecast_samples.py",
    "railed.py",
    "results.py",
    "rollout.py",
    "suite.py",
)


class WorldSource(StrictModel):
    """Names a world; whoever needs it builds it."""

    scenario: str
    trace: str = OWN
    split: Split = "test"
    days: DayRange | None = None
    most_days: int | None = None
    rate: float = 1.0

    def open(self) -> World:
        """The world; built once per process.

        Raises:
            ProvisorError: A scenario, file or range of days is wrong.
        """
        return _world(self)


class DayResult(StrictModel):
    """What one day came to; by class in the order of the scenario's classes. None: the cell was not watched."""

    day: int
    cost_usd: float
    requests: tuple[int, ...]
    missed: tuple[int, ...]
    answered: tuple[int, ...]
    accuracy_sum: tuple[float, ...]
    floor_breaches: int
    shed: int
    preemptions: int
    flaps: int | None
    capacity_changes: int | None = Field(description="changes of the planned replicas of a variant on a machine pool")
    ruled_ticks: int | None
    ticks: int


class CellResult(StrictModel):
    """What a cell came to. The times are those of the machine at hand; all else is the same anywhere."""

    days: tuple[DayResult, ...]
    decide_ms_p99: float | None
    wall_s: float


class BenchmarkCell(StrictModel):
    """What is run: see the module."""

    world: WorldSource
    policy: PolicyChoice
    seed: int
    hours: float | None = None
    is_watched: bool = Field(default=True, description="changes of plans and times to decide are noted, at their cost")
    floor_offset: float = Field(
        default=0.0, description="added to the accuracy floors that the policy is asked to keep"
    )


class _Changes:
    """Counts changes of the planned replicas on machines, by env."""

    def __init__(self, setting: Setting, num_envs: int) -> None:
        self.count: I64 = np.zeros(num_envs, np.int64)
        self._machine: Bool = setting.catalog.market != SERVERLESS
        self._replicas: I64 | None = None

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        replicas = decision.plan.replicas
        if self._replicas is not None:
            self.count += ((replicas != self._replicas) & self._machine).sum(axis=(1, 2))
        self._replicas = replicas.copy()

    def observed(self, window: ObservationArrays) -> None:
        pass


def run_cell(cell: BenchmarkCell) -> CellResult:
    """Runs a cell.

    Raises:
        ProvisorError: World or policy is wrong.
    """
    began = time.perf_counter()
    world = cell.world.open()
    asked = with_floors(world, cell.floor_offset)
    days: list[DayResult] = []
    slowest: list[float] = []
    ticks = cell_ticks(world, cell.hours)
    cells, is_railed = world.cells([cell.seed]), cell.is_watched and has_rails(cell.policy)
    for group in [(one,) for one in cells] if is_railed else batches(cells):
        if not cell.is_watched:
            days += _totals(world, asked, group, cell.policy, ticks)
            continue
        timer, changes = Timer(), _Changes(world.setting, len(group))
        recorders: list[Recorder] = [timer, changes]
        policy = RailedLoop(asked.setting, cell.policy) if is_railed else cell.policy
        tally = roll(asked, prepare(world, group), policy, recorders, ticks=ticks)
        days += [_watched_day(tally, changes, world.setting, env, one.day) for env, one in enumerate(group)]
        slowest += [] if timer.ms_p99 is None else [timer.ms_p99]
    return CellResult(days=tuple(days), decide_ms_p99=max(slowest, default=None), wall_s=time.perf_counter() - began)


def cell_ticks(world: World, hours: float | None) -> int:
    """Ticks of a day that are run."""
    if hours is None:
        return world.cell_ticks
    day_s: float = world.setting.control.day_s
    return max(1, min(world.cell_ticks, int(hours / 24.0 * day_s / world.setting.control.tick_s)))


def with_floors(world: World, offset: float) -> World:
    """The world with other accuracy floors, which only a policy looks at: the world's course is the same.

    Args:
        world: Stays as it is where a class has a tier, as does a class with a floor of each answer: other variants may
            not answer them.
        offset: Added to the floors, up to the most accurate variant that may answer a class.
    """
    setting = world.setting
    workload, accuracy = setting.workload, setting.catalog.accuracy
    if offset == 0.0 or setting.tiers is not None:
        return world
    best = np.where(workload.allowed.any(axis=2), accuracy, 0.0).max(axis=1)
    moved = np.clip(workload.accuracy_floor + offset, 0.0, np.maximum(best, workload.accuracy_floor))
    floors = np.where(workload.floor_each, workload.accuracy_floor, moved)
    return replace(world, setting=replace(setting, workload=workload._replace(accuracy_floor=floors)))


def _totals(world: World, asked: World, group: tuple[Cell, ...], choice: PolicyChoice, ticks: int) -> list[DayResult]:
    """Days of cells that nobody watches; `asked` is the world as the policy is told of it."""
    from envs.compiled_runs import run_compiled

    start, simulator = prepare(world, group), new_simulator(asked, len(group))
    policy: Policy = policy_in(asked, group, choice)
    begin(world, start, simulator)
    if run_compiled(policy, simulator, ticks):
        sums: Tally | TotalArrays = simulator.totals
    else:
        sums = roll(asked, start, policy, ticks=ticks, simulator=simulator)
    return [_day(sums, world.setting, env, one.day, ticks) for env, one in enumerate(group)]


def _watched_day(tally: Tally, changes: _Changes, setting: Setting, env: int, day: int) -> DayResult:
    return _day(tally, setting, env, day, tally.ticks).model_copy(
        update={
            "flaps": int(tally.flaps[env]),
            "capacity_changes": int(changes.count[env]),
            "ruled_ticks": int(tally.ruled[env]),
        }
    )


def _day(sums: Tally | TotalArrays, setting: Setting, env: int, day: int, ticks: int) -> DayResult:
    answered, accuracy_sum = sums.answered[env], sums.accuracy_sum[env]
    accuracy = [float(s) / int(n) if n else None for s, n in zip(accuracy_sum, answered, strict=True)]
    return DayResult(
        day=day,
        cost_usd=float(sums.spend_usd[env].sum()),
        requests=_integers(sums.arrivals[env]),
        missed=_integers(sums.missed[env]),
        answered=_integers(answered),
        accuracy_sum=_floats(accuracy_sum),
        floor_breaches=floor_breaches(accuracy, setting.workload.accuracy_floor.tolist()),
        shed=int(sums.shed[env].sum()),
        preemptions=int(sums.preempted[env].sum()),
        flaps=None,
        capacity_changes=None,
        ruled_ticks=None,
        ticks=ticks,
    )


def _integers(values: I64) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _floats(values: F64) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@lru_cache(maxsize=32)
def _world(source: WorldSource) -> World:
    days = source.days
    if source.trace in ALL_TRACES:
        world = suite_world(source.scenario, source.trace, source.split, days, source.rate)
    else:
        scenario = load_scenario(source.scenario)
        scenario = scenario.model_copy(update={"mean_rps": scenario.mean_rps * source.rate})
        if source.trace.startswith(PRESET):
            last = scenario.splits.test[1]
            generated = GeneratedTrace(preset=source.trace.removeprefix(PRESET), days=last)
            scenario = scenario.model_copy(update={"trace": generated})
        is_file = source.trace != OWN and not source.trace.startswith(PRESET)
        if days is None and not is_file:
            days = getattr(scenario.splits, source.split)
        world = build_world(scenario, WorldChoice(trace=source.trace if is_file else None, days=days))
    if source.most_days is not None:
        world = replace(world, days=world.days[: source.most_days])
    return world


def cell_key(cell: BenchmarkCell) -> str:
    """Digest of everything that a cell's result depends on, 32 hex digits.

    Raises:
        ProvisorError: World or policy is wrong.
    """
    values = {
        "world": _world_identity(cell.world),
        "policy": policy_identity(cell.policy),
        "seed": cell.seed,
        "hours": cell.hours,
        "is_watched": cell.is_watched,
        "floor_offset": cell.floor_offset,
        "sources": sources_digest(),
    }
    return _digest(values)


@lru_cache(maxsize=64)
def _world_identity(source: WorldSource) -> str:
    world = source.open()
    digest = hashlib.sha256(np.ascontiguousarray(world.rate_rps).tobytes())
    digest.update(np.ascontiguousarray(world.spot_share).tobytes())
    scenario = world.setting.scenario.model_dump(mode="json")
    rest = [scenario, world.setting.source.model_dump(mode="json"), world.bin_s, world.spot_gap_s, list(world.days)]
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def policy_identity(policy: PolicyChoice) -> dict[str, Any]:
    """What a policy decides by: all its settings, the bytes of its file, or the source of its class.

    Raises:
        ProvisorError: There is no such file or kind.
    """
    if (file := policy_file(policy)) is not None:
        from controller.policies.policy_file import load_policy_file

        path, replaced = file
        return {"file": load_policy_file(path).sha256, "replaced": replaced}
    rule = policy if isinstance(policy, PolicySpec) else read_spec(policy)
    identity: dict[str, Any] = {"kind": rule.kind, "settings": rule.settings}
    if ":" in rule.kind:
        found = importlib.util.find_spec(rule.kind.partition(":")[0])
        origin = None if found is None else found.origin
        identity["source"] = None if origin is None else _file_digest(Path(origin))
    else:
        defaults = {name: field.default for name, field in settings_model(rule.kind).model_fields.items()}
        identity["settings"] = json.loads(json.dumps({**defaults, **rule.settings}, default=str))
    return identity


@cache
def sources_digest() -> str:
    """Digest of the sources that decide what a cell comes to."""
    root = Path(__file__).resolve().parents[1]
    files = [path for package in _SOURCE_PACKAGES for path in sorted((root / package).rglob("*.py"))]
    files += [root / "experiments" / name for name in _SOURCE_MODULES]
    return _digest([[str(path.relative_to(root)), _file_digest(path)] for path in files])


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
