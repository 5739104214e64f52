"""Ray Serve's and Kubernetes' autoscalers on numbers worked out by hand, and Ray's against its own source."""

import numpy as np
import pytest

from controller.arrays import ObservationArrays
from controller.kernels.rival_autoscalers import delayed_target, hpa_replicas, hpa_target, scaled_replicas
from controller.policies.autoscalers import RayServePolicy, RayServeSettings
from controller.policies.registry import make_policy
from controller.policies.scheme import NO_AUTOSCALER
from tests.tiny import MEDIUM, OD, RELAXED, SMALL, SPOT_A, steady_observation, tiny_setting


def serving(obs: ObservationArrays, replicas: int, queued: int, busy: float) -> ObservationArrays:
    """Medium replicas on demand, what waits for them, and their busy share."""
    obs.ready[0, MEDIUM, OD] = replicas
    obs.queue[0, MEDIUM, OD] = queued
    obs.busy_s[0, MEDIUM, OD] = busy * replicas * 10.0
    return obs


def next_tick(obs: ObservationArrays) -> None:
    obs.tick[:] += 1
    obs.time_s[:] += 10.0


def targets(spec: str, queued: list[int], replicas: int = 3, busy: float = 1.0) -> list[int]:
    """Medium replicas planned over consecutive ticks."""
    setting = tiny_setting()
    policy = make_policy(spec, setting)
    obs = steady_observation(setting, 50.0)
    seen = []
    for count in queued:
        serving(obs, replicas, count, busy)
        seen.append(int(policy.decide(obs).replicas[0, MEDIUM, OD]))
        next_tick(obs)
    return seen


def test_ray_serve_scales_up_only_once_more_was_wanted_for_the_delay() -> None:
    # 25/s on medium begin with 3 replicas; 3 in service and 9 queued are 12 ongoing, at 2 each 6 replicas
    assert targets("ray_serve", [9] * 6) == [3, 3, 3, 3, 6, 6]
    assert targets("ray_serve:upscale_delay_s=0", [9] * 3) == [3, 6, 6]


def test_ray_serve_starts_its_delay_anew_when_the_wish_pauses() -> None:
    # a mean over one tick: the third tick wants 3 replicas, so the delay begins at the fourth
    spec = "ray_serve:look_back_period_s=10"
    assert targets(spec, [9, 9, 3, 9, 9, 9, 9]) == [3, 3, 3, 3, 3, 3, 6]


def test_ray_serve_looks_back_over_its_period() -> None:
    # means of 6, then (6 + 12) / 2, then (6 + 12 + 12) / 3 ongoing requests: 3, 5 and 5 replicas
    assert targets("ray_serve:upscale_delay_s=0", [3, 9, 9]) == [3, 5, 5]
    assert targets("ray_serve:upscale_delay_s=0,aggregation_function=max", [3, 9, 3]) == [3, 6, 6]


def test_ray_serve_scales_down_after_its_longer_delay_and_by_its_factor() -> None:
    # one ongoing request wants 1 replica after 30 s; half a step is 2
    spec = "ray_serve:downscale_delay_s=30,downscaling_factor=0.5"
    assert targets(spec, [0] * 6, busy=1 / 3) == [3, 3, 3, 3, 2, 2]


def test_a_factor_never_sticks_one_replica_above_what_is_wanted() -> None:
    assert scaled_replicas(3.0, 4.0, 1.0, 0.5) == 3.0
    assert scaled_replicas(3.2, 4.0, 1.0, 0.1) == 4.0
    assert scaled_replicas(8.0, 4.0, 0.5, 1.0) == 6.0
    assert scaled_replicas(0.5, 0.0, 9.0, 1.0) == 1.0


def test_ray_serve_keeps_between_its_bounds() -> None:
    assert targets("ray_serve:upscale_delay_s=0,max_replicas=4", [50] * 2) == [3, 4]
    assert targets("ray_serve:downscale_delay_s=0,min_replicas=2", [0] * 2, busy=0.0) == [3, 2]


