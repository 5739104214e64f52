"""Journals of the real decision path and simulator: they replay equal, and a stored one says what has changed.

`pytest tests/golden --update-golden` rewrites the stored journals and shows how many lines changed.
"""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from controller.journal import Journal
from controller.replay import replay_journal
from envs.world import WorldChoice
from experiments.simulate import simulate

GOLDEN = Path(__file__).parent / "journals"
POLICIES = ("mpc", "paragon")
TICKS = 60
# The decision path is compiled; libraries of another machine may round a logarithm's last bits differently.
FLOATS_REL = 1e-9

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # compiles every kernel once


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Journals of the tiny scenario's test day, one per policy."""
    made = {}
    for policy in POLICIES:
        out = tmp_path_factory.mktemp(policy)
        done = simulate("tiny", policy, choice=WorldChoice(days=(3, 3)), seed=1, ticks=TICKS, out=out)
        made[policy] = done.journals[0]
    return made


def lines(path: Path) -> list[Any]:
    values = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    values[0].pop("versions")
    return values


def same(recorded: Any, now: Any) -> bool:
    if isinstance(recorded, dict) and isinstance(now, dict):
        return recorded.keys() == now.keys() and all(same(recorded[key], now[key]) for key in recorded)
    if isinstance(recorded, list) and isinstance(now, list):
        return len(recorded) == len(now) and all(map(same, recorded, now))
    if isinstance(recorded, float) and isinstance(now, float):
        return math.isclose(recorded, now, rel_tol=FLOATS_REL, abs_tol=1e-12)
    return bool(recorded == now)


@pytest.mark.parametrize("policy", POLICIES)
def test_simulated_journal_replays_with_equal_decisions(journals: dict[str, Path], policy: str) -> None:
    replay = replay_journal(journals[policy])
    assert [str(difference) for difference in replay.differences] == []
    assert replay.ticks == TICKS


@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_writes_the_same_journal(journals: dict[str, Path], policy: str, tmp_path: Path) -> None:
    again = simulate("tiny", policy, choice=WorldChoice(days=(3, 3)), seed=1, ticks=TICKS, out=tmp_path)
    assert gzip.decompress(again.journals[0].read_bytes()) == gzip.decompress(journals[policy].read_bytes())


def test_another_policy_sees_the_same_requests(journals: dict[str, Path]) -> None:
    seen = [[tick.observation.arrivals.tolist() for tick in Journal(path).ticks()] for path in journals.values()]
    assert seen[0] == seen[1]
    assert any(arrivals != [[0, 0]] for arrivals in seen[0])


@pytest.mark.parametrize("policy", POLICIES)
def test_journal_is_the_stored_one(journals: dict[str, Path], policy: str, request: pytest.FixtureRequest) -> None:
    stored, now = GOLDEN / f"tiny-{policy}.jsonl.gz", lines(journals[policy])
    if request.config.getoption("--update-golden"):
        before = lines(stored) if stored.exists() else []
        changed = sum(not same(a, b) for a, b in zip(before, now, strict=False)) + abs(len(before) - len(now))
        stored.write_bytes(journals[policy].read_bytes())
        print(f"{stored.name}: {changed} of {len(now)} lines changed")
        return
    before = lines(stored)
    assert len(before) == len(now)
    different = [number for number, (a, b) in enumerate(zip(before, now, strict=True), start=1) if not same(a, b)]
    assert not different, f"first lines that changed: {different[:5]}; if that is meant, run with --update-golden"
