"""`provisor experiment simulator`: how far the simulator can be believed, and how fast it is.

Truth is measured by the suites that hold it to theory, to a peer, to hand-worked bills and to its laws, which are run
here; speed by the functions of `make bench`. Every value is measured anew; nothing is read from an earlier run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from controller.scenario import load_scenario
from experiments.checks import Check, at_least, at_most

SUITES = {
    "theory: queues with known solutions, tests": ("tests/theory",),
    "peer: the same scenarios in Ciw, tests": ("tests/peer",),
    "money: bills worked by hand, tests": ("tests/unit/envs/test_bills.py",),
    "laws: properties of the simulator, tests": (
        "tests/properties/test_simulator_laws.py",
        "tests/properties/test_random_streams.py",
    ),
    "event kernel: cases by hand and equality with the fast kernel, tests": (
        "tests/unit/envs/test_event_kernel.py",
        "tests/unit/envs/test_cascades.py",
        "tests/unit/envs/test_collages.py",
        "tests/unit/envs/test_workflows.py",
        "tests/unit/experiments/test_workflow_runs.py",
    ),
    "several routers: queues and credits by hand, tests": ("tests/unit/envs/test_routers.py",),
    "measured models and calibration, tests": (
        "tests/unit/experiments/test_profiling.py",
        "tests/unit/experiments/test_calibration.py",
        "tests/unit/experiments/test_fitting.py",
    ),
    "real inputs: recorded traces, prices and profiles, tests": (
        "tests/unit/traces/test_spot.py",
        "tests/unit/traces/test_readers.py",
        "tests/unit/controller/test_shipped_catalogs.py",
    ),
    "environments: checkers, data sheet, render, rollout, tests": (
        "tests/unit/envs/test_serving_env.py",
        "tests/unit/envs/test_registered_envs.py",
        "tests/unit/envs/test_datasheet.py",
        "tests/unit/envs/test_render.py",
        "tests/unit/envs/test_world_model.py",
    ),
}
"""What is run for each statement about truth, in a checkout: the tests are no part of the package."""

_ROOT = Path(__file__).resolve().parents[1]
_SECOND_START_S = 2.0
_BIG_DAYS, _BIG_RPS, _BIG_S = 30, 100.0, 30.0


def checks(say: Callable[[str], None]) -> Iterator[Check]:
    """Measures everything, one after the other.

    Args:
        say: Prints one line of progress.
    """
    for what, paths in SUITES.items():
        say(what)
        yield _suite(what, paths)
    say("speed of the kernels")
    yield from _speed()
    say("commands")
    yield from _commands()


def _suite(what: str, paths: tuple[str, ...]) -> Check:
    missing = [path for path in paths if not (_ROOT / path).exists()]
    if missing:
        return Check(what, f"no {missing[0]} here", "a checkout, all pass", holds=False)
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    told = ", ".join(f"{count} {name}" for name, count in counts.items()) or f"exit code {done.returncode}"
    return Check(what, told, "all pass, none skipped", done.returncode == 0 and set(counts) == {"passed"})


def _speed() -> Iterator[Check]:
    from envs.world import WorldChoice, build_world
    from experiments.bench import DENSE, dense, environment, kernels
    from experiments.bench_redundancy import redundant_kernel
    from experiments.bench_simpy import against_simpy
    from experiments.bench_slopes import slopes

    scenario = load_scenario("default")
    world = build_world(scenario, WorldChoice(days=scenario.splits.train))
    rates = dict(zip(DENSE, dense().values(), strict=True))
    for batch, bar in ((1, 20e6), (8, 50e6)):
        found = {servers: rate for (servers, size), rate in rates.items() if size == batch}
        slowest = min(rate for servers, rate in found.items() if servers <= 64)
        what = f"fast kernel, batch {batch}, slowest of 4 to 64 servers"
        yield at_least(what, slowest, bar, " M requests/s/core", scale=1e6)
        ratio = max(rate for servers, rate in found.items() if servers <= 64) / found[256]
        yield at_most(f"fast kernel, batch {batch}, best of 4 to 64 servers over 256", ratio, 2.0, "x")
    both = kernels(world)
    yield at_least(
        "event kernel, default scenario, every class hedged",
        both["event_kernel_requests_per_s_core"],
        1.5e6,
        " M requests/s/core",
        scale=1e6,
    )
    redundant = redundant_kernel(scenario)
    yield at_least(
        "event kernel, default scenario, hedged cascades and collages",
        redundant["redundant_kernel_requests_per_s_core"],
        1.5e6,
        " M requests/s/core",
        scale=1e6,
    )
    peer = against_simpy()
    patient = against_simpy(gives_up=False)
    what = f"fast kernel over SimPy, same queue with deadlines, same run (without: {patient['ratio']:g}x)"
    yield at_least(what, peer["ratio"], 300.0, "x")
    z = [f"{found['z_response']:g} (response), {found['z_missed']:g} (misses)" for found in (peer, patient)]
    yield Check(
        "fast kernel and SimPy give the same answer, with deadlines and without",
        f"z {z[0]}; {z[1]}",
        "|z| < 4",
        bool(peer["answers_agree"] and patient["answers_agree"]),
    )
    lines = slopes()
    yield at_least("cost of a tick is a line in its requests, R²", lines["requests_line_r2"], 0.98)
    of_tick = list(lines["tick_us_by_options"].values())
    what = f"a tick with 32 options over one ({lines['us_per_option']} us per option)"
    yield at_most(what, of_tick[-1] / of_tick[0], 2.0, "x")
    speed = environment(world)
    yield at_least("environment, 256 envs", speed["env_steps_per_s_core"], 12e3, " k ticks/s/core", scale=1e3)
    yield at_most("memory per env", speed["memory_per_env_kib"], 256.0, " KiB")


def _commands() -> Iterator[Check]:
    provisor = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"]
    short = [*provisor, "simulate", "default", "--policy", "mpc", "--ticks", "6", "--no-journal"]
    seconds = [_wall_s(short) for _ in range(3)]
    yield at_most("second start of `provisor simulate`", min(seconds[1:]), _SECOND_START_S, " s")
    folder = Path(tempfile.mkdtemp(prefix="provisor-"))
    try:
        path = folder / "month.yaml"
        path.write_text(_month(), encoding="utf-8")
        days = f"1:{_BIG_DAYS}"
        month = [*provisor, "simulate", str(path), "--policy", "mpc", "--days", days, "--no-journal"]
        requests = _BIG_DAYS * 86_400 * _BIG_RPS
        what = f"`provisor simulate`, {_BIG_DAYS} days at {_BIG_RPS:g} requests/s ({requests / 1e6:.0f} M requests)"
        yield at_most(what, _wall_s(month), _BIG_S, " s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _month() -> str:
    """The default scenario at twice its rate, for a month, with room for a fleet of twice the size."""
    import yaml

    scenario = load_scenario("default").model_dump(mode="json", exclude_unset=True)
    scenario["mean_rps"] = _BIG_RPS
    scenario["trace"]["days"] = _BIG_DAYS
    scenario["simulator"] = {"max_instances": 512, "max_requests_held": 12288}
    return yaml.safe_dump(scenario, sort_keys=False)


def _wall_s(words: list[str]) -> float:
    began_s = time.monotonic()
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[3:])} failed: {done.stderr.strip()[-300:]}")
    return time.monotonic() - began_s
