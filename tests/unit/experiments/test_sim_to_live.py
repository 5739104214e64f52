"""Live runs and the simulator are compared on the same requests, by bars that the live repeats set."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.journal_writer import JournalWriter
from controller.policies.registry import PolicySpec
from controller.replay import make_header
from controller.scenario import MeasuredSpans
from envs.world import Cell
from experiments import sim_to_live
from experiments.checks import Check
from experiments.live import LiveOptions, live_world, setting_at_speed, speeded
from experiments.rollout import prepare, roll
from experiments.simulate import JournalRecorder

SPANS = MeasuredSpans(start_s=2.0, swap_s=2.0)
CASE = sim_to_live.Case("toy", "two machines", 9.0, PolicySpec(kind="reactive", settings={}))
TICKS = 40
DURATION_S = TICKS * 10.0 / sim_to_live.SPEED


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder as a live run leaves it, but served by the simulator with the demo catalog's own figures."""
    options = LiveOptions(
        policy=CASE.policy,
        choice=sim_to_live._choice(CASE, tmp_path),
        is_replaying=True,
        duration_s=DURATION_S,
        speed=sim_to_live.SPEED,
    )
    scenario = speeded(options)
    setting = setting_at_speed(scenario, SPANS)
    world = replace(live_world(scenario, options, setting), setting=setting)
    start = prepare(world, [Cell(world.days[0], 0)])
    header = make_header(setting, CASE.policy, "reactive", (0,), "live", {}, SPANS)
    with JournalWriter(tmp_path / "journal.jsonl", header) as writer:
        # One line more than windows: a line tells of the window before its decision.
        roll(world, start, CASE.policy, [JournalRecorder(writer)], ticks=TICKS + 1)
    return tmp_path


def catalog_path(name: str = "demo") -> Path:
    return Path(sim_to_live.__file__).parents[1] / "controller" / "catalogs" / f"{name}.yaml"


def test_a_run_that_the_simulator_served_is_predicted_without_error(served: Path) -> None:
    live, simulated = sim_to_live._both(CASE, served, catalog_path(), DURATION_S)
    assert live == simulated
    assert live.cost > 0
    assert live.p50 > 0.1


def test_slower_services_than_those_served_are_noticed(served: Path, tmp_path: Path) -> None:
    text = catalog_path().read_text().replace("service_intercept_s: {value: 0.", "service_intercept_s: {value: 0.2")
    slower = tmp_path / "slower.yaml"
    slower.write_text(text)
    live, simulated = sim_to_live._both(CASE, served, slower, DURATION_S)
    assert sim_to_live._error("p50", simulated.p50, live.p50) > 0.1


def test_the_first_quarter_of_a_run_does_not_count(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, _ = sim_to_live._both(CASE, served, catalog_path(), DURATION_S)
    monkeypatch.setattr(sim_to_live, "WARM_SHARE", 0.0)
    longer, _ = sim_to_live._both(CASE, served, catalog_path(), DURATION_S)
    assert longer.cost > live.cost


def test_errors_are_relative_but_for_the_attainment() -> None:
    assert sim_to_live._error("cost", 1.1, 1.0) == pytest.approx(0.1)
    assert sim_to_live._error("attainment", 0.97, 0.99) == pytest.approx(0.02)


@pytest.mark.parametrize(("repeat_error", "bar"), [(0.0, 0.10), (0.05, 0.10), (0.10, 0.15), (0.5, 0.20)])
def test_the_bar_follows_the_repeats_up_to_twice_the_target(repeat_error: float, bar: float) -> None:
    assert sim_to_live.bar_of(0.10, repeat_error) == pytest.approx(bar)


def test_a_prediction_beyond_its_bar_falls_short() -> None:
    one = sim_to_live.Prediction("busy", "p50", live=0.2, simulated=0.24, error=0.2, repeat_error=0.02, bar=0.1)
    (check,) = sim_to_live.checks_of([one])
    assert check == Check(
        "busy: p50", "live 0.2, simulated 0.24: off 20.0 %", "<= 10.0 % (repeats differ by 2.0 %)", holds=False
    )
