"""A service of mixed tolerances answered in three ways, on minutes of a generated day."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.statistics import Interval
from experiments.tiers.verdict import workload_checks
from experiments.tiers.workload import BUSY_CORES, LEAST_S, WAYS, study_workload
from tests.unit.controller.tiers.synthetic import population


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("PROVISOR_DATA", raising=False)
        return study_workload("synthetic", population(2000), lambda line: None, seeds=2, hours=0.05)


def test_all_ways_meet_the_same_requests_and_only_tiers_have_cheaper_rules(found):
    assert tuple(way.name for way in found.ways) == WAYS
    rules = [{tier.rule for tier in way.tiers} for way in found.ways]
    assert rules[0] == {"v4"}
    assert all(" -> " not in rule for rule in rules[1])
    assert any(" -> " in rule for rule in rules[2])
    assert found.ways[0].relative.estimate == 0.0
    assert [tier.name for tier in found.ways[2].tiers[:3]] == ["response-time-0", "cost-0", "response-time-1"]


def test_a_fast_version_is_thinned_and_paid_by_the_request_it_stands_for(found):
    best_s = LEAST_S / found.stands_for
    assert best_s == pytest.approx(0.08, rel=0.1)
    assert found.mean_rps == pytest.approx(BUSY_CORES / best_s)


def test_answers_are_as_right_as_promised_and_better_for_less_tolerance(found):
    for way in found.ways:
        for tier in way.tiers:
            assert not tier.is_broken
    by_name = {tier.name: tier for tier in found.ways[2].tiers}
    assert by_name["cost-0"].realised > by_name["cost-10"].realised


def test_tiers_must_be_cheaper_for_sure_and_keep_every_promise(found):
    def verdicts(study):
        return [check.holds for check in workload_checks(study)]

    tiers = found.ways[2]
    sure = replace(tiers, equal_usd_per_1000=0.0, relative=Interval(-0.5, -0.6, -0.4))
    kept = tuple(replace(tier, realised=tier.promised) for tier in tiers.tiers)
    ways = tuple(replace(way, tiers=kept) for way in (*found.ways[:2], sure))
    assert verdicts(replace(found, ways=ways)) == [True, True]
    unsure = replace(ways[2], relative=Interval(-0.5, -1.1, 0.1))
    assert verdicts(replace(found, ways=(*ways[:2], unsure))) == [False, True]
    small = replace(found, ways=(*ways[:2], unsure), is_parted=False)
    assert verdicts(small) == [True]  # so little is proved that its cost has no bar
    nowhere = replace(ways[2], equal_usd_per_1000=float("nan"), relative=Interval(*[float("nan")] * 3))
    assert verdicts(replace(found, ways=(*ways[:2], nowhere))) == [False, True]
    broken = replace(ways[2], tiers=(replace(kept[0], realised=kept[0].promised - 0.1), *kept[1:]))
    assert verdicts(replace(found, ways=(*ways[:2], broken))) == [True, False]


def test_the_page_and_the_plot_show_the_workload(found, tmp_path):
    from experiments.tiers.plots import draw
    from experiments.tiers.run import _heading, _tier_lines, _workload_lines

    assert [line[0] for line in _workload_lines(found)] == list(WAYS)
    assert len(_tier_lines(found)) == 30
    assert "one simulated request stands for" in _heading(found)
    assert [caption for caption, _ in draw([], [found], tmp_path)] == [
        "synthetic: cost of a service of mixed tolerances; rings: the policy's own settings"
    ]
    assert (tmp_path / "synthetic_workload.png").exists()
    assert np.isfinite(json.loads(json.dumps(found.ways[0].swept_attainment))).all()
