"""The same stretch of a trace served live by several policies, one after the other, measured alike.

Each gets the same requests at the same times with the same deadlines, and replicas that sleep for the service time of
their profile. Ours run as `provisor serve --replay`; Ray Serve's own autoscaler runs an application that neither our
controller nor our router touches. Attainment, latencies and losses are what the client saw, cost is what the machines
cost in the stretch, and a change is one of the replicas that start or are ready, for all of them. The first part of the
stretch, in which processes are cold and the fleet to begin with gives way to each policy's own, counts for nobody.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.compile import Setting
from controller.errors import ProvisorError
from controller.flaps import FlapIndex, flap_index, flaps_of_journal
from controller.journal import Journal
from controller.scenario import load_scenario
from experiments.evidence_files import GENERALIST, Artefacts, selected_by_validation
from experiments.live import LiveOptions, setting_at_speed, speeded
from experiments.live_process import free_port, run_to_end
from experiments.live_requests import Requests, read_requests
from experiments.native_plan import KIND, native_plan
from experiments.native_run import command
from experiments.replica_log import read_replicas
from experiments.results import Tally
from experiments.serve import JOURNAL
from experiments.sim_to_live import WARM_SHARE

LEARNED, RULE, NATIVE = "learned policy", "best rule (tuned mpc)", "Ray Serve's autoscaler (tuned)"
MODEL = "experiments.live_models:Echo"
_START_TIMEOUT_S = 420.0
_LATENCIES = (0.5, 0.99)


@dataclass(frozen=True)
class Stretch:
    """What everybody is asked: so many live seconds of the first test day from an hour on.

    The default scenario's rate changes, but never beyond what on-demand machines alone can answer, and it sets no least
    number of machines, which only ours would have to keep.
    """

    scenario: str = str(Path(__file__).parent / "configs" / "side-by-side.yaml")
    duration_s: float = 120.0
    speed: float = 20.0
    start_hour: float = 9.0

    @property
    def setting(self) -> Setting:
        """The scenario at the speed."""
        return setting_at_speed(speeded(LiveOptions(scenario=self.scenario, speed=self.speed)), None)

    def span(self, tick_s: float) -> tuple[int, int]:
        """Ticks at which what counts begins and ends."""
        ticks = max(1, int(self.duration_s / tick_s + 1e-9))
        return math.ceil(WARM_SHARE * ticks), ticks

    def asked(self, seed: int) -> dict[str, Any]:
        """As fields of `LiveOptions`."""
        return {**asdict(self), "seed": seed, "port": free_port()}


@dataclass(frozen=True)
class Contender:
    """Who is compared.

    Attributes:
        name: In the table.
        file: Policy, or settings.
        missing: Why there is no file, and what makes one; empty where there is one.
        is_native: Whether it is Ray Serve's own autoscaler, and the file its settings.
    """

    name: str
    file: Path | None
    missing: str = ""
    is_native: bool = False


@dataclass(frozen=True)
class ComparedRun:
    """One run of one contender."""

    seed: int
    cost_usd: float  # of what counts of the stretch
    usd_per_hour: float  # of the trace
    attainment: float
    attainment_by_class: dict[str, float]
    p50_s: float | None
    p99_s: float | None
    changes_per_hour: float
    flaps_per_hour: float
    requests: int
    missed: int
    lost: int  # in all of the stretch
    late_ms_p99: float  # of the sender
    accuracy: float | None = None  # mean of the answers, by the catalog
    rule_share: float | None = None  # of ticks that the named rule drove; None where there is none


@dataclass(frozen=True)
class Compared:
    """One contender; without runs, why."""

    name: str
    runs: tuple[ComparedRun, ...] = ()
    problem: str = ""
    file: str = ""


@dataclass(frozen=True)
class CompareOptions:
    """What is to be compared; None for what the package ships."""

    learned: Path | None = None
    rule: Path | None = None
    native: Path | None = None
    repeats: int = 1
    stretch: Stretch = field(default_factory=Stretch)


def contenders(asked: CompareOptions, artefacts: Artefacts | None = None) -> tuple[Contender, ...]:
    """The three; a file that is not there is a row that says so."""
    files = artefacts or Artefacts()
    scenario = Path(asked.stretch.scenario).stem
    learned, missing = (asked.learned, "") if asked.learned is not None else _shipped_policy(files, scenario)
    found = [
        (LEARNED, learned, missing, False),
        (RULE, asked.rule or files.settings("mpc", scenario), "", False),
        (NATIVE, asked.native or files.settings(KIND, scenario), "", True),
    ]
    return tuple(
        Contender(name, path, why or ("" if path is not None and path.exists() else f"missing: {path}"), is_native)
        for name, path, why, is_native in found
    )


def _shipped_policy(files: Artefacts, scenario: str) -> tuple[Path | None, str]:
    """The policy learned for the scenario, else the one for any catalog; and why there is none."""
    for learner in (scenario, GENERALIST):
        if paths := files.policy_files(learner):
            try:
                return selected_by_validation(paths), ""
            except ProvisorError as error:
                return None, f"unreadable: {error}"[:200]
    return None, "missing: none is shipped; name one with --learned"


def compare(asked: CompareOptions, out: Path, say: Callable[[str], None]) -> tuple[Compared, ...]:
    """Serves the stretch with everyone in turn, for each seed, and writes `compare.json`.

    A run that fails is the row's problem and keeps the others from nothing.
    """
    everyone = contenders(asked)
    found: dict[str, list[ComparedRun]] = {one.name: [] for one in everyone}
    problems = {one.name: one.missing for one in everyone if one.missing}
    for seed in range(asked.repeats):
        for number, one in enumerate(everyone):
            if one.name in problems or one.file is None:
                continue
            say(f"side by side, {one.name}, run {seed + 1} of {asked.repeats}")
            folder = out / f"{number}-{seed}"
            try:
                run = _run(one, one.file, asked.stretch, seed, folder)
            except ProvisorError as error:
                problems[one.name] = f"failed: {error}"
                say(problems[one.name])
            else:
                found[one.name].append(run)
                say(f"{one.name}: {run.cost_usd:.4f} $, {100 * run.attainment:.2f} % attained, {run.lost} lost")
    rows = tuple(
        Compared(one.name, tuple(found[one.name]), problems.get(one.name, ""), str(one.file or "")) for one in everyone
    )
    write_compared(rows, asked, out)
    return rows


def _run(one: Contender, file: Path, stretch: Stretch, seed: int, folder: Path) -> ComparedRun:
    folder.mkdir(parents=True, exist_ok=True)
    file = file.resolve()
    asked = stretch.asked(seed)
    words = command(file, asked, folder) if one.is_native else serve_words(file, asked, folder)
    run_to_end(words, folder / "run.log", stretch.duration_s + _START_TIMEOUT_S)
    return native_run(folder, stretch, seed) if one.is_native else our_run(folder, stretch, seed)


def serve_words(policy: Path, asked: dict[str, Any], folder: Path) -> list[str]:
    """Words of `provisor serve` for a stretch; without admin API and predictions, which its rival has no like of."""
    words = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))", "serve"]
    words += ["--policy", str(policy), "--replay", "scenario", "--mode", "active", "--no-admin", "--no-predictions"]
    named = {"duration_s": "duration", "start_hour": "start-hour"}
    for name, value in asked.items():
        words += [f"--{named.get(name, name)}", f"{value:g}" if isinstance(value, float) else str(value)]
    for variant in load_scenario(asked["scenario"]).load_catalog().variants:
        words += ["--model", f"{variant.name}={MODEL}"]
    return [*words, "--out", str(folder)]


def our_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what `provisor serve` left.

    Raises:
        RunError: It left something out.
        JournalError: The journal is damaged.
    """
    requests = read_requests(folder)
    setting, journal = stretch.setting, Journal(folder / JOURNAL)
    first, last = stretch.span(setting.control.tick_s)
    tally = Tally(setting, 1)
    for at, tick in enumerate(journal.ticks()):
        if at > first:
            tally.observed(tick.observation)
        if at == last:
            break
        if at >= first:
            tally.decided(tick.plan)
    row = tally.row(0, policy=folder.name, trace="", day=1, seed=seed)
    flaps = flaps_of_journal(journal, warm_up_s=first * setting.control.tick_s * stretch.speed)
    run = measured(requests, stretch, setting, seed, row.cost_usd, flaps)
    return replace(run, accuracy=row.accuracy, rule_share=row.rule_share)


