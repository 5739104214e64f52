"""The simulator against reality: the same requests served live on Ray and in the simulator, calibrated on other runs.

Every case is served several times with the same requests. The spread of those repeats is what a live run differs by
from itself, and no prediction can be held to less. The simulator's figures come from the journals of all other cases:
nothing of a case is used to predict it. Environments of the serverless case are reserved: without that, a few cold
starts of eight seconds each make up a fifth of the bill, and live runs differ from each other by 10 to 34 % in cost, so
there is nothing to hold a prediction to. The first minutes, in which the fleet of the starting rule gives way to the
case's own, are left out on both sides.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from controller.arrays import LATENCY_BUCKETS, ObservationArrays
from controller.catalog import load_catalog
from controller.config import parse_config
from controller.errors import RunError
from controller.journal import Journal
from controller.latency import quantile
from controller.loop import Decision
from controller.policies.registry import PolicySpec
from controller.scenario import Scenario
from envs.simulator import Simulator
from envs.world import Cell, World, WorldChoice
from experiments.calibrated import calibrated_yaml, write_whole
from experiments.calibration import Calibrator
from experiments.checks import Check
from experiments.journal_samples import read_samples
from experiments.live import LiveOptions, live_world, setting_at_speed, speeded
from experiments.results import Tally
from experiments.rollout import prepare, roll
from experiments.run_config import RunConfig

SCENARIO = "demo"
SPEED = 20.0
WARM_SHARE = 0.25
"""Share of a run's ticks that is left out."""

_BIN_S, _GAP_S = 10.0, 60.0


@dataclass(frozen=True)
class Case:
    """One thing to predict.

    Attributes:
        name: Short.
        about: What it is, in words.
        rate_rps: Constant rate of the requests.
        policy: What decides.
        loses_zone: Whether the spot zone takes everything back now and then.
    """

    name: str
    about: str
    rate_rps: float
    policy: PolicySpec
    loses_zone: bool = False


def _static(**replicas: int) -> PolicySpec:
    """A fleet that never changes; `medium_c5_large=3` is three machines of that option."""
    fleet = {_OPTIONS[name]: count for name, count in replicas.items()}
    return PolicySpec(kind="static", settings={"replicas": dict(fleet)})


_OPTIONS = {
    "small": "digits-small@c5-large",
    "medium": "digits-medium@c5-large",
    "medium_spot": "digits-medium@c5-large-spot",
    "medium_xlarge": "digits-medium@c5-xlarge",
    "large_xlarge": "digits-large@c5-xlarge",
    "medium_fn": "digits-medium@lambda-3008",
}

CASES = (
    Case("light", "three machines at 40 % load", 8.0, _static(medium=3)),
    Case("busy", "three machines at 80 % load", 17.0, _static(medium=3)),
    Case("two sizes", "machines with one and with two credits, 70 % load", 19.0, _static(medium=2, medium_xlarge=1)),
    Case("two variants", "a small and a large variant side by side, 70 % load", 13.5, _static(small=1, large_xlarge=1)),
    Case("serverless", "two machines and ten reserved serverless environments", 20.0, _static(medium=2, medium_fn=10)),
    Case(
        "node loss",
        "two of three machines are spot and are taken back together, retried requests included",
        11.0,
        _static(medium=1, medium_spot=2),
        loses_zone=True,
    ),
)

TARGETS = {"p50": 0.10, "p95": 0.10, "p99": 0.20, "attainment": 0.02, "cost": 0.02}
"""Largest error wanted: relative, and for the attainment in absolute terms."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to, all classes together: they share the queues."""

    p50: float
    p95: float
    p99: float
    attainment: float
    cost: float


