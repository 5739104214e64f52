"""A policy in shadow may drive when receipts expect its plans to be no worse than those carried out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import cli
from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.errors import UsageError
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.replay import make_header
from experiments.shadow import POLICYS_PLAN, read_shadow
from tests.tiny import tiny_setting


def expected(name: str, cost: float, attainment: float) -> dict[str, Any]:
    numbers = {"cost_usd": cost, "attainment": attainment, "accuracy": 0.75}
    errors = {f"{metric}_error": 0.0 for metric in numbers}
    return {"name": name, "replicas": {}, **numbers, **errors}


def journal_of(path: Path, costs: list[float], attained: float = 0.99, alike: list[int] = ()) -> Path:
    """The rule costs 1 and keeps 0.99 at every tick; the policy as given, over horizons of two ticks."""
    setting = tiny_setting()
    with JournalWriter(path, make_header(setting, "mpc", "mpc", (), "live")) as journal:
        for tick, cost in enumerate(costs):
            seen = empty_observation(1, setting.shape)
            seen.tick[0] = tick
            rest = empty_plan(1, setting.shape), empty_actions(1, setting.shape), np.zeros((1, 2, 3, 4))
            journal.write(seen, np.zeros((1, 0)), *rest)
            told: dict[str, Any] = {"tick": tick, "horizon_s": 20.0, "expected": [expected("chosen", 1.0, 0.99)]}
            if tick in alike:
                told["alike"] = {POLICYS_PLAN: "chosen"}
            else:
                told["expected"].append(expected(POLICYS_PLAN, cost, attained))
            journal.event("prediction", told)
    return path


def test_changes_are_those_of_the_policys_plans(tmp_path: Path) -> None:
    run = read_shadow(Journal(journal_of(tmp_path / "j.jsonl", [0.9, 0.94] * 10)))
    assert run.count == 20
    assert run.cost.estimate == pytest.approx(-0.08)
    assert run.attainment.estimate == pytest.approx(0.0)
    assert run.gate() == []


def test_plan_alike_counts_as_no_change(tmp_path: Path) -> None:
    run = read_shadow(Journal(journal_of(tmp_path / "j.jsonl", [0.8] * 20, alike=list(range(10)))))
    assert run.cost.estimate == pytest.approx(-0.1)


def test_dearer_or_less_reliable_plans_are_refused(tmp_path: Path) -> None:
    dearer = read_shadow(Journal(journal_of(tmp_path / "a.jsonl", [1.1, 1.12] * 10)))
    assert [line.partition(":")[0] for line in dearer.gate()] == ["cost"]
    later = read_shadow(Journal(journal_of(tmp_path / "b.jsonl", [0.9, 0.94] * 10, attained=0.97)))
    assert [line.partition(":")[0] for line in later.gate()] == ["attainment"]


def test_ticks_before_the_shadow_do_not_count(tmp_path: Path) -> None:
    run = read_shadow(Journal(journal_of(tmp_path / "j.jsonl", [2.0] * 10 + [0.9, 0.94] * 5)), from_tick=10)
    assert run.count == 10
    assert run.gate() == []


def test_journal_without_a_shadow_is_refused(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.jsonl", [0.9])
    with pytest.raises(UsageError, match="expected predictions of the policy's plan beside the rule's, got 1"):
        read_shadow(Journal(path))


def test_verb_exits_by_the_gate(tmp_path: Path) -> None:
    good, bad = journal_of(tmp_path / "a.jsonl", [0.9, 0.94] * 10), journal_of(tmp_path / "b.jsonl", [1.2, 1.1] * 10)
    assert cli.main(["why", str(good), "--shadow-gate"]) == 0
    assert cli.main(["why", str(bad), "--shadow-gate"]) == 1
    assert cli.main(["why", str(bad), "--shadow-gate", "--summary"]) == 2
