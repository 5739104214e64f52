"""The live study: what a run loses and how it mends when things break, and how it compares with Serve by itself.

Also whether the journal of the breakage can be decided again, and what the router costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from controller.compile import compile_scenario
from controller.errors import UsageError, mismatch
from controller.forecaster_file import forecaster_named
from controller.policies.learned import content_of
from controller.policies.policy_file import TrainingRecord, layer_shapes, save_policy_file
from controller.policies.predictive import MpcSettings
from controller.replay import replay_journal
from controller.scenario import load_scenario
from experiments import steadiness
from experiments.checks import Check, at_least, at_most
from experiments.live import LiveOptions
from experiments.live_compare import Compared, CompareOptions, compare
from experiments.live_faults import FAULTS, Fault, FaultRow, Rehearsal, rehearse
from experiments.live_load import OpenLoad
from experiments.live_process import ServeProcess
from experiments.show_compare import compare_checks
from experiments.signals import signals_interrupt

CONFIGS = Path(__file__).parent / "configs"
SCENARIO = str(CONFIGS / "rehearsal.yaml")
MODEL = "experiments.live_models:Echo"
_WIDE = 140
_SPEED = 10.0
_RATE_RPS = 16.0
_START_HOUR = 3.0
_TRUST = {"quiet_s": 120.0, "fault_quiet_s": 120.0, "max_backoff": 1, "slo_burn": {"is_on": False}}
"""Twelve seconds at this speed until the policy drives again. Misses take nothing from it, so that the rule drives for
what was broken alone: what a slow machine answers too late would keep the policy from ever driving again.
"""
_START_TIMEOUT_S = 420.0
_SETTINGS = {
    "forecaster": "persistence",
    "need_band": 0.5,
    "backlog_s": 1200.0,
    "steady_s": 3600.0,
    "accuracy_band": 0.05,
    "repay_s": 86400.0,
    "scale_in_s": 7200.0,
    "over_provision": 1.5,
}
"""A rule that leaves its fleet alone at a steady rate, so that what changes is what was broken: on a slow machine a
fleet that follows chance always has something that starts.
"""

COMPARE, ROUTER, STEADINESS = "compare", "router", "steadiness"
"""Names of the parts of the study that are no faults."""


@dataclass(frozen=True)
class LiveStudy:
    """What was measured.

    Attributes:
        faults: One row each.
        parity: Decisions replayed, and those that came out differently; None: no fault was rehearsed.
        router: What it costs.
        compared: Policies side by side, in the order of the table.
        steadiness: Changes of capacity at constant load, simulated.
    """

    faults: tuple[FaultRow, ...]
    parity: tuple[int, int] | None
    router: Mapping[str, Any] | None = None  # its price against a bare application; None: not measured
    compared: tuple[Compared, ...] = ()
    steadiness: Check | None = None  # None: not measured


def zero_policy(path: Path, scenario: str) -> Path:
    """Writes a policy file whose network is all zeros: the rule inside, in the form of what is learned."""
    import numpy as np

    setting = compile_scenario(load_scenario(scenario))
    settings = MpcSettings.model_validate(_SETTINGS)
    trace, days = setting.scenario.trace, setting.scenario.splits
    training = TrainingRecord(
        trace=getattr(trace, "preset", "file"),
        scenario=setting.scenario.name,
        train_days=days.train,
        validation_days=days.validation,
        seeds=(0,),
        steps=0,
    )
    content = content_of(
        setting,
        {},
        settings=settings,
        forecast=forecaster_named(settings.forecaster),
        hidden=(),
        catalog="fixed",
        training=training,
        metrics={},
    )
    zeros = {name: np.zeros(shape, np.float32) for name, shape in layer_shapes(content.manifest).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_policy_file(path, type(content)(content.manifest, {**content.tensors, **zeros}))
    return path


def rehearse_all(
    out: Path, say: Callable[[str], None], faults: Sequence[Fault] = FAULTS, *, seed: int = 0
) -> tuple[tuple[FaultRow, ...], Path]:
    """Starts a run on local nodes, breaks it as listed, and returns a row for each fault and the journal.

    Raises:
        RunError: The run does not come up or does not settle.
    """
    policy = zero_policy(out / "policy.provisor", SCENARIO)
    scenario = load_scenario(SCENARIO)
    names = [variant.name for variant in scenario.load_catalog().variants]
    run = out / "run.yaml"
    run.write_text(yaml.safe_dump({"name": "rehearsal", "trust": _TRUST}), encoding="utf-8")
    words = [str(run), "--scenario", SCENARIO, "--policy", str(policy), "--speed", f"{_SPEED:g}", "--nodes", "local"]
    words += ["--start-hour", f"{_START_HOUR:g}", "--rehearsals", "--mode", "active"]
    words += [word for name in names for word in ("--model", f"{name}={MODEL}")]
    process = ServeProcess(words, out / "serve", say)
    pools = {pool.name: pool.market.value for pool in scenario.load_catalog().pools}
    rehearsal = Rehearsal(
        process,
        policy,
        tuple(name for name, market in pools.items() if market == "spot"),
        tuple(name for name, market in pools.items() if market == "on_demand"),
    )
    classes = [(c.name, c.slo_s, c.share) for c in scenario.workload.classes]
    rows = []
    say("starting a run on local nodes")
    try:
        process.start(_START_TIMEOUT_S)
        with (
            OpenLoad(process.url, _RATE_RPS, classes, [[0] * 64], seed) as once,
            OpenLoad(process.url, _RATE_RPS / 4, classes, [[0] * 64], seed + 1, does_retry=True) as again,
        ):
            for fault in faults:
                row = rehearse(fault, rehearsal, again if fault.repeats else once)
                say(_line(row))
                rows.append(row)
    finally:
        process.stop()
    return tuple(rows), process.journal


def run_study(
    out: Path, say: Callable[[str], None], names: Sequence[str] = (), asked: CompareOptions | None = None
) -> LiveStudy:
    """Makes all parts, or those whose names begin with one of the given, and decides the journal of the faults again.

    Args:
        out: Folder of results.
        say: Prints a line of progress.
        names: Of faults and other parts; none: everything.
        asked: What is compared.

    Raises:
        UsageError: A name is none of a part.
        RunError: The run of the faults does not come up or does not settle.
    """
    parts = [fault.name for fault in FAULTS] + [COMPARE, ROUTER, STEADINESS]
    for name in names:
        if not any(part.startswith(name) for part in parts):
            raise UsageError(mismatch("--only", f"the beginning of one of {parts}", name))
    chosen = [part for part in parts if not names or any(part.startswith(name) for name in names)]
    faults = [fault for fault in FAULTS if fault.name in chosen]
    rows: tuple[FaultRow, ...] = ()
    parity = router = steady = None
    compared: tuple[Compared, ...] = ()
    out.mkdir(parents=True, exist_ok=True)
    with signals_interrupt():
        if faults:
            rows, journal = rehearse_all(out, say, faults)
            replayed = replay_journal(journal)
            parity = (replayed.ticks, replayed.ticks_different)
        if COMPARE in chosen:
            compared = compare(asked or CompareOptions(), out / COMPARE, say)
    if ROUTER in chosen:
        from experiments.bench_live import router_added

        say("measuring the router beside a bare application")
        router = router_added()
    if STEADINESS in chosen:
        say(f"simulating {steadiness.HOURS:g} hours at constant load")
        steady = steadiness.steadiness_check(LiveOptions().policy, "what `provisor serve` begins with")
    study = LiveStudy(rows, parity, router, compared, steady)
    write_study(study, out)
    return study


def show_faults(rows: Sequence[FaultRow]) -> None:
    """Prints the table of faults."""
    table = Table(title="faults, one after the other in one live run")
    for name in ("fault", "requests", "answered", "missed", "lost", "seen s", "mended s", "rule ticks", "worst s"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for row in rows:
        seen, mended = (("-" if x is None else f"{x:.1f}") for x in (row.seen_s, row.mended_s))
        counts = (row.requests, row.answered, row.missed, row.lost)
        table.add_row(row.fault, *(str(n) for n in counts), seen, mended, str(row.rule_ticks), f"{row.worst_s:.2f}")
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)


def checks_of(study: LiveStudy) -> list[Check]:
    """Every value beside its bar."""
    found = []
    for row in study.faults:
        if not row.fault.startswith("a router replica is killed") or row.fault.endswith("repeat"):
            found.append(at_most(f"lost with time left: {row.fault}", row.lost, 0, f" of {row.requests}"))
        if row.hands_back:
            ticks = row.hand_back_ticks
            measured = "never" if ticks is None else f"{ticks} ticks after the alarm"
            holds = ticks is not None and ticks <= 1
            found.append(Check(f"rule drives: {row.fault}", measured, "<= 1", holds))
        mended = "never" if row.mended_s is None else f"{row.mended_s:.1f} s"
        found.append(Check(f"mended: {row.fault}", mended, "in the time watched", row.mended_s is not None))
    if study.parity is not None:
        replayed, different = study.parity
        found.append(at_most("decisions of the live journal that replay differently", different, 0, f" of {replayed}"))
    if study.steadiness is not None:
        found.append(study.steadiness)
    if study.router is not None:
        found += [
            at_most(
                "router, added to a bare two-hop application (p50)", study.router["router_added_ms_p50"], 2.0, " ms"
            ),
            at_least("router, throughput of a bare two-hop application", study.router["router_throughput_share"], 0.9),
        ]
    return found + compare_checks(study.compared)


def write_study(study: LiveStudy, out: Path) -> Path:
    """The rows as JSON."""
    parity = None if study.parity is None else list(study.parity)
    value: dict[str, Any] = {"faults": [asdict(row) for row in study.faults], "parity": parity}
    value["steadiness"] = None if study.steadiness is None else asdict(study.steadiness)
    value["router"] = None if study.router is None else dict(study.router)
    value["compared"] = [asdict(row) for row in study.compared]
    path = out / "live.json"
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return path


def _line(row: FaultRow) -> str:
    mended = "not mended" if row.mended_s is None else f"mended in {row.mended_s:.1f} s"
    return f"{row.fault}: {row.lost} of {row.requests} requests lost, {row.missed} missed, {mended}"
