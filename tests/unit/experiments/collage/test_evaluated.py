"""Policies on the measured workers: what they send redundantly is in the rows that evaluate prints."""

import numpy as np
import pytest

from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.collage.workers import Workers, write_workers
from experiments.redundancy_shares import BY_COLLAGE, EXTRA
from experiments.rollout import prepare, roll
from experiments.summary import redundancy_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

CALM = "static:headroom=3.0"


def rows_of(tmp_path, *policies):
    latency_s = np.random.default_rng(1).uniform(0.1, 0.2, 2000)
    latency_s[:60] += 0.5
    workers = Workers(30.0, 9, 0.8, slo_s=0.5, accuracy=(0.99, 0.98), machines=64)
    path = write_workers(tmp_path, latency_s, workers)
    world = build_world(load_scenario(path), WorldChoice(days=(3, 3)))
    start = prepare(world, world.cells((0,)))
    named = {"policy": "", "trace": "", "day": 3, "seed": 0}
    return [roll(world, start, policy, ticks=12).row(0, **named | {"policy": policy}) for policy in policies]


def test_row_tells_share_of_requests_by_mode_and_what_was_sent_for_them(tmp_path) -> None:
    redundant = "redundant:rule=static,miss_value=10.0"
    plain, found = rows_of(tmp_path, CALM, redundant)
    assert plain.redundancy is None
    assert found.requests == plain.requests
    assert found.attainment > plain.attainment
    assert sum(share for mode, share in found.redundancy.items() if mode not in (EXTRA, BY_COLLAGE)) == pytest.approx(1)
    assert 0.0 < found.redundancy[EXTRA] < 1.0
    (line,) = redundancy_lines([plain, found])
    assert line.startswith(f"{redundant}: redundancy by share of requests: ")
