"""The same stretch of a trace served live by several policies, one after the other, measured alike.

Each gets the same requests at the same times with the same deadlines, and replicas that sleep for the service time of
their profile. Ours run as `provisor serve --replay`; Ray Serve's own autoscaler runs an application that neither our
controller nor our router touches. Attainment, latencies and losses are what the client saw, cost is what the machines
cost in the stretch, and a change is one of the replicas that start or are ready, for all of them. The first part of the
stretch, in which processes are cold and the fleet to begin with gives way to each policy's own, counts for nobody.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from controller.errors import ProvisorError
from controller.policies.registry import GENERALIST
from controller.scenario import load_scenario
from experiments.compared_run import ComparedRun, Stretch, native_run, our_run
from experiments.evidence_files import Artefacts, selected_by_validation
from experiments.live_process import run_to_end
from experiments.native_plan import KIND
from experiments.native_run import command

LEARNED, ANY = "policy learned for the scenario", "policy for any catalog"
RULE, NATIVE = "best rule (tuned mpc)", "Ray Serve's autoscaler (tuned)"
MODEL = "experiments.live_models:Echo"
_START_TIMEOUT_S = 420.0
_QUIET_S = 120.0
# Cold processes miss a few requests at first, which is an alarm. With the default of 600 s the rule would drive in half
# of what counts; with this one the policy is back when it begins.


@dataclass(frozen=True)
class Contender:
    """Who is compared.

    Attributes:
        name: In the table.
        file: Policy, or settings.
        missing: Why there is no file, and what makes one; empty where there is one.
        is_native: Whether it is Ray Serve's own autoscaler, and the file its settings.
        rule: Settings of the rule that drives where an alarm takes the policy off, which are tuned too.
    """

    name: str
    file: Path | None
    missing: str = ""
    is_native: bool = False
    rule: Path | None = None


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
    generalist: Path | None = None
    rule: Path | None = None
    native: Path | None = None
    repeats: int = 1
    stretch: Stretch = field(default_factory=Stretch)


def contenders(asked: CompareOptions, artefacts: Artefacts | None = None) -> tuple[Contender, ...]:
    """The four; a file that is not there is a row that says so."""
    files = artefacts or Artefacts()
    scenario = Path(asked.stretch.scenario).stem
    learned, missing = _asked_or_shipped(asked.learned, files, scenario)
    for_any, missing_any = _asked_or_shipped(asked.generalist, files, GENERALIST)
    rule = asked.rule or files.settings("mpc", scenario)
    kept = rule if rule.exists() else None
    found = [
        Contender(LEARNED, learned, missing, rule=kept),
        Contender(ANY, for_any, missing_any, rule=kept),
        Contender(RULE, rule, rule=rule),
        Contender(NATIVE, asked.native or files.settings(KIND, scenario), is_native=True),
    ]
    return tuple(
        one if one.missing or (one.file is not None and one.file.exists()) else replace(one, missing=_not_there(one))
        for one in found
    )


def _not_there(one: Contender) -> str:
    return f"missing: {one.file}"


def _asked_or_shipped(asked: Path | None, files: Artefacts, learner: str) -> tuple[Path | None, str]:
    """The policy that is asked for, else the one of a learner that is shipped; and why there is none."""
    if asked is not None:
        return asked, ""
    if paths := files.policy_files(learner):
        try:
            return selected_by_validation(paths), ""
        except ProvisorError as error:
            return None, f"unreadable: {error}"[:200]
    return None, f"missing: {files.policies(learner)}"


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
    words = command(file, asked, folder) if one.is_native else serve_words(file, one.rule, asked, folder)
    run_to_end(words, folder / "run.log", stretch.duration_s + _START_TIMEOUT_S)
    return native_run(folder, stretch, seed) if one.is_native else our_run(folder, stretch, seed)


def serve_words(policy: Path, rule: Path | None, asked: dict[str, Any], folder: Path) -> list[str]:
    """Words of `provisor serve` for a stretch, and the run file that they name.

    Without admin API and predictions, which its rival has no like of.
    """
    run_file = folder / "serve.yaml"
    run_file.write_text(yaml.safe_dump({"name": "compare", "trust": {"quiet_s": _QUIET_S}}), encoding="utf-8")
    words = [
        sys.executable,
        "-c",
        "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))",
        "serve",
        str(run_file),
    ]
    words += [] if rule is None else ["--rule", str(rule.resolve())]
    words += ["--policy", str(policy), "--replay", "scenario", "--mode", "active", "--no-admin", "--no-predictions"]
    named = {"duration_s": "duration", "start_hour": "start-hour"}
    for name, value in asked.items():
        words += [f"--{named.get(name, name)}", f"{value:g}" if isinstance(value, float) else str(value)]
    for variant in load_scenario(asked["scenario"]).load_catalog().variants:
        words += ["--model", f"{variant.name}={MODEL}"]
    return [*words, "--out", str(folder)]


def write_compared(rows: Sequence[Compared], asked: CompareOptions, out: Path) -> Path:
    """Writes `compare.json`."""
    out.mkdir(parents=True, exist_ok=True)
    value = {"stretch": asdict(asked.stretch), "repeats": asked.repeats, "rows": [asdict(row) for row in rows]}
    path = out / "compare.json"
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return path
