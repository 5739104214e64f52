"""How often a policy changes capacity though nothing changes: constant load, a market that takes nothing away.

A run begins without machines and with a day's accounts that are empty. Until the policy has worked off what that leaves
(accuracy above a floor, say, over hours) its plan slides; so hours of warm-up are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controller.compile import compile_scenario
from controller.flaps import flap_index
from controller.loop import DecisionLoop
from controller.policies.registry import PolicySpec, make_policy
from controller.scenario import load_scenario
from experiments.checks import Check

SCENARIO = "steady"
HOURS, WARM_UP_HOURS = 14.0, 4.0
SEEDS = (0, 1, 2)
MOST_CHANGES_PER_HOUR = 2.0


def changes_per_hour(
    policy: str | PolicySpec,
    *,
    scenario: str = SCENARIO,
    hours: float = HOURS,
    warm_up_hours: float = WARM_UP_HOURS,
    seeds: Sequence[int] = SEEDS,
) -> list[float]:
    """Changes of capacity per hour after the warm-up, of each seed.

    Args:
        policy: What `make_policy` takes.
        scenario: Name or path; its mean rate is offered all the time, and its spot pools stay open.
        hours: Length of a run.
        warm_up_hours: Left out of it.
        seeds: Of requests and service times.

    Raises:
        ProvisorError: The policy does not fit, or the run ends within its warm-up.
    """
    from envs.simulator import Simulator
    from envs.supply import Supply

    setting = compile_scenario(load_scenario(scenario))
    control, num_envs = setting.control, len(seeds)
    ticks = round(hours * 3600.0 / control.tick_s)
    rate_rps = np.full((1, ticks + 1), setting.scenario.mean_rps)
    always = np.ones((max(1, len(setting.zones)), 2))
    supply = Supply(rate_rps, control.tick_s, always, hours * 3600.0, 1.0)
    simulator = Simulator(setting, supply, num_envs, 1)
    seen = simulator.reset(np.asarray(seeds, np.int64))
    loop = DecisionLoop(setting, make_policy(policy, setting), num_envs)
    had = []
    for _ in range(ticks):
        decision = loop.decide(seen)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
        had.append(seen.ready + seen.starting)
    counts = np.array(had)
    found = (flap_index(counts[:, n], control.tick_s, warm_up_s=warm_up_hours * 3600.0) for n in range(num_envs))
    return [one.changes_per_hour for one in found]


def steadiness_check(policy: str | PolicySpec, name: str) -> Check:
    """The mean over seeds beside its bar."""
    found = changes_per_hour(policy)
    mean = float(np.mean(found))
    measured = f"{mean:.2f} (mean of {len(found)} seeds, up to {max(found):.2f})"
    what = f"capacity changes per hour at constant load: {name}"
    return Check(what, measured, f"<= {MOST_CHANGES_PER_HOUR:g}", mean <= MOST_CHANGES_PER_HOUR)
