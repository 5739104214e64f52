"""The world that a journal tells of: its traffic, the fleet it began with, and the spot market as far as it was seen.

What a journal does not show is filled in plainly: a spot pool that refused nothing and lost nothing offers its whole
quota, one that did offers what was left in it until it counts as available again, so nothing is known of what a larger
fleet would have lost; classes keep the mix of the whole capture; and requests are drawn anew from the captured rate,
averaged over as long as some four hundred requests take, a minute at most, so that chance is not copied as if it were
load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from controller.arrays import F64, I64, SPOT, Bool, ObservationArrays
from controller.catalog import load_catalog
from controller.compile import Setting
from controller.errors import PolicyFileError, UsageError, mismatch
from controller.journal import Journal, JournalHeader
from controller.plan import Reason
from controller.policies.registry import PolicySpec
from controller.replay import policy_digest, setting_of
from envs.simulator import Simulator
from envs.supply import Supply
from envs.world import Cell, World
from experiments.rollout import Start
from experiments.run_config import PolicyChoice
from traces.capture import Capture, read_capture
from traces.intensity import intensity_of

_WANTED_REQUESTS = 400.0
_MOST_SMOOTH_S = 60.0
_GRID_S = 10.0  # no coarser, as for any trace
_LEAST_SHARE = 1e-6  # of a class that nobody asked for


@dataclass(frozen=True, eq=False)
class RecordedWorld(World):
    """A world of one cell per seed, all of the same captured span."""

    @property
    def cell_s(self) -> float:
        """The whole span."""
        return float(self.rate_rps.shape[1] * self.bin_s)

    def start_s(self, cells: Sequence[Cell]) -> F64:
        """All begin where the capture does."""
        return np.zeros(len(cells))

    def spot_start_s(self, cells: Sequence[Cell]) -> F64:
        """And with the market as it was then."""
        return np.zeros(len(cells))


@dataclass
class LiveTotals:
    """What the run itself came to, over the windows of its journal."""

    cost_usd: float = 0.0
    arrived: int = 0
    missed: int = 0
    answered: int = 0
    accuracy_sum: float = 0.0
    ticks: int = 0
    rule_ticks: int = 0

    def add(self, seen: ObservationArrays) -> None:
        """One window."""
        self.ticks += 1
        self.cost_usd += float(seen.spend_usd[0].sum())
        self.arrived += int(seen.arrivals[0].sum())
        self.missed += int(seen.missed[0].sum())
        self.answered += int(seen.answered[0].sum())
        self.accuracy_sum += float(seen.accuracy_sum[0].sum())

    @property
    def attainment(self) -> float:
        """Share of requests in time."""
        return 1.0 - self.missed / max(1, self.arrived)

    @property
    def accuracy(self) -> float:
        """Mean over the answers; NaN without any."""
        return self.accuracy_sum / self.answered if self.answered else float("nan")


@dataclass(frozen=True, eq=False)
class Recorded:
    """All that is needed to run other policies where a journal's ran.

    Attributes:
        header: Of the journal.
        capture: Its traffic.
        world: For decisions: the run's own setting.
        simulated: For the simulator: the same with the captured mix of classes, and another catalog's figures where
            one was given.
        live: What the run came to.
    """

    header: JournalHeader
    capture: Capture
    world: RecordedWorld
    simulated: Setting
    live: LiveTotals
    _history: F64 = field(repr=False)  # (C, H) laid out as at tick 0
    _fleet: I64 = field(repr=False)  # (V, P)

    @property
    def ticks(self) -> int:
        """Ticks of the run."""
        return self.live.ticks

    @property
    def hours(self) -> float:
        """Control time of the run."""
        return self.ticks * self.world.setting.scenario.control.tick_s / 3600.0

    def start(self, seeds: Sequence[int]) -> Start:
        """Where every policy begins: as the run did, once under each seed."""
        cells = tuple(Cell(1, seed) for seed in seeds)
        count = (len(cells), 1, 1)
        return Start(cells, np.tile(self._history, count), np.tile(self._fleet, count))

    def simulator(self, num_envs: int) -> Simulator:
        """A simulator of this world."""
        supply: Supply = self.world.supply()
        return Simulator(self.simulated, supply, num_envs)


def read_recorded(path: Path | str, catalog: str | None = None) -> Recorded:
    """The world of a journal.

    Args:
        path: The journal; may still be written.
        catalog: Name or path of a catalog whose figures the simulator takes, such as a calibrated one; decisions stay
            on the run's own.

    Raises:
        JournalError: The journal is missing or damaged.
        TraceError: It holds no traffic.
        UsageError: The catalog has other variants, pools or profiles than the run's.
    """
    journal = Journal(path)
    header = journal.header
    setting = setting_of(header)
    live, market = LiveTotals(), _Market(setting)
    history: F64 | None = None
    fleet: I64 = np.zeros(setting.shape[:2], np.int64)
    for number, tick in enumerate(journal.ticks()):
        seen = tick.observation
        if history is None:
            history = np.roll(seen.history[0], -int(seen.tick[0]), axis=1)
        if number < 2 and not fleet.any():
            # A simulated run counts its machines from the first window on; those it began to drain then are among them.
            fleet = seen.ready[0] + seen.doomed[0] + seen.draining[0]
        if seen.tick[0] > 0:
            live.add(seen)
            market.add(seen)
        live.rule_ticks += bool(tick.plan.reasons[0] & Reason.FALLBACK_RULE)
    capture = read_capture(journal)
    assert history is not None  # a journal without a tick has no capture
    return Recorded(
        header=header,
        capture=capture,
        world=_world_of(setting, capture, market),
        simulated=_simulated(header, setting, capture, catalog),
        live=live,
        _history=history,
        _fleet=fleet,
    )


def recorded_policy(header: JournalHeader, given: str | None = None) -> PolicyChoice:
    """The policy of a journal, from its header or from where it lies now.

    Raises:
        PolicyFileError: Its file is gone or another one.
    """
    if given is not None:
        policy: PolicyChoice = given
    elif isinstance(header.policy, str):
        policy = header.policy
    else:
        policy = PolicySpec.model_validate(header.policy)
    if header.policy_sha256 is not None and policy_digest(policy) != header.policy_sha256:
        wanted = f"the file that decided (sha256 {header.policy_sha256[:12]}); name it with --recorded"
        raise PolicyFileError(mismatch(str(policy), wanted, policy_digest(policy)))
    return policy


class _Market:
    """What was seen of the spot pools, window by window."""

    def __init__(self, setting: Setting) -> None:
        self._quota = np.maximum(1, setting.catalog.quota)
        self._rows: list[F64] = []

    def add(self, seen: ObservationArrays) -> None:
        """One window: a pool that lost or refused something offers what is left in it."""
        left = (seen.ready[0] + seen.starting[0] + seen.draining[0]).sum(axis=0)
        lost: Bool = ~seen.available[0] | (seen.preempted[0] > 0) | (seen.doomed[0].sum(axis=0) > 0)
        self._rows.append(np.where(lost, left / self._quota, 1.0).clip(0.0, 1.0))

    def shares(self) -> F64:
        """(P, windows)."""
        return np.ascontiguousarray(np.stack(self._rows, axis=1))


def _world_of(setting: Setting, capture: Capture, market: _Market) -> RecordedWorld:
    """Rates and market on the run's clock."""
    trace, speed = capture.trace.summed(equal_mean=False), setting.scenario.speed
    window_s = min(_MOST_SMOOTH_S, _WANTED_REQUESTS / max(trace.mean_rps, 1e-9))
    smooth_s = max(setting.scenario.arrivals.smooth_s, trace.bin_seconds, window_s)
    step_s = min(trace.bin_seconds, _GRID_S)
    rates = intensity_of(trace, bin_s=step_s, smooth_s=smooth_s)
    return RecordedWorld(
        setting=setting,
        trace_name=trace.name,
        scale=capture.rate_factor,
        rate_rps=np.ascontiguousarray(rates.rate_rps * capture.rate_factor),
        bin_s=rates.bin_s / speed,
        spot_share=market.shares(),
        spot_gap_s=setting.control.tick_s,
        days=(1,),
    )


def _simulated(header: JournalHeader, setting: Setting, capture: Capture, catalog: str | None) -> Setting:
    """The setting of the simulator: a zone per spot pool, as pools are what was seen, and the captured mix."""
    if catalog is not None:
        other = load_catalog(catalog)
        if other.fingerprint != header.catalog_fingerprint:
            raise UsageError(
                mismatch("--catalog", f"the structure of the run's ({header.catalog_fingerprint[:12]})", catalog)
            )
        setting = setting_of(header.model_copy(update={"catalog": other.model_dump(mode="json")}))
    counts = np.where(capture.trace.mask, capture.trace.counts, 0).sum(axis=1)
    mix = np.maximum(counts / max(1, counts.sum()), _LEAST_SHARE)
    zone = np.where(setting.catalog.market == SPOT, np.arange(setting.shape[1]), -1)
    return replace(
        setting,
        catalog=setting.catalog._replace(zone=zone),
        workload=setting.workload._replace(share=mix / mix.sum()),
        zones=setting.pool_names,
    )