def test_ray_serve_gives_up_its_last_replica_and_wakes_at_once() -> None:
    setting = tiny_setting()
    policy = make_policy("ray_serve:min_replicas=0,downscale_delay_s=0,upscale_delay_s=60", setting)
    seen = []
    for tick, rps in enumerate([50.0, 0.0, 0.0, 0.0, 50.0]):
        obs = steady_observation(setting, rps, ticks=60 + tick)
        replicas = policy.decide(serving(obs, seen[-1] if seen else 0, 0, 0.0)).replicas
        seen.append(int(replicas[0, MEDIUM, OD]))
    assert seen == [3, 1, 0, 0, 1]


def test_an_autoscaled_class_is_sent_to_its_own_deployment() -> None:
    setting = tiny_setting()
    obs = serving(steady_observation(setting, 50.0), 3, 0, 0.5)
    obs.ready[0, MEDIUM, SPOT_A] = 1
    plan = make_policy("ray_serve", setting).decide(obs)
    assert plan.fixed_shares[0]
    assert plan.shares[0, RELAXED, MEDIUM].tolist() == pytest.approx([0.75, 0.25, 0.0, 0.0])
    assert plan.shares[0, RELAXED, SMALL].sum() == 0.0
    assert not make_policy("ray_serve:adaptive_variant=true", setting).decide(obs).fixed_shares[0]


def test_one_autoscaler_sizes_a_mix_by_capacity() -> None:
    setting = tiny_setting()
    policy = make_policy("ray_serve:adaptive_variant=true,upscale_delay_s=0", setting)
    obs = steady_observation(setting, 50.0)
    assert policy.decide(obs).need_rps[0] == pytest.approx(50.0)  # five units of 10/s, the least of both choices
    obs.ready[0, SMALL, OD], obs.ready[0, MEDIUM, OD] = 1, 3  # 50/s on four machines
    obs.queue[0, SMALL, OD] = 16
    next_tick(obs)
    # nothing and then 16 ongoing, 8 on the mean: 2 on each of 4 machines is what is aimed at
    assert policy.decide(obs).need_rps[0] == pytest.approx(50.0)
    next_tick(obs)
    # and over three 32 / 3: four thirds of 50/s, in whole units
    assert policy.decide(obs).need_rps[0] == pytest.approx(70.0)


@pytest.mark.parametrize(
    "spec", ["ray_serve:target_ongoing_requests=1.0,upscale_delay_s=0", "hpa:target_utilisation=1.0"]
)
def test_spare_spot_does_not_raise_what_is_wanted(spec: str) -> None:
    setting = tiny_setting()
    policy = make_policy(f"{spec},spot_share=1.0,over_provision=2.0", setting)
    obs = steady_observation(setting, 50.0)
    for _ in range(5):
        # 3 replicas' worth of 10/s, twice over; all are busy, and as many as are planned are wanted
        assert policy.decide(obs).replicas[0, MEDIUM, SPOT_A] == 6
        obs.ready[0, MEDIUM, SPOT_A] = 6
        obs.busy_s[0, MEDIUM, SPOT_A] = 60.0
        next_tick(obs)


def test_hpa_multiplies_by_the_ratio_outside_its_tolerance() -> None:
    assert hpa_replicas(0.9, 4.0, 0.0, 4, 0.6, 0.1) == 6
    assert hpa_replicas(0.65, 4.0, 0.0, 4, 0.6, 0.1) == 4
    assert hpa_replicas(0.55, 4.0, 0.0, 4, 0.6, 0.1) == 4
    assert hpa_replicas(0.3, 4.0, 0.0, 4, 0.6, 0.1) == 2


def test_hpa_counts_starting_replicas_as_idle() -> None:
    # 4 at 0.9 and 2 that start: 0.6 on the mean of six
    assert hpa_replicas(0.9, 4.0, 2.0, 6, 0.6, 0.1) == 6
    assert hpa_replicas(1.0, 4.0, 1.0, 5, 0.6, 0.1) == 7  # 0.8 / 0.6 x 5 = 6.7
    assert hpa_replicas(0.9, 0.0, 2.0, 2, 0.6, 0.1) == 2


