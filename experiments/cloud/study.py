"""The study of the cloud's edge: fleets and functions against stand-ins over HTTP, each value beside its bar."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.errors import UsageError, mismatch
from experiments.checks import Check, at_least, at_most
from experiments.cloud.aws_stand_in import stand_in
from experiments.cloud.function_measure import FunctionTimes, measure_function, rows_of
from experiments.cloud.lambda_stand_in import lambda_stand_in
from experiments.cloud.lifecycle import KINDS, Lifecycle, buys_of, run_lifecycle, terms_of
from experiments.cloud.live_account import account_file, with_credentials
from experiments.cloud.live_edge import LiveEdge, run_edge
from experiments.cloud.random_faults import Verdict, run_sequence
from experiments.signals import signals_interrupt

CONTRACT, LIFECYCLE, SEQUENCES, LIVE, FUNCTIONS = "contract", "lifecycle", "sequences", "live", "functions"
PARTS = (CONTRACT, LIFECYCLE, SEQUENCES, LIVE, FUNCTIONS)
"""Names of the parts, in their order."""

NUM_SEQUENCES = 200
_CONTRACT_TESTS = ("tests/cloud/test_ec2_behaviour.py", "tests/cloud/test_lambda_behaviour.py")
_COLD, _WARM = 5, 100
_SEQUENCES_EACH = 10
_LIVE_S = 60.0


@dataclass(frozen=True)
class CloudStudy:
    """What was measured; None and empty where a part was left out."""

    contract: str | None = None  # last line of the tests of the stand-ins
    lifecycle: Lifecycle | None = None
    sequences: tuple[Verdict, ...] = ()
    live: LiveEdge | None = None
    functions: tuple[FunctionTimes, ...] = ()


def run_study(
    out: Path, say: Callable[[str], None], names: Sequence[str] = (), num_sequences: int = NUM_SEQUENCES
) -> CloudStudy:
    """Makes all parts, or those that are named.

    Args:
        out: Folder of results.
        say: Prints a line of progress.
        names: Of parts; none: all.
        num_sequences: Random sequences of faults.

    Raises:
        UsageError: A name is none of a part.
        RunError: A live run fails, or a stand-in does not come up.
    """
    for name in names:
        if name not in PARTS:
            raise UsageError(mismatch("--only", f"one of {', '.join(PARTS)}", name))
    chosen = names or PARTS
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with signals_interrupt():
        if CONTRACT in chosen:
            say("testing the stand-ins against their tables")
            found[CONTRACT] = _contract()
        if LIFECYCLE in chosen:
            say("a fleet's life")
            with stand_in() as aws:
                found[LIFECYCLE] = run_lifecycle(aws)
        if SEQUENCES in chosen:
            found[SEQUENCES] = _sequences(num_sequences, say)
        if LIVE in chosen:
            found[LIVE] = run_edge(out / LIVE, _LIVE_S, say)
        if FUNCTIONS in chosen:
            found[FUNCTIONS] = _functions(out / FUNCTIONS, say)
    study = CloudStudy(**found)
    (out / "cloud.json").write_text(json.dumps(asdict(study), indent=1), encoding="utf-8")
    return study


def checks_of(study: CloudStudy) -> list[Check]:
    """Every value beside its bar."""
    found: list[Check] = []
    if study.contract is not None:
        is_whole = "passed" in study.contract and "failed" not in study.contract and "error" not in study.contract
        found.append(Check("rows of the stand-ins' tables, each with a test", study.contract, "all pass", is_whole))
    if study.lifecycle is not None:
        life = study.lifecycle
        told = f"bought {life.bought}, lost {life.lost}, replaced {life.replaced}, then {life.scaled_in}"
        found.append(Check("a fleet's life over HTTP", told, "as wanted", life.is_right))
        found.append(at_most("left of it", life.left, 0))
    if study.sequences:
        of = f" of {len(study.sequences)}"
        found += [
            at_least("random sequences of faults", len(study.sequences), NUM_SEQUENCES),
            at_most("of them with a machine bought twice", sum(v.bought > v.needed for v in study.sequences), 0, of),
            at_most("with a machine that lacks", sum(bool(v.missing) for v in study.sequences), 0, of),
            at_most("with a machine left over", sum(bool(v.left) for v in study.sequences), 0, of),
        ]
    if study.live is not None:
        found += _live_checks(study.live)
    for row in rows_of(study.functions):
        what = f"function of {row['variant']}, {row['memory_mb']} MB"
        cold = f"cold {row['cold_mean_s']:.3f} s ({row['cold_calls']}), warm {row['warm_mean_s'] * 1e3:.1f} ms"
        holds = row["cold_calls"] > 0 and row["warm_mean_s"] < row["cold_mean_s"]
        found.append(Check(what, f"{cold} (p99 {row['warm_p99_s'] * 1e3:.1f}, {row['warm_calls']})", "measured", holds))
    return found


def _live_checks(one: LiveEdge) -> list[Check]:
    difference = abs(one.billed_usd - one.charged_usd) / one.charged_usd if one.charged_usd else float("inf")
    calls = f" (of {one.requests} requests, {one.cold} cold, {one.refused} refused)"
    return [
        at_most("from a notice in the queue to the drain path", one.heard_s, 2.0, " s"),
        at_least(f"machines bought for a fleet of {one.first_fleet}", one.bought, one.first_fleet + 1),
        at_least("calls that overflowed to functions", one.calls, 1, calls),
        Check(
            "bill of a live run against its calls x price",
            f"{one.billed_usd:.9f} $ and {one.charged_usd:.9f} $",
            "equal",
            difference < 1e-9,
        ),
        at_least("attainment while a machine is taken and calls are refused", one.attainment * 100, 90.0, " %"),
        at_most("machines left after it", one.machines_left, 0),
        at_most("functions left after it", one.functions_left, 0),
        at_most("files of it with a secret", len(one.secrets), 0),
    ]


def _contract() -> str:
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *_CONTRACT_TESTS]
    root = Path(__file__).resolve().parents[2]
    if not all((root / name).is_file() for name in _CONTRACT_TESTS):
        return "not run: the tests are in the repository, not in the package"
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return next((line for line in reversed(done.stdout.splitlines()) if line.strip()), f"exit code {done.returncode}")


def _sequences(count: int, say: Callable[[str], None]) -> tuple[Verdict, ...]:
    found: list[Verdict] = []
    log = logging.getLogger("provisor.aws")
    level = log.level
    log.setLevel(logging.CRITICAL)  # faults are what is wanted here
    try:
        for begin in range(0, count, _SEQUENCES_EACH):
            # A stand-in lists for ever what was terminated, so an old one is slow.
            with stand_in() as aws:
                terms = terms_of(aws.plain_url)
                kinds = [(kind.instance_type, terms.subnets[kind.zone]) for kind in KINDS]
                for seed in range(begin, min(count, begin + _SEQUENCES_EACH)):
                    aws.empty()
                    found.append(run_sequence(aws, terms, buys_of(terms), kinds, seed))
            say(f"{len(found)} random sequences of faults, {sum(not one.is_right for one in found)} of them wrong")
    finally:
        log.setLevel(level)
    return tuple(found)


def _functions(out: Path, say: Callable[[str], None]) -> tuple[FunctionTimes, ...]:
    """Cold and warm calls of the demo's functions."""
    from functools import partial

    from controller.scenario import load_scenario
    from experiments.live_functions import made_functions
    from experiments.profiling import read_inputs
    from serving.aws.function_calls import FunctionCaller
    from serving.aws.terms import load_terms
    from serving.bring_your_own import model_specs

    catalog, inputs = load_scenario("demo").load_catalog(), read_inputs(None).values
    specs, _ = model_specs([variant.name for variant in catalog.variants], {})
    with lambda_stand_in() as running, with_credentials():
        terms = load_terms(account_file(out / "aws.yaml", running.url))
        with made_functions(terms, "study", catalog, specs, say) as wanted:
            caller = FunctionCaller(terms, _COLD)
            return tuple(measure_function(one, partial(caller.call, one.name), inputs, _COLD, _WARM) for one in wanted)
