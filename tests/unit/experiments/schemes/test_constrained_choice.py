"""The aware choice is the cheapest that meets both bounds; the naive one ignores one of them."""

import pytest

from experiments.schemes.constant_load import silent
from experiments.schemes.constrained_choice import (
    Priced,
    cheapest,
    fastest,
    iso_accuracy,
    iso_latency,
    most_accurate,
    priced_options,
    saving,
)
from tests.tiny import tiny_catalog


def priced(model, pool, accuracy, idle_s, usd, latency_s=1.0):
    return Priced(model, pool, accuracy, idle_s, latency_s, 1, usd)


SMALL = priced("small", "cpu", 0.70, 0.1, 1.0)
LARGE = priced("large", "cpu", 0.80, 0.4, 4.0)
LARGE_GPU = priced("large", "gpu", 0.80, 0.05, 6.0)
OPTIONS = [SMALL, LARGE, LARGE_GPU]


def test_the_aware_choice_is_the_cheapest_accurate_enough():
    assert cheapest(OPTIONS, 0.6) is SMALL
    assert cheapest(OPTIONS, 0.75) is LARGE
    assert cheapest(OPTIONS, 0.9) is None


def test_of_equally_cheap_options_the_more_accurate_is_taken():
    twin = priced("medium", "cpu", 0.75, 0.2, 1.0 + 1e-12)
    assert cheapest([SMALL, twin], 0.6) is twin


def test_the_naive_choices_look_at_one_figure_alone():
    assert most_accurate(OPTIONS) is LARGE
    assert fastest(OPTIONS) is LARGE_GPU


def test_within_one_latency_the_naive_choice_pays_for_accuracy_nobody_asked_for():
    low, high = iso_latency(OPTIONS, 1.0, (0.6, 0.75))
    assert (low.aware, low.naive) == (SMALL, LARGE)
    assert low.saving == pytest.approx(0.75)
    assert (high.aware, high.saving) == (LARGE, 0.0)
    assert high.typical_usd == pytest.approx(5.0)
    # (1 + 4) against (4 + 4).
    assert saving([low, high]) == pytest.approx(1 - 5 / 8)


def test_above_one_accuracy_the_naive_choice_pays_for_speed_nobody_asked_for():
    tight = priced("large", "gpu", 0.80, 0.05, 7.0, latency_s=0.2)
    strict, relaxed = iso_accuracy([*OPTIONS, tight], 0.75, (0.2, 1.0))
    assert (strict.aware, strict.naive) == (tight, tight)
    assert (relaxed.aware, relaxed.naive) == (LARGE, LARGE_GPU)
    # (7 + 4) against (7 + 6).
    assert saving([strict, relaxed]) == pytest.approx(1 - 11 / 13)


def test_what_no_option_can_do_is_not_asked():
    assert iso_latency(OPTIONS, 1.0, (0.9,)) == []
    assert iso_accuracy(OPTIONS, 0.75, (0.01,)) == []


def test_options_are_priced_without_spot_and_under_bounds_that_they_keep():
    found = priced_options(tiny_catalog(), (0.15, 1.0), hours=0.02, say=silent)
    assert {option.pool for option in found} <= {"od", "fn"}
    within = {(o.model, o.pool) for o in found if o.latency_s == 0.15}
    assert within <= {("small", "od"), ("medium", "od"), ("small", "fn")}
    # 50 requests/s of the small variant, 20 on a machine: three or more of 0.36 $/h.
    small = next(o for o in found if (o.model, o.pool, o.latency_s) == ("small", "od", 1.0))
    assert small.machines >= 3
    assert small.usd_per_million == pytest.approx(small.machines * 0.36 / 3600 / 50 * 1e6, rel=0.15)
