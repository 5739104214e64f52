"""Speed of the parts that decide how much can be learned and how fast a live tick is. Prints one JSON document.

Rates are per process-CPU second on one thread (best of several blocks), so another process on the machine changes them
little; latencies are wall clock. `*_steps_*` count ticks of 10 s, not decisions. Run by `make bench`.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.errors import EXIT_WRONG_INPUT
from controller.forecast import LEVELS, new_forecast
from controller.loop import DecisionLoop
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import NUM_KNOBS
from controller.scenario import load_scenario
from envs.simulator import Simulator
from envs.stepper import EnvOptions, Stepper
from envs.world import World, WorldChoice, build_world
from experiments.bench_core import core_speed
from experiments.bench_record import record
from experiments.bench_redundancy import redundant_kernel
from experiments.bench_simpy import against_simpy
from experiments.bench_slopes import slopes
from experiments.bench_tiers import tier_lookup

BLOCKS = 5
DENSE = ((4, 1), (16, 1), (64, 1), (256, 1), (4, 8), (16, 8), (64, 8), (256, 8))
"""Servers and largest batch of each dense measurement."""


@dataclass(frozen=True)
class Rate:
    """Work done per CPU second: the best of the blocks."""

    per_s: float
    work_per_tick: float


def best_rate(run: Callable[[], float], ticks: int) -> Rate:
    """Runs blocks; `run` does one and returns the work done in it, `ticks` is how many ticks that was."""
    best, work = 0.0, 0.0
    for _ in range(BLOCKS):
        started_s = time.process_time()
        work = run()
        best = max(best, work / (time.process_time() - started_s))
    return Rate(best, work / ticks)


def main(arguments: list[str]) -> int:
    """Prints the measurements; `--no-live` leaves out what needs a Ray cluster."""
    unknown = [word for word in arguments if word != "--no-live"]
    if unknown:
        sys.stderr.write(f"error: expected --no-live or nothing, got '{unknown[0]}'\n")
        return EXIT_WRONG_INPUT
    scenario = load_scenario("default")
    world = build_world(scenario, WorldChoice(days=scenario.splits.train))
    result: dict[str, Any] = {"scenario": scenario.name, "cpu": platform.processor() or platform.machine()}
    result |= kernels(world)
    result |= redundant_kernel(scenario)
    result |= dense()
    result["simpy"] = against_simpy()
    result["simpy_without_deadlines"] = against_simpy(gives_up=False)
    result["slopes"] = slopes()
    result |= environment(world)
    result |= learning(world)
    result |= ticks(world)
    result |= tier_lookup(world.setting)
    if "--no-live" not in arguments:
        from experiments.bench_live import router_added

        result |= router_added()
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


def kernels(world: World) -> dict[str, Any]:
    """Requests per second of each kernel, a tick whole: decided changes, arrivals, routing, service, rent, edges."""
    found: dict[str, Any] = {}
    num_envs, num_ticks = 64, 60
    for name, hedge_after_s in (("fast", np.inf), ("event", 0.5)):
        recorded = record(world, MpcPolicy(world.setting), num_envs, num_ticks, hedge_after_s)
        requests, requests_per_s = recorded.best()
        found[f"{name}_kernel_requests_per_s_core"] = round(requests_per_s)
        found["requests_per_tick"] = round(requests / (num_envs * num_ticks), 1)
        observation = recorded.simulator.observation
        serving = observation.ready + observation.doomed
        found["options_in_use"] = round(float((serving > 0).sum() / num_envs), 1)
        found["instances_in_use"] = round(float(serving.sum() / num_envs), 1)
    return found


def dense() -> dict[str, Any]:
    """Requests per second of the fast kernel where the work per request is what counts, by servers and batch size."""
    return {
        f"dense_{servers}_servers_batch_{batch}_requests_per_s_core": core_speed(servers, batch)["requests_per_s_core"]
        for servers, batch in DENSE
    }


def environment(world: World) -> dict[str, Any]:
    """Ticks per second of the native vector environment, decisions, simulation and observations included."""
    num_envs, decisions = 256, 4
    stepper = Stepper(world, num_envs, EnvOptions(twin=False))
    stepper.reset()
    knobs = np.zeros((num_envs, stepper.knobs.shape[1]))
    per_step = world.setting.control.ticks_per_decision * num_envs

    def block() -> float:
        for _ in range(decisions):
            stepper.step(knobs)
        return float(decisions * per_step)

    block()
    rate = best_rate(block, decisions * per_step)
    size = sum(array.nbytes for part in _state_of(stepper.simulator) for array in part) / num_envs
    return {
        "env_steps_per_s_core": round(rate.per_s),
        "ticks_per_decision": world.setting.control.ticks_per_decision,
        "memory_per_env_kib": round(size / 1024, 1),
    }


def _state_of(simulator: Simulator) -> list[tuple[np.ndarray[Any, Any], ...]]:
    return [tuple(group) for group in (*simulator.state, simulator.observation, simulator.totals)]


def learning(world: World) -> dict[str, Any]:
    """Ticks per second of PPO, rollouts and updates together."""
    from envs.vector import ServingVecEnv
    from experiments.ppo import KnobPpo
    from experiments.train_config import PpoConfig

    config = PpoConfig(burn_in_rollouts=0)
    env = ServingVecEnv(world, config.num_envs, EnvOptions(twin=False))
    model = KnobPpo(env, config, seed=0, total_steps=10 * config.rollout_steps)
    model.learn(config.rollout_steps)
    started_s = time.process_time()
    model.learn(2 * config.rollout_steps, reset_num_timesteps=False)
    spent_s = time.process_time() - started_s
    num_ticks = 2 * config.rollout_steps * world.setting.control.ticks_per_decision
    return {"ppo_steps_per_s_core": round(num_ticks / spent_s), "ppo_envs": config.num_envs}


def ticks(world: World) -> dict[str, Any]:
    """Wall-clock latency of one tick and of one decision with one env, as live: a network decides, 99th percentile."""
    from controller.observation import OBSERVATION_SIZE
    from controller.policies.learned import LearnedPolicy, content_of
    from controller.policies.policy_file import TrainingRecord
    from experiments.ppo import zero_tensors

    setting = world.setting
    hidden = (64, 64)
    content = content_of(
        setting,
        zero_tensors(OBSERVATION_SIZE, hidden, NUM_KNOBS),
        settings=MpcSettings(),
        forecast=new_forecast(LEVELS),
        hidden=hidden,
        catalog="fixed",
        training=TrainingRecord(
            trace=world.trace_name,
            scenario=setting.scenario.name,
            train_days=setting.scenario.splits.train,
            validation_days=setting.scenario.splits.validation,
            seeds=(0,),
            steps=0,
        ),
        metrics={},
    )
    loop = DecisionLoop(setting, LearnedPolicy(setting, content))
    simulator = Simulator(setting, world.supply(), 1)
    observation = simulator.reset(np.zeros(1, np.int64))
    spent_s = []
    for _ in range(2000):
        started_s = time.perf_counter()
        decision = loop.decide(observation)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        observation = simulator.advance()
        spent_s.append(time.perf_counter() - started_s)
    skip = 100
    return {
        "tick_ms_p99": round(float(np.quantile(spent_s[skip:], 0.99)) * 1e3, 3),
        "tick_ms_p50": round(float(np.quantile(spent_s[skip:], 0.5)) * 1e3, 3),
        "decide_us_p99": round(float(np.quantile(loop.decide_s[skip:], 0.99)) * 1e6, 1),
        "decide_us_p50": round(float(np.quantile(loop.decide_s[skip:], 0.5)) * 1e6, 1),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