@dataclass(frozen=True)
class Prediction:
    """One value of one case, live and predicted."""

    case: str
    metric: str
    live: float  # mean over the repeats
    simulated: float
    error: float
    repeat_error: float  # largest between two repeats
    bar: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the bar."""
        return self.error <= self.bar


def predictions(
    out: Path, *, repeats: int, duration_s: float, port: int, say: Callable[[str], None], cases: Sequence[Case] = CASES
) -> Iterator[Prediction]:
    """Serves every case, calibrates on the others, simulates it, and compares.

    Args:
        out: Folder of the live runs; a run that lies there already is not made again.
        repeats: Live runs of each case, >= 2.
        duration_s: Of each, live seconds.
        port: For HTTP.
        say: Prints one line of progress.
        cases: What to predict, at least two.
    """
    served: dict[str, list[Path]] = {}
    for case in cases:
        served[case.name] = []
        for repeat in range(repeats):
            folder = out / case.name.replace(" ", "-") / str(repeat)
            if not (folder / "results.json").exists():
                say(f"{case.name}, repeat {repeat + 1} of {repeats}")
                _serve(case, folder, duration_s, port)
            served[case.name].append(folder)
    for case in cases:
        others = [folder for name, folders in served.items() if name != case.name for folder in folders]
        say(f"predicting {case.name}")
        calibrated = _calibrated_on(others, out / case.name.replace(" ", "-"))
        yield from _compared(case, served[case.name], calibrated, duration_s)


def checks_of(found: Sequence[Prediction]) -> list[Check]:
    """The predictions as values beside their bars."""
    return [
        Check(
            f"{p.case}: {p.metric}",
            f"live {p.live:.4g}, simulated {p.simulated:.4g}: off {_told(p.metric, p.error)}",
            f"<= {_told(p.metric, p.bar)} (repeats differ by {_told(p.metric, p.repeat_error)})",
            p.holds,
        )
        for p in found
    ]


def _told(metric: str, value: float) -> str:
    return f"{100 * value:.2f} points" if metric == "attainment" else f"{100 * value:.1f} %"


def _choice(case: Case, folder: Path) -> WorldChoice:
    """Trace and market of a case, written into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    market = _losing_market(folder) if case.loses_zone else _calm_market(folder)
    return WorldChoice(trace=str(_constant_trace(folder)), scale=case.rate_rps, days=(1, 1), spot=str(market))


