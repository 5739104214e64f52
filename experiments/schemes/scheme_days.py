"""The five published schemes on days of recorded and flat load: violations, over-provisioning, calls and cost.

Schemes run with their published settings in the setting of `experiments.schemes.courses`. A cell begins with a fleet
that serves; its first half hour is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, SERVERLESS_USE, ObservationArrays
from controller.batching import capacity_rps, largest_batches
from controller.compile import Setting
from controller.loop import Decision
from controller.policies.choice import cheapest_choice
from controller.policies.levers import FixedChoice
from controller.policies.registry import PolicySpec
from controller.policies.scheme import BATCH_SLACK
from envs.world import World
from experiments.rollout import Recorder, new_simulator, prepare, roll
from experiments.schemes.courses import SCHEMES, WITHOUT_CALM_HEADROOM, Course

WARM_UP_S = 1800.0


@dataclass(frozen=True)
class SchemeDay:
    """One scheme on all days of a course together.

    Attributes:
        course, scheme: Names.
        requests: Arrivals that were counted.
        violations: Share of requests not answered in time.
        strict_violations, relaxed_violations: The same by class.
        cost_usd_per_day: Whole bill, per 24 h.
        machine_usd_per_day, serverless_usd_per_day: Parts of it.
        over_provisioning: Machine-seconds rented over those that were needed; see `needed_machines`.
        serverless_share: Calls per request.
        cold_share: Calls that started cold.
        throttled: Calls refused at the limit of concurrent environments.
    """

    course: str
    scheme: str
    requests: int
    violations: float
    strict_violations: float
    relaxed_violations: float
    cost_usd_per_day: float
    machine_usd_per_day: float
    serverless_usd_per_day: float
    over_provisioning: float
    serverless_share: float
    cold_share: float
    throttled: int


def machine_rates(setting: Setting) -> F64:
    """Requests/s of one always busy machine of the option that the schemes fill first, by class, (C,)."""
    rps = capacity_rps(setting.catalog, largest_batches(setting.catalog, setting.workload, BATCH_SLACK))
    found = []
    for c in range(setting.shape[2]):
        variant, pools, _ = cheapest_choice(setting, FixedChoice(), c)
        found.append(rps[variant, pools[0]])
    return np.array(found)


def needed_machines(arrivals: I64, rates_rps: F64, tick_s: float) -> I64:
    """Whole machines that the arrivals of one tick would keep busy, summed over classes.

    Args:
        arrivals: Requests of a tick by class, (N, C).
        rates_rps: Requests/s of one machine by class, (C,).
        tick_s: Length of the tick.

    Returns:
        (N,); the ideal that over-provisioning is measured against: known a tick ahead, at full use, nothing queued.
    """
    return np.asarray(np.ceil(arrivals / (rates_rps * tick_s) - 1e-9).sum(axis=1), np.int64)


class SchemeRecorder:
    """Adds up what the schemes are compared by, over all envs, once the warm-up is over."""

    def __init__(self, setting: Setting, warm_up_s: float) -> None:
        """Prepares for a rollout of `setting`."""
        num_classes = setting.shape[2]
        self._setting = setting
        self._left = round(warm_up_s / setting.control.tick_s)
        self._machine = setting.catalog.market != SERVERLESS
        self._rates = machine_rates(setting)
        self.arrivals: I64 = np.zeros(num_classes, np.int64)
        self.missed: I64 = np.zeros(num_classes, np.int64)
        self.usd = self.serverless_usd = self.span_s = 0.0
        self.rented = self.needed = self.calls = self.cold = self.throttled = 0

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Nothing to note: what is compared are facts."""

    def observed(self, window: ObservationArrays) -> None:
        """Adds a window."""
        if self._left > 0:
            self._left -= 1
            return
        tick_s = self._setting.control.tick_s
        self.span_s += tick_s * len(window.tick)
        self.arrivals += window.arrivals.sum(axis=0)
        self.missed += window.missed.sum(axis=0)
        self.usd += float(window.spend_usd.sum())
        self.serverless_usd += float(window.spend_usd[:, SERVERLESS_USE].sum())
        alive = window.ready + window.starting + window.draining + window.doomed
        self.rented += int((alive * self._machine).sum())
        self.needed += int(needed_machines(window.arrivals, self._rates, tick_s).sum())
        self.calls += int(window.invocations.sum())
        self.cold += int(window.cold_starts.sum())
        self.throttled += int(window.throttled.sum())

    def result(self, course: str, scheme: str) -> SchemeDay:
        """What it came to."""
        days, requests = self.span_s / 86400.0, int(self.arrivals.sum())
        by_class = self.missed / np.maximum(self.arrivals, 1)
        return SchemeDay(
            course=course,
            scheme=scheme,
            requests=requests,
            violations=float(self.missed.sum()) / max(1, requests),
            strict_violations=float(by_class[0]),
            relaxed_violations=float(by_class[1]),
            cost_usd_per_day=self.usd / days,
            machine_usd_per_day=(self.usd - self.serverless_usd) / days,
            serverless_usd_per_day=self.serverless_usd / days,
            over_provisioning=self.rented / max(1, self.needed),
            serverless_share=self.calls / max(1, requests),
            cold_share=self.cold / max(1, self.calls),
            throttled=self.throttled,
        )


def run_course(
    world: World,
    course: Course,
    say: Callable[[str], None],
    schemes: Sequence[str | PolicySpec] = (*SCHEMES, WITHOUT_CALM_HEADROOM),
    warm_up_s: float = WARM_UP_S,
    ticks: int | None = None,
) -> list[SchemeDay]:
    """Every scheme on every day of a course under every seed, all under the same requests.

    Args:
        world: From `world_of`.
        course: Names it, and the seeds.
        say: Told what is done.
        schemes: Policies; by default the five with their published settings, and `WITHOUT_CALM_HEADROOM`.
        warm_up_s: Not counted, at the begin of every day.
        ticks: Ticks to run of every day; None: all.
    """
    start = prepare(world, world.cells(course.seeds))
    simulator = new_simulator(world, len(start.cells))
    found = []
    for scheme in schemes:
        recorder = SchemeRecorder(world.setting, warm_up_s)
        recorders: list[Recorder] = [recorder]
        roll(world, start, scheme, recorders, ticks=ticks, simulator=simulator)
        label = scheme if isinstance(scheme, str) else scheme.name or scheme.kind
        found.append(recorder.result(course.name, label))
        say(f"schemes: {label} on {course.name}, {100 * found[-1].violations:.2f} % violated")
    return found
