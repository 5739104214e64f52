"""A static fleet with redundancy written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.compile import Setting
from controller.errors import ConfigError
from controller.policies.registry import PolicySpec, make_policy
from tests.simulated import collages_of
from tests.strategies import random_observation
from tests.tiny import LARGE, MEDIUM, RELAXED, SMALL, STRICT, tiny_setting


def setting_with_collages() -> Setting:
    setting = tiny_setting()
    catalog = setting.catalog._replace(cells=np.array([1, 1, 4]))
    return replace(setting, catalog=catalog, workload=setting.workload._replace(**collages_of(setting.workload, LARGE)))


def plan_of(**redundancy: Any) -> Any:
    spec = PolicySpec(kind="static", settings={"replicas": {"small@od": 2}, "redundancy": redundancy})
    setting = setting_with_collages()
    return make_policy(spec, setting).decide(random_observation(setting, 3))


def test_each_class_gets_the_redundancy_written_for_it() -> None:
    plan = plan_of(
        strict={"collage": {"variant": "large", "after_s": 0.4}},
        relaxed={
            "hedge_after_s": 2.0,
            "cascade": {"variants": ["small", "medium"], "thresholds": [0.7], "concurrent": True},
        },
    )
    assert (plan.collage_variant[:, STRICT] == LARGE).all()
    assert (plan.collage_after_s[:, STRICT] == 0.4).all()
    assert (plan.hedge_after_s[:, STRICT] == np.inf).all()
    assert (plan.collage_variant[:, RELAXED] == -1).all()
    assert (plan.hedge_after_s[:, RELAXED] == 2.0).all()
    assert (plan.cascade_variant[:, RELAXED] == [SMALL, MEDIUM, -1]).all()
    assert (plan.cascade_threshold[:, RELAXED] == [0.7, 0.0]).all()
    assert plan.cascade_concurrent[:, RELAXED].all()


def test_a_request_can_be_sent_anew_alone_or_beside_a_collage_that_two_workers_make() -> None:
    plan = plan_of(
        strict={"collage": {"variant": "large", "after_s": 0.4, "passes": 2}, "resend_after_s": 0.6},
        relaxed={"resend_after_s": 2.0},
    )
    assert plan.hedge_after_s[0].tolist() == [0.6, 2.0]
    assert plan.hedge_replaces.all()
    assert plan.collage_passes[0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("redundancy", "message"),
    [
        ({"nobody": {"hedge_after_s": 1.0}}, r"redundancy\.nobody: expected one of strict, relaxed, got 'nobody'"),
        (
            {"strict": {"collage": {"variant": "small", "after_s": 0.1}}},
            r"redundancy\.strict\.collage\.variant: expected a variant with cells > 1 .* got 'small'",
        ),
        (
            {"strict": {"collage": {"variant": "large", "after_s": 1.5}}},
            r"redundancy\.strict\.collage\.after_s: expected seconds below the SLO \(1\.5\), got 1\.5",
        ),
        (
            {"strict": {"cascade": {"variants": ["large"]}}},
            r"redundancy\.strict\.cascade\.variants: expected variants that may answer the class, got 'large'",
        ),
        (
            {"strict": {"cascade": {"variants": ["small", "medium"]}}},
            r"thresholds: expected 1 of them, got 0",
        ),
        (
            {"strict": {"cascade": {"variants": ["small"], "concurrent": True}}},
            r"concurrent: expected two variants, got 1",
        ),
        (
            {"strict": {"hedge_after_s": 0.1, "collage": {"variant": "large", "after_s": 0.1}}},
            r"collage: expected neither hedge_after_s nor cascade beside it",
        ),
        (
            {"strict": {"hedge_after_s": 0.1, "resend_after_s": 0.1}},
            r"resend_after_s: expected no hedge_after_s beside it, got 0\.1",
        ),
    ],
)
def test_redundancy_that_cannot_be_followed_is_refused(redundancy: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(**redundancy)
