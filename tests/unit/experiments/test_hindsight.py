"""The hindsight bound: exact where it can be worked out, below every run, and moved by what it should be moved by."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller import cli
from controller.compile import Setting
from controller.errors import RunError, UsageError
from controller.policies.registry import PolicySpec
from controller.scenario import load_scenario
from envs.world import Cell, World, build_world
from experiments import hindsight
from experiments.hindsight import Bound, RunRecorder, bound_of_run, expected_arrivals, hindsight_bound
from experiments.relaxation import Prices, least_usd, narrowed, prices_of, state, ways_used
from experiments.relaxed_cell import relax
from experiments.rollout import Start, prepare, roll
from experiments.stretches import stretched
from tests.simulated import setting_with
from tests.tiny import FN, MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT

HOUR_TICKS = 360
CELL = Cell(1, 0)
MACHINE_USD = 0.36 / 3600  # of a second on demand
NO_FLOOR = np.array([np.nan, np.nan])
NO_MISS = np.zeros(2)
LEFT = 25 * 10 + 25 * 20  # may still wait at the end: an SLO and one service, in whole ticks, of each class's 25/s


def only(*options: tuple[int, int], **catalog: Any) -> Setting:
    """The tiny setting in which every class may use these options alone."""
    base = setting_with()
    allowed = np.zeros_like(base.workload.allowed)
    for v, p in options:
        allowed[:, v, p] = True
    return setting_with(catalog=catalog, workload={"allowed": allowed, "overflow_option": np.array([-1, -1])})


def world_of(setting: Setting, rate_rps: float = 50.0, spot_share: Any = 1.0) -> World:
    """A day at a constant rate, and a market that offers the same share in both zones."""
    share = np.broadcast_to(np.asarray(spot_share, np.float64), (2, 8640)).copy()
    return World(
        setting=setting,
        trace_name="constant",
        scale=1.0,
        rate_rps=np.full((1, 8640), rate_rps),
        bin_s=10.0,
        spot_share=share,
        spot_gap_s=10.0,
        days=(1,),
    )


def hour(world: World, **given: Any) -> Bound:
    """Bound of the first hour without misses or floors, unless given."""
    return hindsight_bound(world, CELL, **({"misses": NO_MISS, "accuracy": NO_FLOOR, "ticks": HOUR_TICKS} | given))


@pytest.mark.parametrize("step_s", [10.0, 60.0, 300.0, 3600.0])
def test_a_constant_rate_on_one_option_costs_its_work(step_s: float) -> None:
    found = hour(world_of(only((SMALL, OD))), step_s=step_s)
    assert found.cost_usd == pytest.approx((50 * 3600 - LEFT) / 20 * MACHINE_USD, rel=1e-6)
    assert found.margin_usd == 0.0  # service times are constant


def test_a_rise_pays_for_the_start_of_what_it_needs() -> None:
    arrivals = np.zeros((2, HOUR_TICKS))
    arrivals[:, HOUR_TICKS // 2 :] = 250.0
    found = hour(world_of(only((SMALL, OD))), arrivals=arrivals)
    # Work is spread evenly over the half hour, so that few machines start: for 70 s, less one longest service (0.2 s).
    work_s = (50 * 1800 - LEFT) / 20
    assert found.cost_usd == pytest.approx((work_s + work_s / 1800 * (70 - 0.2)) * MACHINE_USD, rel=1e-6)


def test_a_fall_pays_the_release_lag() -> None:
    arrivals = np.zeros((2, HOUR_TICKS))
    arrivals[:, : HOUR_TICKS // 2] = 250.0
    with_lag = only((SMALL, OD), release_lag_s=np.full(4, 5.0))
    expected = (50 * 1800 / 20 + 2.5 * 5) * MACHINE_USD
    assert hour(world_of(with_lag), arrivals=arrivals).cost_usd == pytest.approx(expected, rel=0.01)


def test_accuracy_is_bought_by_mixing() -> None:
    world = world_of(only((SMALL, OD), (MEDIUM, OD)))
    work = (50 * 3600 - LEFT) * MACHINE_USD
    # Medium (0.76) does 10/s and small (0.70) 20/s: half of each has a mean of 0.73.
    for floor, seconds in ((0.70, 1 / 20), (0.73, (1 / 20 + 1 / 10) / 2), (0.76, 1 / 10)):
        found = hour(world, accuracy=np.array([floor, floor]))
        assert found.cost_usd == pytest.approx(work * seconds, rel=1e-6)


def test_answers_that_came_late_may_have_brought_the_accuracy() -> None:
    world = world_of(only((SMALL, OD), (MEDIUM, OD)))
    given = {"misses": np.array([900.0, 900.0]), "accuracy": np.array([0.71, 0.71])}
    assert hour(world, **given).cost_usd < hour(world, **given, late=NO_MISS).cost_usd


def test_spot_serves_only_while_its_zone_offers_it() -> None:
    setting = only((SMALL, OD), (SMALL, SPOT_A))
    offered = np.arange(8640) >= HOUR_TICKS // 2
    closed, half, open_ = (hour(world_of(setting, spot_share=share)).cost_usd for share in (0.0, offered, 1.0))
    assert open_ == pytest.approx(closed * 0.108 / 0.36, rel=1e-6)
    # Grace of a tick opens the market within the last closed step, so 29 steps of 60 s are on demand, less what may
    # wait for spot; then 2.5 machines start there.
    on_demand_s, spot_s = (50 * 1740 - LEFT) / 20, 50 * 1860 / 20 + 2.5 * (70 - 0.2)
    assert half == pytest.approx((on_demand_s * 0.36 + spot_s * 0.108) / 3600, rel=1e-6)


def test_serverless_costs_its_call_and_no_machine() -> None:
    found = hour(world_of(only((SMALL, FN))))
    # 0.1 s x 1.5 GB; reserved, at 9.72e-6 for use and 4.17e-6 for 10 of 13.1 s at most, it is cheaper than 1.67e-5.
    rate = 9.7222e-6 + 4.1667e-6 * 10 / (10 + 0.1 + 3)
    assert found.cost_usd == pytest.approx((50 * 3600 - LEFT) * (0.15 * rate + 2e-7), rel=1e-6)


def test_more_requests_cost_more_and_permitted_misses_less() -> None:
    world = world_of(setting_with())
    at = {rate: hour(world_of(setting_with(), rate)).cost_usd for rate in (40.0, 50.0, 60.0)}
    assert at[40.0] < at[50.0] < at[60.0]
    some = hour(world, misses=np.array([1000.0, 1000.0])).cost_usd
    assert some < hour(world, misses=np.array([500.0, 500.0])).cost_usd < at[50.0]
    every = expected_arrivals(world, CELL, HOUR_TICKS).sum(axis=1)
    assert hour(world, misses=every).cost_usd == pytest.approx(0.0, abs=1e-9)
    assert hour(world, misses=None, attainment=0.99).cost_usd < at[50.0]


def test_coarser_steps_bound_lower() -> None:
    rng = np.random.default_rng(3)
    world = world_of(setting_with())
    arrivals = rng.poisson(250.0 * (1.0 + 0.8 * np.sin(np.arange(HOUR_TICKS) / 20)), (2, HOUR_TICKS)).astype(np.float64)
    costs = [hour(world, arrivals=arrivals, step_s=step_s).cost_usd for step_s in (10.0, 60.0, 600.0)]
    assert costs[0] >= costs[1] - 1e-6 >= costs[2] - 2e-6


def data(world: World) -> Any:
    counts = expected_arrivals(world, CELL, HOUR_TICKS)
    floors, misses = np.array([0.73, 0.79]), np.array([500.0, 900.0])
    return relax(world, CELL, counts, 6, misses, floors, misses / 2)


def test_whatever_the_prices_are_the_bound_stays_below_the_optimum() -> None:
    relaxed = data(world_of(setting_with(), spot_share=np.arange(8640) % 90 < 60))
    program, rows = state(relaxed)
    found = program.solve_interior()
    optimum = found.objective * relaxed.unit_usd
    prices = prices_of(relaxed, rows, found)
    assert least_usd(relaxed, prices) == pytest.approx(optimum, rel=1e-6)
    rng = np.random.default_rng(0)
    seen = []
    for spread in (0.01, 0.1, 0.5, 3.0):
        for _ in range(25):
            noisy = Prices(*(part * np.exp(spread * rng.standard_normal(part.shape)) for part in vars(prices).values()))
            seen.append(least_usd(relaxed, noisy))
    assert max(seen) <= optimum * (1 + 1e-9)
    assert min(seen) < 0.9 * optimum  # they did differ
    none = Prices(*(np.zeros_like(part) for part in vars(prices).values()))
    assert least_usd(relaxed, none) <= optimum


def test_ways_that_the_solver_is_not_shown_still_count() -> None:
    relaxed = data(world_of(setting_with()))
    kept = ways_used(relaxed)
    assert 0 < kept.sum() < len(kept)
    few = narrowed(relaxed, kept)
    program, rows = state(few)
    found = program.solve_interior()
    assert least_usd(relaxed, prices_of(few, rows, found)) == pytest.approx(
        found.objective * relaxed.unit_usd, rel=0.01
    )
    # Shown only the dearest ways, a solver finds high prices; the bound knows that there are cheaper ones.
    dear = narrowed(relaxed, relaxed.pool < 0)
    program, rows = state(dear)
    found = program.solve_interior()
    own = least_usd(dear, prices_of(dear, rows, found))
    program, _ = state(relaxed)
    optimum = program.solve_interior().objective * relaxed.unit_usd
    assert least_usd(relaxed, prices_of(dear, rows, found)) <= optimum * (1 + 1e-9)
    assert own > optimum


@pytest.mark.parametrize("shown", ["dearest", "too weak for the floor"])
def test_a_bad_screen_lowers_no_bound(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(setting_with())
    given: dict[str, Any] = {"accuracy": np.array([0.73, 0.75]), "misses": np.array([500.0, 900.0])}
    expected = hour(world, **given)
    monkeypatch.setattr(hindsight, "SCREENED_STEPS", 1)
    screen = {
        "dearest": lambda relaxed: relaxed.pool < 0,
        "too weak for the floor": lambda relaxed: (relaxed.pool == OD) & (relaxed.accuracy <= 0.7),
    }
    monkeypatch.setattr(hindsight, "ways_used", screen[shown])
    found = hour(world, **given)
    assert found.cost_usd == pytest.approx(expected.cost_usd, rel=0.003)
    assert found.gap_usd == pytest.approx(0.0, abs=0.003 * expected.cost_usd)


def test_a_full_machine_is_near_its_bound_and_a_wrong_bound_is_seen() -> None:
    world = world_of(only((SMALL, OD)), rate_rps=54.0)
    replicas = np.zeros((1, 3, 4), np.int64)
    replicas[0, SMALL, OD] = 3
    start = Start((CELL,), world.history([CELL]), replicas)
    run = RunRecorder()
    spec = PolicySpec(kind="static", settings={"replicas": {"small@od": 3}})
    cost = float(roll(world, start, spec, [run], ticks=HOUR_TICKS).spend_usd.sum())
    assert cost == pytest.approx(3 * 3600 * MACHINE_USD)
    found = bound_of_run(world, CELL, run)
    assert 0.88 * cost < found.cost_usd <= cost  # 54 of 60/s
    # Had a machine been thought to do a quarter less, the law below would not hold.
    slower = world.setting.catalog.service_s * 1.25
    wrong = replace(world, setting=replace(world.setting, catalog=world.setting.catalog._replace(service_s=slower)))
    assert bound_of_run(wrong, CELL, run).cost_usd > cost


POLICIES = ("static", "mpc", "reactive", "reactive:spot_share=1.0", "mixed")


@pytest.mark.parametrize("scenario", ["tiny", "demo"])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_run_is_cheaper_than_its_bound(scenario: str, policy: str) -> None:
    loaded = load_scenario(scenario)
    busy = loaded.model_copy(update={"mean_rps": 30.0}) if scenario == "tiny" else loaded
    world = stretched(build_world(busy), 1, 3600.0, seed=5)
    cells = world.cells([0])
    run = RunRecorder()
    tally = roll(world, prepare(world, cells), policy, [run])
    cost = float(tally.spend_usd.sum())
    for step_s in (20.0, 60.0):
        found = bound_of_run(world, cells[0], run, step_s=step_s)
        assert 0.05 * cost < found.cost_usd <= cost
        assert found.gap_usd <= 0.001 * cost


def test_a_run_is_bounded_by_what_it_did() -> None:
    world = world_of(setting_with())
    run = RunRecorder()
    tally = roll(world, prepare(world, [CELL]), "mpc", [run], ticks=HOUR_TICKS)
    np.testing.assert_array_equal(run.arrivals(0).sum(axis=1), tally.arrivals[0])
    np.testing.assert_array_equal(run.of_class("missed", 0), tally.missed[0])
    own = bound_of_run(world, CELL, run)
    accuracy = tally.accuracy_sum[0] / tally.answered[0]
    given = {"misses": tally.missed[0].astype(np.float64), "arrivals": run.arrivals(0)}
    best = hindsight_bound(world, CELL, **given, accuracy=np.minimum(accuracy + 0.01, 0.82))
    assert best.cost_usd > own.cost_usd


def test_runs_with_redundant_answers_are_not_bounded() -> None:
    world = world_of(setting_with())
    spec = PolicySpec(kind="static", settings={"redundancy": {"strict": {"hedge_after_s": 0.5}}})
    with pytest.raises(UsageError, match="one replica"):
        roll(world, prepare(world, [CELL]), spec, [RunRecorder()], ticks=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step_s": 15.0}, "step_s: expected a multiple of the tick"),
        ({"arrivals": np.zeros((3, 5))}, "arrivals: expected an array of 2 classes by ticks"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hour(world_of(setting_with()), **given)


def test_promises_that_nothing_keeps_are_refused() -> None:
    quota = np.array([1, 1, 1, 50])
    setting = only((SMALL, OD), quota=quota)
    with pytest.raises(RunError, match="some fleet within the limits"):
        hour(world_of(setting))


def test_the_command_prints_each_day_beside_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["experiment", "bound", "tiny", "--policy", "reactive", "--days", "2:3", "--ticks", "60", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [row["day"] for row in rows] == [2, 3]
    assert all(0 < row["bound_usd"] <= row["cost_usd"] for row in rows)
    assert rows[0]["ratio"] == pytest.approx(rows[0]["bound_usd"] / rows[0]["cost_usd"])


def test_classes_have_their_own_waiting_span() -> None:
    relaxed = data(world_of(setting_with()))
    assert relaxed.waiting[STRICT, 5] == pytest.approx(250.0)
    assert relaxed.waiting[RELAXED, 5] == pytest.approx(500.0)
