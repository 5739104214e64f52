"""A sweep is read for its cheapest size and its plateau, and a size that does not hold a model is no point of it."""

import math

import pytest

from experiments.schemes.lambda_memory import RUNS, SIZES_MB, differ, footprint_gb
from experiments.schemes.memory_sweep import Point, verdict, verdicts


def sweep(*points, model="m"):
    return [Point("s", model, mb, usd, latency, latency, 0.0) for mb, usd, latency in points]


def test_a_dip_between_dearer_sizes_is_an_interior_minimum():
    found = verdict(sweep((512, 3.0, 4.0), (1024, 2.0, 2.0), (2048, 2.5, 1.9)))
    assert (found.cheapest_mb, found.is_interior, found.why) == (1024, True, "slower")
    assert found.last_step == pytest.approx(0.05)
    assert found.has_plateau


def test_the_smallest_size_that_fits_is_interior_where_smaller_ones_do_not():
    found = verdict(sweep((512, None, None), (1024, 2.0, 2.0), (2048, 2.5, 1.0)))
    assert (found.cheapest_mb, found.is_interior, found.why) == (1024, True, "does not fit")
    assert not found.has_plateau


@pytest.mark.parametrize("usd", [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)])
def test_an_end_of_the_sweep_is_not_interior(usd):
    assert not verdict(sweep((512, usd[0], 4.0), (1024, usd[1], 2.0), (2048, usd[2], 1.0))).is_interior


def test_a_sweep_of_one_size_is_refused():
    with pytest.raises(ValueError, match="m: expected at least two sizes that run, got 1"):
        verdict(sweep((512, None, None), (1024, 2.0, 2.0)))


def test_every_model_of_every_sweep_has_a_verdict():
    points = sweep((512, 1.0, 1.0), (1024, 2.0, 1.0)) + sweep((512, 2.0, 1.0), (1024, 1.0, 1.0), model="n")
    assert [(v.model, v.cheapest_mb) for v in verdicts(points)] == [("m", 512), ("n", 1024)]


def test_the_footprint_keeps_every_bound_that_was_measured():
    # Sizes of weights in GB: parameters x 4 bytes. AlexNet 61.1 M, VGG-16 138.4 M, ResNet-50 25.6 M parameters.
    assert footprint_gb(0.1022) <= 0.5
    assert 0.5 < footprint_gb(0.2444) <= 1.0
    assert 1.0 < footprint_gb(0.5534) <= 2.0


def test_every_published_run_is_of_a_size_of_the_sweep_and_faster_with_more_memory():
    for model in {run.model for run in RUNS}:
        own = [run for run in RUNS if run.model == model]
        assert [run.memory_mb for run in own] == [mb for mb in SIZES_MB if mb >= own[0].memory_mb]
        assert [run.run_s for run in own] == sorted((run.run_s for run in own), reverse=True)


def test_two_sizes_differ_where_the_gap_exceeds_two_standard_errors():
    one, other = (run for run in RUNS if run.model == "resnet50" and run.memory_mb in (2048, 8192))
    gap = 8192 * other.run_s - 2048 * one.run_s
    assert gap > 2 * math.hypot(2048 * one.run_error_s, 8192 * other.run_error_s)
    assert differ("resnet50", 2048, 8192)
    assert not differ("resnet50", 512, 1024)