def ring(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def test_hpa_grows_by_the_larger_policy_per_period() -> None:
    scaler = NO_AUTOSCALER._replace(up_percent=100.0, up_replicas=4, up_period_ticks=2, down_percent=100.0)
    # two replicas: 2 x 2 or 2 + 4
    assert hpa_target(ring([2, 2, 20]), ring([2, 2, 0]), 3, 2, 2, scaler) == 6
    # four were added one tick ago, within the period of two: it began with 2
    assert hpa_target(ring([2, 20, 20]), ring([2, 6, 0]), 3, 2, 6, scaler) == 6
    assert hpa_target(ring([20, 20, 20]), ring([6, 6, 0]), 3, 2, 6, scaler) == 12


def test_hpa_reduces_to_the_most_wanted_over_its_window() -> None:
    scaler = NO_AUTOSCALER._replace(down_window_ticks=3, down_percent=100.0)
    assert hpa_target(ring([8, 5, 3, 2]), ring([8, 8, 8, 0]), 4, 3, 8, scaler) == 5
    half = scaler._replace(down_window_ticks=1, down_percent=25.0)
    assert hpa_target(ring([8, 5, 3, 2]), ring([8, 8, 8, 0]), 4, 3, 8, half) == 6


def test_hpa_scales_a_deployment() -> None:
    # 3 replicas at 90 % against 60 %: 4.5; at 64 % nothing moves
    assert targets("hpa:target_utilisation=0.6", [0] * 2, busy=0.9) == [3, 5]
    assert targets("hpa:target_utilisation=0.6", [0] * 2, busy=0.64) == [3, 3]
    # down to 1 of 3 at 10 % once what was wanted at first is out of the window of 30 s
    spec = "hpa:target_utilisation=0.6,scale_down_window_s=30"
    assert targets(spec, [0] * 5, busy=0.1) == [3, 3, 3, 1, 1]


@pytest.mark.slow
def test_ray_serve_decides_as_ray_does() -> None:
    """The same random loads through Ray's own policy function and ours, delays, factors and bounds included."""
    from types import SimpleNamespace

    from ray.serve.autoscaling_policy import (
        _apply_delay_logic,
        _apply_scaling_factors,
        _core_replica_queue_length_policy,
    )
    from ray.serve.config import AutoscalingConfig

    rng = np.random.default_rng(5)
    for _ in range(20):
        config = AutoscalingConfig(
            min_replicas=1,
            max_replicas=100,
            target_ongoing_requests=float(rng.uniform(0.5, 4.0)),
            upscale_delay_s=float(rng.choice([0.0, 10.0, 30.0])),
            downscale_delay_s=float(rng.choice([0.0, 20.0, 60.0])),
            upscaling_factor=float(rng.uniform(0.3, 2.0)),
            downscaling_factor=float(rng.uniform(0.3, 1.0)),
        )
        since, direction = np.full((1, 1), np.nan), np.zeros((1, 1), np.int64)
        state: dict[str, object] = {}
        theirs, ours, running = 5, 5, 5
        for tick in range(60):
            total = float(rng.integers(0, 60))
            context = SimpleNamespace(
                current_num_replicas=running, target_num_replicas=theirs, total_num_requests=total, config=config
            )
            wanted, _ = _core_replica_queue_length_policy(context)
            wanted = _apply_scaling_factors(wanted, running, config)
            theirs, state = _apply_delay_logic(max(0, wanted), theirs, config, state, _now=10.0 * tick)
            theirs = max(1, min(100, theirs))
            ratio = running * (total / (config.target_ongoing_requests * running))
            desired = int(scaled_replicas(ratio, float(running), config.upscaling_factor, config.downscaling_factor))
            ours = delayed_target(
                desired, ours, 10.0 * tick, config.upscale_delay_s, config.downscale_delay_s, config.downscale_delay_s,
                since, direction, 0, 0,
            )  # fmt: skip
            ours = max(1, min(100, ours))
            assert ours == theirs
            running = max(1, theirs + int(rng.integers(-1, 2)))


@pytest.mark.slow
def test_defaults_are_those_of_ray() -> None:
    from ray.serve.config import AutoscalingConfig

    default, ours = AutoscalingConfig.default(), RayServeSettings()
    for name in set(RayServeSettings.model_fields) & set(AutoscalingConfig.model_fields):
        if name.endswith("scaling_factor"):
            continue  # theirs fall back to a deprecated factor of 1
        assert getattr(ours, name) == getattr(default, name), name
    assert default.get_upscaling_factor() == ours.upscaling_factor
    assert RayServePolicy.Settings is RayServeSettings
