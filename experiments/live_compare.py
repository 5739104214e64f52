"""The same stretch of a trace served live by several policies, one after the other, measured alike.

Each gets the same requests at the same times with the same deadlines, and replicas that sleep for the service time of
their profile. Ours run as `provisor serve --replay`; Ray Serve's own autoscaler runs an application that neither our
controller nor our router touches. Attainment, latencies and losses are what the client saw, cost is what the machines
cost in the stretch, and a change is one of the replicas that start or are ready, for all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.arrays import F64
from controller.compile import compile_scenario
from controller.errors import ProvisorError, RunError, mismatch
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
from experiments.serve import JOURNAL

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
    def hours(self) -> float:
        """Length, in hours of the trace."""
        return self.duration_s * self.speed / 3600.0

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
    cost_usd: float  # of the stretch
    usd_per_hour: float  # of the trace
    attainment: float
    attainment_by_class: dict[str, float]
    p50_s: float | None
    p99_s: float | None
    changes_per_hour: float
    flaps_per_hour: float
    requests: int
    missed: int
    lost: int
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
    rows = []
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
    for one in everyone:
        shown = "" if one.file is None else str(one.file)
        rows.append(Compared(one.name, tuple(found[one.name]), problems.get(one.name, ""), shown))
    write_compared(rows, asked, out)
    return tuple(rows)


def _run(one: Contender, file: Path, stretch: Stretch, seed: int, folder: Path) -> ComparedRun:
    folder.mkdir(parents=True, exist_ok=True)
    file = file.resolve()
    asked = stretch.asked(seed)
    words = command(file, asked, folder) if one.is_native else serve_words(file, asked, folder)
    run_to_end(words, folder / "run.log", stretch.duration_s + _START_TIMEOUT_S)
    return native_run(folder, stretch, seed) if one.is_native else our_run(folder, stretch, seed)


def serve_words(policy: Path, asked: dict[str, Any], folder: Path) -> list[str]:
    """Words of `provisor serve` for a stretch; without admin API and predictions, which its rival has no like of."""
    scenario = load_scenario(asked["scenario"])
    words = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))", "serve"]
    words += ["--policy", str(policy), "--replay", "scenario", "--mode", "active", "--no-admin", "--no-predictions"]
    named = {"duration_s": "duration", "start_hour": "start-hour"}
    for name, value in asked.items():
        words += [f"--{named.get(name, name)}", f"{value:g}" if isinstance(value, float) else str(value)]
    for variant in scenario.load_catalog().variants:
        words += ["--model", f"{variant.name}={MODEL}"]
    return [*words, "--out", str(folder)]


def our_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what `provisor serve` left.

    Raises:
        RunError: It left something out.
        JournalError: The journal is damaged.
    """
    path = folder / "results.json"
    if not path.exists():
        raise RunError(mismatch(str(path), "the results of a replay", "nothing"))
    live = json.loads(path.read_text(encoding="utf-8"))[0]
    flaps = flaps_of_journal(Journal(folder / JOURNAL))
    run = measured(read_requests(folder), stretch, seed, float(live["cost_usd"]), flaps)
    return replace(run, accuracy=live["accuracy"], rule_share=float(live["rule_share"]))


def native_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what a run of Serve's own autoscaler left.

    Raises:
        RunError: It left something out.
    """
    log = read_replicas(folder)
    options = LiveOptions(scenario=stretch.scenario, speed=stretch.speed)
    setting = setting_at_speed(speeded(options), None)
    plan = native_plan(setting)
    tick_s = setting.control.tick_s
    ticks = max(1, int(stretch.duration_s / tick_s + 1e-9))
    cost_usd = log.cost_usd(ticks * tick_s, plan.price_usd_per_s, plan.min_billing_s, plan.release_lag_s)
    counts = log.counts_at((np.arange(ticks + 1) * tick_s).tolist())
    run = measured(read_requests(folder), stretch, seed, cost_usd, flap_index(counts, tick_s * stretch.speed))
    return replace(run, accuracy=float(setting.catalog.accuracy[plan.variant]))


def measured(requests: Requests, stretch: Stretch, seed: int, cost_usd: float, flaps: FlapIndex) -> ComparedRun:
    """The figures of a run, the same for everyone.

    Args:
        requests: What the client saw.
        stretch: What was asked.
        seed: Of the requests.
        cost_usd: Of the machines, and of serverless calls, in the stretch.
        flaps: Of replicas that started or were ready.
    """
    setting = compile_scenario(load_scenario(stretch.scenario))
    slo_s: F64 = setting.workload.slo_s
    is_missed = requests.is_missed(slo_s)
    by_class = {name: _share(is_missed[requests.request_class == c]) for c, name in enumerate(setting.class_names)}
    p50_s, p99_s = requests.latency_quantiles_s(_LATENCIES)
    sent = requests.late_s[np.isfinite(requests.late_s)]
    return ComparedRun(
        seed=seed,
        cost_usd=cost_usd,
        usd_per_hour=cost_usd / stretch.hours,
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
