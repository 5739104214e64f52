"""The script of the learning loop: every step in its order, and an exit code for every way it can end."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "scripts" / "retrain-and-promote.sh"

POLICY = "out/train/policy.provisor"
STUB = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
  *"--last --json") echo '{"tick": 41}' ;;
esac
for fault in $FAULTS; do
  case "$*" in
    *"${fault%=*}"*) exit "${fault#*=}" ;;
  esac
done
exit 0
"""


def run(tmp_path: Path, *words: str, faults: str = "") -> tuple[int, list[str], str]:
    """Exit code, what was called of `provisor`, and what was said; a fault is WORD=CODE."""
    stub, calls = tmp_path / "provisor", tmp_path / "calls"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)
    calls.write_text("", encoding="utf-8")
    environment = os.environ | {"PROVISOR": str(stub), "CALLS": str(calls), "FAULTS": faults}
    done = subprocess.run(
        [str(SCRIPT), *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    return done.returncode, calls.read_text(encoding="utf-8").splitlines(), done.stderr


def loop(tmp_path: Path, *more: str, faults: str = "") -> tuple[int, list[str], str]:
    return run(tmp_path, "live.jsonl", "out", "--shadow-s", "0", *more, faults=faults)


def test_steps_follow_each_other_up_to_the_promotion(tmp_path: Path) -> None:
    code, calls, _ = loop(tmp_path, "--like", "RUN.yaml", "--steps", "64", "--seeds", "3", "--", "--run", "runs/serve")
    assert code == 0
    assert calls == [
        "capture live.jsonl --write-run --out out/captured --force --like RUN.yaml",
        "train out/captured/run.yaml --out out/train --steps 64",
        f"what-if live.jsonl --policy {POLICY} --gate {POLICY} --seeds 3 --out out/what-if",
        "mode shadow --run runs/serve",
        f"policy push {POLICY} --run runs/serve",
        "why live.jsonl --last --json",
        "why live.jsonl --shadow-gate --from-tick 41",
        "mode active --run runs/serve",
    ]


def test_policy_that_is_not_better_on_the_captured_traffic_is_never_pushed(tmp_path: Path) -> None:
    code, calls, said = loop(tmp_path, faults="what-if=1")
    assert code == 3
    assert calls[-1].startswith("what-if")
    assert "nothing was pushed" in said


def test_policy_that_does_worse_in_shadow_stays_there(tmp_path: Path) -> None:
    code, calls, _ = loop(tmp_path, faults="--shadow-gate=1")
    assert code == 4
    assert "mode active" not in calls


@pytest.mark.parametrize("fault", ["capture=2", "train=1", "what-if=2", "push=1", "shadow=2", "--json=2", "active=1"])
def test_step_that_fails_ends_the_loop_and_is_named(tmp_path: Path, fault: str) -> None:
    code, calls, said = loop(tmp_path, faults=fault)
    assert code == 1
    word, _, number = fault.partition("=")
    assert word in calls[-1]
    assert f"failed with exit code {number}" in said


def test_loop_stops_where_it_is_asked_to(tmp_path: Path) -> None:
    code, calls, _ = loop(tmp_path, "--until", "what-if")
    assert code == 0
    assert [call.split()[0] for call in calls] == ["capture", "train", "what-if"]


@pytest.mark.parametrize(
    "words", [(), ("live.jsonl",), ("a", "b", "--seeds"), ("a", "b", "--until", "noon"), ("a", "b", "c")]
)
def test_wrong_usage_exits_with_two_and_says_how(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, calls, said = run(tmp_path, *words)
    assert (code, calls) == (2, [])
    assert "retrain-and-promote.sh JOURNAL OUT" in said
