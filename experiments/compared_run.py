"""What one live run of a stretch came to: the same figures by the same code, whoever decided.

Attainment, latencies and losses are what the client saw, cost is what the machines cost, and a change is one of the
replicas that start or are ready. The first part of the stretch counts for nobody; the losses in it do.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.compile import Setting
from controller.flaps import FlapIndex, flap_index, flaps_of_journal
from controller.journal import Journal
from experiments.live import LiveOptions, setting_at_speed, speeded
from experiments.live_process import free_port
from experiments.live_requests import Requests, read_requests
from experiments.native_plan import native_plan
from experiments.replica_log import read_replicas
from experiments.results import Tally
from experiments.serve import JOURNAL
from experiments.sim_to_live import WARM_SHARE

_LATENCIES = (0.5, 0.99)


@dataclass(frozen=True)
class Stretch:
    """What everybody is asked: so many live seconds of the first test day from an hour on.

    The default scenario's rate changes, but never beyond what on-demand machines alone can answer, and it sets no least
    number of machines, which only ours would have to keep.
    """

    scenario: str = str(Path(__file__).parent / "configs" / "side-by-side.yaml")
    duration_s: float = 120.0
    speed: float = 1.0  # over that of the scenario, which is 20
    start_hour: float = 9.0

    @property
    def setting(self) -> Setting:
        """The scenario at the speed."""
        return setting_at_speed(speeded(LiveOptions(scenario=self.scenario, speed=self.speed)), None)

    def span(self, tick_s: float) -> tuple[int, int]:
        """Ticks at which what counts begins and ends."""
        ticks = max(1, int(self.duration_s / tick_s + 1e-9))
        return math.ceil(WARM_SHARE * ticks), ticks

    def asked(self, seed: int) -> dict[str, Any]:
        """As fields of `LiveOptions`."""
        return {**asdict(self), "seed": seed, "port": free_port()}


@dataclass(frozen=True)
class ComparedRun:
    """One run of one contender."""

    seed: int
    cost_usd: float  # of what counts of the stretch
    usd_per_hour: float  # of the trace
    attainment: float
    attainment_by_class: dict[str, float]
    p50_s: float | None
    p99_s: float | None
    changes_per_hour: float
    flaps_per_hour: float
    requests: int
    missed: int
    lost: int  # in all of the stretch
    late_ms_p99: float  # of the sender
    accuracy: float | None = None  # mean of the answers, by the catalog
    rule_share: float | None = None  # of ticks that the named rule drove; None where there is none


def our_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what `provisor serve` left.

    Raises:
        RunError: It left something out.
        JournalError: The journal is damaged.
    """
    requests = read_requests(folder)
    setting, journal = stretch.setting, Journal(folder / JOURNAL)
    first, last = stretch.span(setting.control.tick_s)
    tally = Tally(setting, 1)
    for at, tick in enumerate(journal.ticks()):
        if at > first:
            tally.observed(tick.observation)
        if at == last:
            break
        if at >= first:
            tally.decided(tick.plan)
    row = tally.row(0, policy=folder.name, trace="", day=1, seed=seed)
    flaps = flaps_of_journal(journal, warm_up_s=first * setting.control.tick_s * setting.scenario.speed)
    run = measured(requests, stretch, setting, seed, row.cost_usd, flaps)
    return replace(run, accuracy=row.accuracy, rule_share=row.rule_share)


def native_run(folder: Path, stretch: Stretch, seed: int) -> ComparedRun:
    """Reads what a run of Serve's own autoscaler left.

    Raises:
        RunError: It left something out.
    """
    log = read_replicas(folder)
    setting = stretch.setting
    plan = native_plan(setting)
    tick_s = setting.control.tick_s
    first, last = stretch.span(tick_s)
    price = (plan.price_usd_per_s, plan.min_billing_s, plan.release_lag_s)
    cost_usd = log.cost_usd(last * tick_s, *price) - log.cost_usd(first * tick_s, *price)
    counts = log.counts_at((np.arange(first, last + 1) * tick_s).tolist())
    flaps = flap_index(counts, tick_s * setting.scenario.speed)
    run = measured(read_requests(folder), stretch, setting, seed, cost_usd, flaps)
    return replace(run, accuracy=float(setting.catalog.accuracy[plan.variant]))


def measured(
    requests: Requests, stretch: Stretch, setting: Setting, seed: int, cost_usd: float, flaps: FlapIndex
) -> ComparedRun:
    """The figures of a run, the same for everyone.

    Args:
        requests: What the client saw, from second 0 on.
        stretch: What was asked.
        setting: Of the stretch.
        seed: Of the requests.
        cost_usd: Of the machines, and of serverless calls, in what counts of the stretch.
        flaps: Of replicas that started or were ready in it.
    """
    tick_s = setting.control.tick_s
    first, last = stretch.span(tick_s)
    counted = requests.since(first * tick_s)
    is_missed = counted.is_missed(setting.workload.slo_s)
    by_class = {name: _share(is_missed[counted.request_class == c]) for c, name in enumerate(setting.class_names)}
    p50_s, p99_s = counted.latency_quantiles_s(_LATENCIES)
    sent = counted.late_s[np.isfinite(counted.late_s)]
    return ComparedRun(
        seed=seed,
        cost_usd=cost_usd,
        usd_per_hour=cost_usd / ((last - first) * tick_s * setting.scenario.speed / 3600.0),
        attainment=_share(is_missed),
        attainment_by_class=by_class,
        p50_s=p50_s,
        p99_s=p99_s,
        changes_per_hour=flaps.changes_per_hour,
        flaps_per_hour=flaps.reversals_per_hour,
        requests=len(is_missed),
        missed=int(is_missed.sum()),
        lost=int(requests.is_lost.sum()),
        late_ms_p99=float(np.quantile(sent, 0.99) * 1e3) if len(sent) else 0.0,
    )


def _share(is_missed: Any) -> float:
    """Attainment; 1 where nothing was asked."""
    return 1.0 - float(np.mean(is_missed)) if len(is_missed) else 1.0
