"""Availability of spot machines in a zone that comes and goes: the repair half of the machine-repair model."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from controller.arrays import F64, empty_actions, empty_plan
from envs.simulator import Simulator
from envs.supply import Supply
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of
from tests.theory.queues import ENVS, POOLS, SPOT, setting_of
from tests.theory.shapes import Shape, constant, exponential

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

TICK_S = 10.0
TICKS = 3_000


def zone_spans(stays_on: float, stays_off: float, ticks: int, seed: list[int]) -> F64:
    """A two-state Markov chain in ticks that begins in its stationary law; 1 while the zone is on, shape (ticks,)."""
    rng = np.random.default_rng(seed)
    spans = np.stack([rng.geometric(1.0 - stays_on, ticks), rng.geometric(1.0 - stays_off, ticks)], axis=1).ravel()
    is_on = rng.random() < (1.0 - stays_off) / (2.0 - stays_on - stays_off)
    states = np.arange(len(spans)) % 2 == (0 if is_on else 1)
    return np.repeat(states, spans if is_on else np.roll(spans, 1))[:ticks].astype(np.float64)


def served(
    name: str, stays_on: float, stays_off: float, launch_s: float, shape: Shape, notice_s: float
) -> tuple[F64, F64]:
    """Shares of ticks, by env, in which the zone is on and in which the one machine asked for serves.

    It is launched again in every tick in which there is none.
    """
    catalog = {"launch_s": np.full(len(POOLS), launch_s), "launch_shape": np.zeros(len(POOLS), np.int64)}
    catalog |= {"shapes": shape.table[None], "service_shape": np.zeros((1, len(POOLS)), np.int64)}
    catalog |= {"cold_shape": np.zeros((1, len(POOLS)), np.int64), "notice_s": np.full(len(POOLS), notice_s)}
    setting = setting_of(tick_s=TICK_S, catalog=catalog)
    length = TICKS + 50  # so that no env sees the next one's zone in its notice
    zone = np.concatenate(
        [zone_spans(stays_on, stays_off, length, [zlib.crc32(name.encode()), n]) for n in range(ENVS)]
    )
    supply = Supply(np.zeros((1, 1)), TICK_S, zone[None], TICK_S)
    simulator = Simulator(setting, supply, ENVS)
    simulator.reset(np.arange(ENVS), spot_start_s=np.arange(ENVS) * length * TICK_S)
    actions, plan = empty_actions(ENVS, setting.shape), empty_plan(ENVS, setting.shape)
    shares = np.zeros((ENVS, 1, 1, len(POOLS)))
    on, serving = np.zeros(ENVS), np.zeros(ENVS)
    seen = simulator.observation
    for tick in range(TICKS):
        exists = seen.ready[:, 0, SPOT] + seen.starting[:, 0, SPOT] + seen.doomed[:, 0, SPOT]
        actions.launch[:, 0, SPOT] = exists == 0
        simulator.apply(actions, plan, shares)
        simulator.advance()
        on += zone.reshape(ENVS, length)[:, tick + 1]
        serving += seen.ready[:, 0, SPOT] + seen.doomed[:, 0, SPOT]
    return on / TICKS, serving / TICKS


@pytest.mark.parametrize(
    ("stays_on", "stays_off", "launch_s", "notice_s"),
    [(0.98, 0.9, 10.0, 0.0), (0.98, 0.9, 55.0, 0.0), (0.9, 0.95, 21.0, 0.0), (0.9, 0.8, 30.0, 30.0)],
)
def test_a_machine_that_is_launched_again_at_once_serves_as_often_as_its_zone_allows(
    stays_on: float, stays_off: float, launch_s: float, notice_s: float
) -> None:
    name = f"zone {stays_on}/{stays_off} launch {launch_s:g} s notice {notice_s:g} s"
    on, serving = served(name, stays_on, stays_off, launch_s, constant(), notice_s)
    start_ticks, notice_ticks = math.ceil(launch_s / TICK_S), int(notice_s / TICK_S)
    hold(f"{name} on", mean_of(on), (1.0 - stays_off) / (2.0 - stays_on - stays_off), precision=0.02)
    theory = formulas.zone_availability(stays_on, stays_off, start_ticks, notice_ticks)
    hold(f"{name} serves", mean_of(serving), theory, precision=0.03)


def test_availability_averages_over_a_random_launch_time() -> None:
    stays_on, stays_off, shape = 0.95, 0.9, exponential()
    name = "zone 0.95/0.9 random launch"
    _, serving = served(name, stays_on, stays_off, 30.0, shape, notice_s=0.0)
    ticks = np.arange(1, int(3.0 * shape.table[-1]) + 2)
    chance = shape.tail((ticks - 1) / 3.0) - shape.tail(ticks / 3.0)  # of a launch that takes so many ticks
    assert chance.sum() == pytest.approx(1.0)
    theory = sum(
        p * formulas.zone_availability(stays_on, stays_off, int(n), 0) for n, p in zip(ticks, chance, strict=True)
    )
    hold(f"{name} serves", mean_of(serving), theory, precision=0.03)
