"""Other policies on captured traffic: the same requests for all, differences in pairs, the gap to the run itself."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from controller import cli
from controller.errors import UsageError
from envs.world import WorldChoice
from experiments.recorded import Recorded, read_recorded
from experiments.simulate import simulate
from experiments.statistics import Interval
from experiments.what_if import POINTS, PolicyOutcome, WhatIf, _Blocks, _outcome, what_if

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # compiles every kernel once

DEARER = "mpc:headroom=3.0"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of the tiny scenario under the rule."""
    out = tmp_path_factory.mktemp("run")
    return simulate("tiny", "mpc", choice=WorldChoice(days=(3, 3)), seed=1, ticks=361, out=out).journals[0]


@pytest.fixture(scope="module")
def recorded(journal: Path) -> Recorded:
    return read_recorded(journal)


@pytest.fixture(scope="module")
def found(recorded: Recorded) -> WhatIf:
    return what_if(recorded, "mpc", [DEARER, "mpc"], 3)


def test_simulator_reproduces_the_run_it_was_captured_from(found: WhatIf) -> None:
    # The run was a simulation: what is left is other requests at the captured rate, and a start without its queues.
    assert abs(found.gap["cost"]) < 0.03
    assert abs(found.gap["attainment"]) < 0.01
    assert abs(found.gap["accuracy"]) < 0.01


def test_more_headroom_costs_more_in_every_pair(found: WhatIf) -> None:
    recorded, dearer = found.outcomes  # the recorded policy is not run twice
    assert (recorded.is_recorded, dearer.is_recorded) == (True, False)
    assert (found.unit, found.units) == ("seeds", 3)
    assert recorded.cost_change is None
    assert dearer.cost_change is not None
    assert dearer.cost_change.low > 0.1
    own = dearer.cost_usd_per_hour.estimate / recorded.cost_usd_per_hour.estimate - 1.0
    assert dearer.cost_change.estimate == pytest.approx(own)


def test_same_policy_under_another_name_differs_by_nothing(recorded: Recorded) -> None:
    again = what_if(recorded, "mpc", ["mpc:miss_multiplier=1.0"], 2).outcomes[1]
    for change in (again.cost_change, again.attainment_change, again.accuracy_change):
        assert change is not None
        assert (change.estimate, change.low, change.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_another_policy_is_needed(recorded: Recorded) -> None:
    with pytest.raises(UsageError, match="at least one other than the recorded policy"):
        what_if(recorded, "mpc", ["mpc"], 1)


def blocks(costs: list[list[float]], missed: float = 0.0) -> _Blocks:
    """Seeds x hours of one tick each: 100 requests in each, all answered at 0.8 but the missed ones."""
    array = np.array(costs)
    made = _Blocks(array.shape[0], array.shape[1], 1)
    made.cost[...], made.arrived[...], made.missed[...] = array, 100.0, missed
    made.answered[...], made.right[...] = 100.0 - missed, 0.8 * (100.0 - missed)
    return made


def test_intervals_are_over_hours_where_there_are_enough() -> None:
    reference = blocks([[1.0, 2.0, 3.0, 4.0, 5.0]] * 2)
    own = blocks([[0.9, 1.8, 2.7, 3.6, 4.5]] * 2, missed=1.0)
    outcome = _outcome("own", own, reference, hours=5.0)
    assert outcome.cost_usd_per_hour.estimate == pytest.approx(2.7)
    assert outcome.attainment.estimate == pytest.approx(0.99)
    assert outcome.accuracy.estimate == pytest.approx(0.8)
    assert outcome.cost_change is not None
    # A tenth less in every hour, dear or cheap: nothing is left to chance.
    assert (outcome.cost_change.low, outcome.cost_change.high) == pytest.approx((-0.1, -0.1))
    assert outcome.cost_usd_per_hour.low < 2.0


@pytest.mark.parametrize(
    ("cost", "attainment", "failing"),
    [
        ((-0.2, -0.1), (-POINTS / 2, 0.01), []),
        ((-0.2, 0.01), (0.0, 0.01), ["cost"]),
        ((-0.2, -0.1), (-2 * POINTS, 0.01), ["attainment"]),
        ((float("nan"), float("nan")), (0.0, 0.0), ["cost"]),  # one seed: nothing is known
    ],
)
def test_gate_passes_what_is_surely_no_worse(
    cost: tuple[float, float], attainment: tuple[float, float], failing: list[str]
) -> None:
    level = Interval(1.0, 1.0, 1.0)
    changes = [Interval(low, low, high) for low, high in (cost, attainment, (0.0, 0.0))]
    outcome = PolicyOutcome("p", False, level, level, level, *changes)
    assert [line.partition(":")[0] for line in outcome.gate()] == failing


def test_verb_prints_writes_and_exits_by_the_gate(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["what-if", str(journal), "--policy", DEARER, "--seeds", "2"]
    assert cli.main([*words, "--out", str(tmp_path), "--gate", DEARER]) == 1
    shown = capsys.readouterr().out
    assert "mpc (recorded)" in shown
    assert "the simulator has the recorded policy at" in shown
    assert "does not pass" in shown
    values = json.loads((tmp_path / "what-if.json").read_text(encoding="utf-8"))
    assert [one["policy"] for one in values["policies"]] == ["mpc", DEARER]
    with (tmp_path / "what-if.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    changes = [float(row["estimate"]) for row in rows if row["metric"] == "cost_change"]
    assert changes == [values["policies"][1]["cost_change"]["estimate"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "nobody"], "nobody"),
        (["--policy", DEARER, "--gate", "reactive"], "--gate: expected one of the policies"),
        (["--policy", DEARER, "--catalog", "demo"], "--catalog: expected the structure of the run's"),
    ],
)
def test_wrong_input_is_named(
    journal: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["what-if", str(journal), *words]) == 2
    assert message in capsys.readouterr().err