def _serve(case: Case, folder: Path, duration_s: float, port: int) -> None:
    """Serves a case as a user would, in a process of its own: a second Ray in one process does not start reliably."""
    choice = _choice(case, folder)
    run = RunConfig(name="case", scenario=SCENARIO, policies=(case.policy,), **choice.model_dump(exclude_none=True))
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    words = [sys.executable, "-P", "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"]
    words += ["serve", str(path), "--replay", str(choice.trace), "--duration", str(duration_s)]
    words += ["--speed", str(SPEED), "--port", str(port), "--out", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    (folder / "serve.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise RunError(f"{case.name}: the live run failed: {done.stderr.strip()[-400:]}")


def _calibrated_on(folders: Sequence[Path], beside: Path) -> Path:
    """A catalog fitted to the journals of these runs."""
    catalog = load_catalog(SCENARIO)
    samples = read_samples([folder / "journal.jsonl" for folder in folders], catalog, WARM_SHARE)
    path = beside / "calibrated.yaml"
    write_whole(path, calibrated_yaml(catalog, Calibrator(samples, catalog).fits(), samples.sources))
    return path


def _compared(case: Case, folders: Sequence[Path], catalog: Path, duration_s: float) -> Iterator[Prediction]:
    both = [_both(case, folder, catalog, duration_s) for folder in folders]
    live, simulated = [pair[0] for pair in both], [pair[1] for pair in both]
    for metric, target in TARGETS.items():
        pairs = [_error(metric, getattr(a, metric), getattr(b, metric)) for a, b in combinations(live, 2)]
        repeat_error = max(pairs)
        errors = [_error(metric, getattr(s, metric), getattr(a, metric)) for a, s in zip(live, simulated, strict=True)]
        yield Prediction(
            case=case.name,
            metric=metric,
            live=statistics.fmean(getattr(a, metric) for a in live),
            simulated=statistics.fmean(getattr(s, metric) for s in simulated),
            error=statistics.fmean(errors),
            repeat_error=repeat_error,
            bar=bar_of(target, repeat_error),
        )


def bar_of(target: float, repeat_error: float) -> float:
    """What an error is held to: the target, or more where live runs differ by as much from each other, within limits.

    Runs whose repeats differ by more than twice the target are too short to tell.
    """
    return min(max(target, 1.5 * repeat_error), 2 * target)


def _error(metric: str, value: float, reference: float) -> float:
    """Difference of two values, relative but for the attainment."""
    return abs(value - reference) / (1.0 if metric == "attainment" else reference)


def _both(case: Case, folder: Path, catalog: Path, duration_s: float) -> tuple[Outcome, Outcome]:
    """What a run came to, live and in the simulator: the same requests, the calibrated catalog, the run's own spans.

    Decisions are made as they were live, on the catalog that the run itself had: only the world is calibrated.
    """
    journal = Journal(folder / "journal.jsonl")
    windows = [tick.observation for tick in journal.ticks() if tick.observation.tick[0] > 0]
    windows = windows[: round(duration_s / _tick_s(journal))]  # what was in service then is answered in some more
    options = LiveOptions(
        scenario=SCENARIO,
        policy=case.policy,
        choice=_choice(case, folder),
        is_replaying=True,
        duration_s=duration_s,
        speed=SPEED,
    )
    scenario = speeded(options)
    setting = setting_at_speed(scenario, journal.header.measured)
    calibrated = setting_at_speed(scenario.model_copy(update={"catalog": str(catalog)}), journal.header.measured)
    world = replace(live_world(scenario, options, setting), setting=setting)
    recorder, start = _Windows(), prepare(world, [Cell(world.days[0], options.seed)])
    simulator = Simulator(calibrated, world.supply(), 1)
    roll(world, start, case.policy, [recorder], ticks=len(windows), simulator=simulator)
    return _outcome(world, windows, options), _outcome(world, recorder.windows, options)


class _Windows:
    """Keeps every window of a rollout."""

    def __init__(self) -> None:
        self.windows: list[ObservationArrays] = []

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Only what came of it counts."""

    def observed(self, window: ObservationArrays) -> None:
        """One window, copied: the simulator overwrites it."""
        self.windows.append(ObservationArrays._make(array.copy() for array in window))


def _outcome(world: World, windows: Sequence[ObservationArrays], options: LiveOptions) -> Outcome:
    """Sums of the windows after the warm ones."""
    tally, latency = Tally(world.setting, 1), np.zeros(LATENCY_BUCKETS, np.int64)
    for window in windows[math.ceil(WARM_SHARE * len(windows)) :]:
        tally.observed(window)
        latency += window.latency[0].sum(axis=0)
    row = tally.row(0, policy="case", trace=world.trace_name, day=world.days[0], seed=options.seed)
    p50, p95, p99 = (quantile(latency, share) for share in (0.5, 0.95, 0.99))
    return Outcome(p50, p95, p99, row.attainment, row.cost_usd)


def _tick_s(journal: Journal) -> float:
    """Live seconds of a tick."""
    return parse_config(journal.header.scenario, Scenario, "journal: scenario").control.tick_s / SPEED


# Traces of a case


def _constant_trace(folder: Path) -> Path:
    path = folder / "constant.npz"
    bins = round(86_400 / _BIN_S)
    np.savez(path, counts=np.full((1, bins), round(_BIN_S), np.int64), bin_seconds=np.array(_BIN_S))
    return path


def _calm_market(folder: Path) -> Path:
    return _market(folder, np.ones(round(2 * 86_400 / _GAP_S), np.int64))


def _losing_market(folder: Path) -> Path:
    """Ten minutes there, four away, over and over: both worlds meet it at the same moments."""
    period = np.array([1] * 10 + [0] * 4, np.int64)
    return _market(folder, np.resize(period, round(2 * 86_400 / _GAP_S)))


def _market(folder: Path, offered: np.ndarray[Any, Any]) -> Path:
    path = folder / "market.npz"
    np.savez(path, zone=offered)
    (folder / "index.csv").write_text(
        "key,kind,nodes,dataset,zone,accelerator,acc_count,gap_s\n"
        f"zone,availability,1-node,scripted,us-east-1f,none,1,{_GAP_S:g}\n",
        encoding="utf-8",
    )
    return path
