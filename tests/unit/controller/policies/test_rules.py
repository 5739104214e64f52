"""The published schemes on arrivals worked out by hand."""

import numpy as np
import pytest

from controller.arrays import ObservationArrays
from controller.errors import ConfigError
from controller.policies.choice import cheapest_choice
from controller.policies.levers import FixedChoice
from controller.policies.registry import make_policy
from tests.tiny import LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, SPOT_B, STRICT, steady_observation, tiny_setting


def after(changes: dict[int, float], rps: float = 50.0, ticks: int = 60) -> ObservationArrays:
    """Constant arrivals, except at the given ages (ticks ago), where the rate of both classes together differs."""
    setting = tiny_setting()
    obs = steady_observation(setting, rps, ticks=ticks)
    for age, other in changes.items():
        obs.history[0, :, ticks - 1 - age] = other * 10 * setting.workload.share
    return obs


def fleet(spec: str, obs: ObservationArrays) -> list[list[int]]:
    plan = make_policy(spec, tiny_setting()).decide(obs)
    return plan.replicas[0, :, :2].tolist()


def test_each_class_runs_the_cheapest_variant_that_meets_its_floor() -> None:
    setting = tiny_setting()
    assert cheapest_choice(setting, FixedChoice(), STRICT) == (SMALL, [OD], [SPOT_A, SPOT_B])
    assert cheapest_choice(setting, FixedChoice(), RELAXED) == (MEDIUM, [OD], [SPOT_A, SPOT_B])
    named = FixedChoice(variant="large", pool="spot-b")
    assert cheapest_choice(setting, named, STRICT) == (LARGE, [SPOT_B], [SPOT_A, SPOT_B])


@pytest.mark.parametrize("spec", ["static:spot_share=1.0,headroom=1.0", "reactive:spot_share=1.0,headroom=1.0"])
def test_a_full_pool_spills_over_to_the_next(spec: str) -> None:
    setting = tiny_setting(limits={"pools": {"spot-a": {"max": 2}, "spot-b": {"max": 1}}})
    plan = make_policy(spec, setting).decide(after({}))
    # strict fills spot-a with small; relaxed puts 10 of its 25/s on spot-b, the rest on two on-demand machines
    assert plan.replicas[0, :, :3].tolist() == [[0, 2, 0], [2, 0, 1], [0, 0, 0]]


def test_static_is_sized_for_the_mean_rate_or_as_written() -> None:
    # 25/s x 1.5 on small (20/s) and on medium (10/s)
    assert fleet("static", after({}))[:2] == [[2, 0], [4, 0]]
    assert fleet("static:headroom=1.0", after({}))[:2] == [[2, 0], [3, 0]]


def test_reactive_sizes_for_the_last_minute() -> None:
    # the last minute averages 100 requests/s: 50 x 1.2 on 20/s and on 10/s
    assert fleet("reactive", after(dict.fromkeys(range(6), 100.0)))[:2] == [[3, 0], [6, 0]]


def test_reactive_scales_in_only_after_its_cool_down() -> None:
    setting = tiny_setting()
    policy = make_policy("reactive:cooldown_s=30", setting)
    policy.decide(after({}, rps=100.0))
    seen = [int(policy.decide(after({}, rps=50.0)).replicas[0, MEDIUM, OD]) for _ in range(4)]
    assert seen == [6, 6, 3, 3]


@pytest.mark.parametrize(("busy", "expected"), [(0.7, 6), (0.9, 7), (0.2, 7)])
def test_util_aware_resizes_only_outside_its_band(busy: float, expected: int) -> None:
    setting = tiny_setting()
    policy = make_policy("util_aware:cooldown_s=0", setting)
    obs = after({}, rps=96.0)
    assert policy.decide(obs).replicas[0, MEDIUM, OD] == 6  # 48 / (0.8 x 10)
    obs = after({}, rps=104.0)  # 52 / 8 is 7 replicas
    obs.ready[0, SMALL, OD], obs.ready[0, MEDIUM, OD] = 3, 6
    obs.busy_s[0, MEDIUM, OD] = busy * 6 * 10
    assert policy.decide(obs).replicas[0, MEDIUM, OD] == expected


def test_exascale_extends_the_line_and_holds_the_peak() -> None:
    setting = tiny_setting()
    rising = after({age: 50.0 + (59 - age) for age in range(60)})
    # from 50 to 109 requests/s in 60 ticks, 12 ticks on: 121; half of it on medium x 1.1
    assert fleet("exascale", rising)[MEDIUM][0] == int(np.ceil(121 / 2 * 1.1 / 10))
    falling = after({age: 50.0 + age for age in range(60)})
    assert fleet("exascale", falling)[MEDIUM][0] == int(np.ceil(109 / 2 * 1.1 / 10))
    assert setting.control.horizon_s == 120.0


def test_mixed_overflows_what_would_wait_too_long_and_reactive_does_not() -> None:
    setting = tiny_setting()
    mixed = make_policy("mixed:overflow_slack=0.5", setting).decide(after({}))
    assert mixed.overflow_fraction[0].tolist() == [1.0, 1.0]
    assert mixed.overflow_after_s[0].tolist() == pytest.approx([0.5 * 1.45, 0.5 * 9.9])
    assert make_policy("reactive", setting).decide(after({})).overflow_fraction[0].tolist() == [0.0, 0.0]


def test_paragon_keeps_serverless_for_bursts_and_buys_machines_in_calm() -> None:
    setting = tiny_setting()
    calm = make_policy("paragon:headroom=1.0,calm_headroom=1.3", setting).decide(after({}))
    assert calm.overflow_fraction[0].tolist() == [0.0, 0.0]
    assert calm.need_rps[0] == pytest.approx(65.0)
    bursty = make_policy("paragon:headroom=1.0,calm_headroom=1.3", setting).decide(after({20: 200.0}))
    assert bursty.overflow_fraction[0].tolist() == [1.0, 1.0]
    # strict gives up a share of its slack, relaxed waits all of it out
    assert bursty.overflow_after_s[0].tolist() == pytest.approx([0.6 * 1.45, 9.9])


def test_spot_share_moves_demand_while_the_zone_is_available() -> None:
    obs = after({})
    assert fleet("reactive:headroom=1.0,spot_share=1.0", obs)[MEDIUM] == [0, 3]
    obs.available[0, SPOT_A] = False
    plan = make_policy("reactive:headroom=1.0,spot_share=1.0", tiny_setting()).decide(obs)
    assert plan.replicas[0, MEDIUM].tolist() == [0, 0, 3, 0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reactve", "did you mean 'reactive'"),
        ("reactive:headrom=1.2", "did you mean 'headroom'"),
        ("reactive:headroom=99", "<= 5.0, got 99"),
        ("reactive:headroom", "name=value"),
        ("reactive:variant=huge", "expected one of small, medium, large"),
        ("reactive:pool=fn", "machine pool"),
        ("os:getcwd_", "expected a name that os defines"),
        ("controller.errors:ConfigError", "lacks"),
        ("static:replicas=3", "replicas"),
    ],
)
def test_wrong_specs_say_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(spec, tiny_setting())