def native_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what a run of Serve's own autoscaler left.

    Raises:
        RunError: It left something out.
    """
    log = read_replicas(folder)
    setting = stretch.setting
    plan = native_plan(setting)
    tick_s = setting.control.tick_s
    first, last = stretch.span(tick_s)
    price = (plan.price_usd_per_s, plan.min_billing_s, plan.release_lag_s)
    cost_usd = log.cost_usd(last * tick_s, *price) - log.cost_usd(first * tick_s, *price)
    counts = log.counts_at((np.arange(first, last + 1) * tick_s).tolist())
    flaps = flap_index(counts, tick_s * stretch.speed)
    run = measured(read_requests(folder), stretch, setting, seed, cost_usd, flaps)
    return replace(run, accuracy=float(setting.catalog.accuracy[plan.variant]))


def measured(
    requests: Requests, stretch: Stretch, setting: Setting, seed: int, cost_usd: float, flaps: FlapIndex
) -> ComparedRun:
    """The figures of a run, the same for everyone.

    Args:
        requests: What the client saw, from second 0 on.
        stretch: What was asked.
        setting: Of the stretch.
        seed: Of the requests.
        cost_usd: Of the machines, and of serverless calls, in what counts of the stretch.
        flaps: Of replicas that started or were ready in it.
    """
    tick_s = setting.control.tick_s
    first, last = stretch.span(tick_s)
    counted = requests.since(first * tick_s)
    is_missed = counted.is_missed(setting.workload.slo_s)
    by_class = {name: _share(is_missed[counted.request_class == c]) for c, name in enumerate(setting.class_names)}
    p50_s, p99_s = counted.latency_quantiles_s(_LATENCIES)
    sent = counted.late_s[np.isfinite(counted.late_s)]
    return ComparedRun(
        seed=seed,
        cost_usd=cost_usd,
        usd_per_hour=cost_usd / ((last - first) * tick_s * stretch.speed / 3600.0),
        attainment=_share(is_missed),
        attainment_by_class=by_class,
        p50_s=p50_s,
        p99_s=p99_s,
        changes_per_hour=flaps.changes_per_hour,
        flaps_per_hour=flaps.reversals_per_hour,
        requests=len(is_missed),
        missed=int(is_missed.sum()),
        lost=int(requests.is_lost.sum()),
        late_ms_p99=float(np.quantile(sent, 0.99) * 1e3) if len(sent) else 0.0,
    )


def _share(is_missed: Any) -> float:
    """Attainment; 1 where nothing was asked."""
    return 1.0 - float(np.mean(is_missed)) if len(is_missed) else 1.0


def write_compared(rows: Sequence[Compared], asked: CompareOptions, out: Path) -> Path:
    """Writes `compare.json`."""
    out.mkdir(parents=True, exist_ok=True)
    value = {"stretch": asdict(asked.stretch), "repeats": asked.repeats, "rows": [asdict(row) for row in rows]}
    path = out / "compare.json"
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return path
