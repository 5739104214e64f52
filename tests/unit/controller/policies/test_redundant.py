"""A rule with the redundancy of least expected cost on top."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.class_latency import class_latency_s, machine_weights
from controller.compile import Setting
from controller.errors import ConfigError
from controller.policies.registry import make_policy
from tests.simulated import collages_of
from tests.strategies import random_observation
from tests.tiny import LARGE, MEDIUM, OD, RELAXED, SMALL, STRICT, tiny_setting

STATIC = "static:headroom=1.5"


def straggling_setting(slow: float = 8.0, **workload: Any) -> Setting:
    """One request in ten takes `slow` times as long as others; a pass of the large variant, a collage, 1.5 times."""
    setting = tiny_setting()
    cat = setting.catalog
    table = np.where(np.linspace(0.0, 1.0, cat.shapes.shape[1]) <= 0.9, 1.0, slow)
    shapes = np.stack([cat.shapes[0], table / ((table[1:] + table[:-1]) / 2.0).mean()])
    seconds = cat.service_s.copy()
    seconds[LARGE] = 1.5 * seconds[MEDIUM]
    accuracy = cat.accuracy.copy()
    accuracy[LARGE] = accuracy[SMALL]
    catalog = cat._replace(
        cells=np.array([1, 1, 9]),
        shapes=shapes,
        service_shape=np.ones_like(cat.service_shape),
        service_s=seconds,
        accuracy=accuracy,
    )
    collages = collages_of(setting.workload, LARGE)
    return replace(setting, catalog=catalog, workload=setting.workload._replace(**collages | workload))


def decided(setting: Setting, spec: str) -> Any:
    observation = random_observation(setting, 3, 1)
    observation.arrivals[:] = 300
    return make_policy(spec, setting).decide(observation)


def test_class_latency_is_the_mixture_of_the_planned_machines() -> None:
    setting = straggling_setting()
    fleet = np.zeros(setting.shape[:2])
    assert len(class_latency_s(setting, RELAXED, machine_weights(setting, RELAXED, fleet))) == 0
    fleet[SMALL, OD] = 2.0
    weights = machine_weights(setting, RELAXED, fleet)
    latency_s = class_latency_s(setting, RELAXED, weights)
    mean_s = setting.catalog.service_s[SMALL, OD, 1] + setting.workload.network_s[RELAXED, SMALL, OD]
    assert weights.sum() == weights[SMALL, OD] == 1.0
    assert latency_s.mean() == pytest.approx(mean_s, rel=0.01)
    assert np.quantile(latency_s, 0.97) > 4.0 * np.quantile(latency_s, 0.5)


def test_mode_follows_what_a_miss_and_a_wrong_answer_cost() -> None:
    slo_s = np.full(2, 4.0 * float(straggling_setting().catalog.service_s[MEDIUM, OD, 1]))
    setting = straggling_setting(slo_s=slo_s)
    own = decided(setting, STATIC)
    free = decided(setting, "redundant:rule=static,miss_value=0.0,wrong_value=1000.0")
    assert free.hedge_replaces.all()  # who is late stays late for long, so another copy in its place is less work
    assert (free.hedge_after_s > 0.0).all()
    np.testing.assert_array_equal(free.replicas, own.replicas)
    some = decided(setting, "redundant:rule=static,miss_value=30.0,wrong_value=1000.0")
    assert (some.hedge_after_s < np.inf).all()
    assert not some.hedge_replaces.any()
    dear = decided(setting, "redundant:rule=static,miss_value=1000.0,wrong_value=0.0")
    assert (dear.collage_variant == LARGE).all()
    assert (dear.collage_passes == 2).all()
    assert (dear.collage_after_s < slo_s).all()
    # Machines for the passes beside the rule's: 30 requests/s of either class, each ninth sends two of 0.15 s.
    passes_s = 2 * 2 * 30.0 * max(1.0 / 9.0, 0.1) * 0.15
    assert dear.replicas[0, LARGE].sum() == np.ceil(passes_s / 0.9)
    np.testing.assert_array_equal(dear.replicas[:, :LARGE], own.replicas[:, :LARGE])


def test_classes_whose_requests_never_miss_are_left_as_the_rule_plans_them() -> None:
    setting = straggling_setting(slow=1.0, slo_s=np.full(2, 100.0))
    own, plan = decided(setting, STATIC), decided(setting, "redundant:rule=static")
    for name in ("collage_variant", "hedge_after_s", "replicas"):
        np.testing.assert_array_equal(getattr(plan, name), getattr(own, name), err_msg=name)


def test_rules_plan_is_left_alone_so_that_the_rule_does_not_see_what_was_added() -> None:
    setting = straggling_setting(slo_s=np.full(2, 0.4))
    policy = make_policy("redundant:miss_value=1000.0", setting)
    observation = random_observation(setting, 3, 1)
    first = policy.decide(observation).replicas.copy()
    assert (policy.decide(observation).replicas <= 2 * first + 2).all()


def test_redundancy_that_rules_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="rule: expected another kind than redundant itself, got 'redundant'"):
        make_policy("redundant:rule=redundant", straggling_setting())


def test_hedge_after_a_percentile_of_the_planned_machines() -> None:
    from controller.policies.registry import PolicySpec

    setting = straggling_setting()
    settings = {"replicas": {"small@od": 2}, "redundancy": {"strict": {"hedge_after_percentile": 95.0}}}
    plan = make_policy(PolicySpec(kind="static", settings=settings), setting).decide(random_observation(setting, 3, 1))
    weights = machine_weights(setting, STRICT, np.array(plan.replicas[0], np.float64))
    expected = np.percentile(class_latency_s(setting, STRICT, weights), 95.0)
    assert plan.hedge_after_s[0, STRICT] == pytest.approx(expected)
