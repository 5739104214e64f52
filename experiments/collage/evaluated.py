"""Policies on a simulated day of the measured workers: a rule, and the redundancy of least cost on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from pathlib import Path

from controller.arrays import F64
from experiments.collage.model import FULL
from experiments.collage.networks import Network, collages
from experiments.collage.workers import Workers, write_workers

RATE_RPS, SLO_S = 30.0, 0.5
POLICIES = ("mpc", "redundant:miss_value=10.0", "redundant:miss_value=10.0,wrong_value=1000.0")
"""The rule; the same with redundancy, a miss worth ten requests; the same where a wrong answer is worth a thousand."""

_DAY = 3


def evaluate_policies(
    directory: Path, latency_s: F64, cells: int, networks: Sequence[Network]
) -> tuple[tuple[dict[str, str], ...], tuple[str, ...]]:
    """Lines of `provisor evaluate` by column, and how redundant each policy was, in words.

    Args:
        directory: The scenario is written there.
        latency_s: The measured latencies.
        cells: Of the collage.
        networks: Whose accuracy and work count.
    """
    from controller.scenario import load_scenario
    from envs.world import WorldChoice, build_world
    from experiments.evaluate import evaluate
    from experiments.summary import redundancy_lines, summarise, summary_cells

    one, single = next(
        pair for pair in collages(networks) if (pair[0].task, pair[0].form, pair[0].w) == ("digits", FULL, isqrt(cells))
    )
    accuracy = (single.accuracy, one.accuracy)
    workers = Workers(RATE_RPS, cells, one.pass_ratio(single), slo_s=SLO_S, accuracy=accuracy, machines=64)
    path = write_workers(directory, latency_s, workers)
    rows = evaluate([build_world(load_scenario(path), WorldChoice(days=(_DAY, _DAY)))], POLICIES, [0]).rows
    return tuple(summary_cells(line) for line in summarise(rows)), tuple(redundancy_lines(rows))
