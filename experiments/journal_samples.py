"""What live journals say of a catalog's figures: single durations by what they measure, and counts by window.

Every fifth window is held back: its samples judge a fit and are no part of it. Names, not rows, tell options apart, so
journals of several runs add up. Durations that a run's speed compressed are given in control time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controller.arrays import F64, MARKETS, SERVERLESS
from controller.catalog import Catalog
from controller.config import parse_config
from controller.errors import InputError, UsageError, mismatch
from controller.journal import Journal, JournalTick
from controller.measurements import SpanKind
from controller.scenario import Scenario
from experiments.fitting import local_ratios

HELD_BACK_EVERY = 5
"""Of this many windows, the last is held back."""


class ServiceKey(NamedTuple):
    """Batches that should take alike."""

    variant: str
    pool: str
    batch: int
    is_cold: bool


class SpanKey(NamedTuple):
    """Spans that should take alike; a launch does not depend on the variant, which is empty then."""

    kind: SpanKind
    variant: str
    pool: str


class Source(NamedTuple):
    """A journal that was read."""

    name: str  # its folder and file
    sha256: str
    windows: int
    is_measured: bool  # it holds single durations
    scenario: Scenario


@dataclass
class Series:
    """Samples to fit and samples to judge the fit by."""

    fitted: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    def add(self, values: Sequence[float], is_held: bool) -> None:
        """Adds samples of one window."""
        (self.held if is_held else self.fitted).extend(values)


@dataclass
class Windows:
    """Sums by window of the journals without single durations, in which every batch was one request."""

    options: list[tuple[str, str]]  # (variant, pool), machine pools only
    answers: list[float] = field(default_factory=list)  # of machine options together
    busy_s: list[F64] = field(default_factory=list)  # (options,) each
    is_held: list[bool] = field(default_factory=list)


@dataclass
class JournalSamples:
    """Everything that was read."""

    windows: Windows
    sources: list[Source] = field(default_factory=list)
    services: dict[ServiceKey, Series] = field(default_factory=dict)
    spans: dict[SpanKey, Series] = field(default_factory=dict)
    gap_ratios: Series = field(default_factory=Series)  # gaps between arrivals over their local mean
    rates_rps: Series = field(default_factory=Series)  # by window
    counts: list[F64] = field(default_factory=list)  # arrivals by window, one array per journal


def read_samples(paths: Sequence[Path], catalog: Catalog, warm_share: float = 0.0) -> JournalSamples:
    """Reads journals of runs on one catalog.

    Args:
        paths: At least one.
        catalog: What is to be calibrated; must have the structure of each journal's own.
        warm_share: Share of each journal's windows, from its beginning, whose service times are left out: the first
            calls of a fresh replica take longer.

    Raises:
        JournalError: A journal is missing or damaged.
        InputError: A journal is of a simulated run or of another catalog, or given twice.
    """
    pairs = [(v.name, p.name) for v in catalog.variants for p in catalog.pools]
    machines = {p.name for p in catalog.pools if MARKETS.index(p.market.value) != SERVERLESS}
    samples = JournalSamples(Windows([pair for pair in pairs if pair[1] in machines]))
    for path in paths:
        journal = Journal(path)
        header = journal.header
        served = parse_config(header.catalog, Catalog, f"{path}: catalog")
        if header.kind != "live":
            raise InputError(
                f"{path}: expected the journal of a live run, got a simulated one (its durations are the catalog's own)"
            )
        if header.catalog_fingerprint != catalog.fingerprint:
            raise InputError(
                f"{path}: expected a run with the variants, pools and profiles of catalog '{catalog.name}' "
                f"({catalog.fingerprint[:12]}), got one of '{served.name}' ({header.catalog_fingerprint[:12]})"
            )
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if digest in {source.sha256 for source in samples.sources}:
            raise UsageError(mismatch("JOURNAL", "each journal once", str(path)))
        scenario = parse_config(header.scenario, Scenario, f"{path}: scenario")
        _Reader(samples, served, scenario, warm_share).read(journal, digest)
    return samples


class _Reader:
    """Reads one journal into samples.

    Args:
        samples: What is added to.
        served: The catalog of the run, whose figures may differ from those of the one that is calibrated.
        scenario: Of the run.
        warm_share: As for `read_samples`.
    """

    def __init__(self, samples: JournalSamples, served: Catalog, scenario: Scenario, warm_share: float) -> None:
        self._into, self._scenario, self._warm_share = samples, scenario, warm_share
        self._options = [(v.name, p.name) for v in served.variants for p in served.pools]
        self._stand_in = {p.name: p.emulated_speed for p in served.pools}
        self._call_s = {(p.variant, p.pool): p.service_s(1) for p in served.profiles}
        self._gaps_s: list[float] = []
        self._gap_held: list[bool] = []

    def read(self, journal: Journal, digest: str) -> None:
        """Adds every window; the first line of a journal closes none."""
        every = list(journal.ticks())
        ticks = [tick for tick in every if tick.observation.tick[0] > 0]
        is_measured = any(tick.measured is not None for tick in ticks)
        tick_s = self._scenario.control.tick_s / self._scenario.speed
        counts, spanned = [], 0
        for number, tick in enumerate(ticks):
            spanned += 1
            if is_measured and tick.measured is None:
                # The router could not be read: the line repeats the one before, and the next holds both windows.
                continue
            is_held = number % HELD_BACK_EVERY == HELD_BACK_EVERY - 1
            arrivals = float(tick.observation.arrivals.sum())
            self._into.rates_rps.add([arrivals / (spanned * tick_s)], is_held)
            if spanned == 1:
                counts.append(arrivals)
            self._add_measured(tick, is_held, is_warm=number >= self._warm_share * len(ticks))
            spanned = 0
        if not is_measured and all((tick.plan.batch_size == 1).all() for tick in every):
            self._add_windows(ticks[math.ceil(self._warm_share * len(ticks)) :])
        self._into.counts.append(np.array(counts))
        held = np.array(self._gap_held, np.bool_)
        if held.size:
            ratios = local_ratios(self._gaps_s)
            self._into.gap_ratios.add(ratios[~held].tolist(), False)
            self._into.gap_ratios.add(ratios[held].tolist(), True)
        path = journal.path
        name = f"{path.resolve().parent.name}/{path.name}"
        self._into.sources.append(Source(name, digest, len(ticks), is_measured, self._scenario))

    def _add_measured(self, tick: JournalTick, is_held: bool, is_warm: bool) -> None:
        measured = tick.measured
        if measured is None:
            return
        for sample in measured.services if is_warm else ():
            variant, pool = self._options[sample.option]
            # A stand-in of another speed than the pool's hardware is brought to that of the profile.
            speed = self._stand_in[pool]
            if sample.is_cold:
                # The cold start itself does not depend on it, only the call that follows.
                seconds = [s + self._call_s[variant, pool] * (1 - 1 / speed) for s in sample.single_s]
            else:
                seconds = [s * speed for s in sample.single_s]
            key = ServiceKey(variant, pool, sample.batch, sample.is_cold)
            self._into.services.setdefault(key, Series()).add(seconds, is_held)
        for span in measured.spans:
            variant, pool = self._options[span.option]
            # Launch delays are control time, which the run's speed compressed; loads and swaps are real.
            is_launch = span.kind == "launch"
            seconds_s = span.seconds * (self._scenario.speed if is_launch else 1.0)
            span_key = SpanKey(span.kind, "" if is_launch else variant, pool)
            self._into.spans.setdefault(span_key, Series()).add([seconds_s], is_held)
        self._gaps_s += measured.gaps_s
        self._gap_held += [is_held] * len(measured.gaps_s)

    def _add_windows(self, ticks: Sequence[JournalTick]) -> None:
        windows = self._into.windows
        rows = [self._options.index(pair) for pair in windows.options]
        for number, tick in enumerate(ticks):
            seen = tick.observation
            windows.answers.append(float(seen.answered.sum() - seen.invocations.sum()))
            busy = seen.busy_s[0].reshape(-1)[rows]
            windows.busy_s.append(busy * np.array([self._stand_in[pool] for _, pool in windows.options]))
            windows.is_held.append(number % HELD_BACK_EVERY == HELD_BACK_EVERY - 1)
