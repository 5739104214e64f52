"""Fits service, start-up, swap and arrival models to what live journals measured, and says how well each holds.

A figure is fitted where there are enough samples outside the windows held back (`NEEDED`); elsewhere the catalog's own
stays, and the fit says how many were missing. A mean of few samples that says nothing against the catalog's does not
take its place either: it would bring in more error than it removes. What is written is worked out in
`experiments.calibrated`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controller.catalog import Catalog, Profile
from controller.errors import InputError
from experiments.catalog_derivation import Entry, derived, measured
from experiments.fitting import (
    Agreement,
    Estimate,
    agreement,
    cv_of,
    cv_of_counts,
    gap_agreement,
    line_through,
    mean_of,
    seconds_per_answer,
    shape_of,
)
from experiments.journal_samples import JournalSamples, Series, ServiceKey, SpanKey


class Needs(NamedTuple):
    """Samples that a fit needs, beside those held back."""

    service: int = 30  # single batches, for a mean: its error is then a fifth of the spread
    shape: int = 100  # single batches, for quantiles from 5 % to 95 %
    span: int = 5  # launches, loads or swaps, for a mean
    span_shape: int = 40
    gaps: int = 200  # for a CV: its error is then about 7 %
    windows: int = 30  # for a rate, and where single durations are missing


NEEDED = Needs()

_JUDGES = 5
# Held-back samples below which nothing is said of a fit.
_WELL_TOLD = 0.1
# A mean from sums over windows is taken where its relative standard error is at most this.
_SHARP = 0.02
_CONTRADICTS_SES = 3.0
# A mean takes the place of the catalog's where its relative standard error is at most the first, or where the two are
# more than so many standard errors apart.
_FEW_ARRIVALS = 5.0
# Per window: counts below this say little about the gaps.

SERVICE, RATE, GAP_CV = "service", "arrival rate", "arrival gap CV"

Place = tuple[str, ...]
"""Section, item, field and, inside the field, key of a figure in the catalog document."""


@dataclass(frozen=True)
class Fit:
    """One model, what came out and how it does on the samples held back."""

    what: str
    where: str
    found: Estimate | None  # None: too few samples, or a shape, which has no single number
    before: float | None  # what the catalog says
    samples: int
    held: int
    needed: int
    error: float | None = None  # of the fitted mean, relative to that of the samples held back
    agreement: Agreement | None = None
    place: Place | None = None  # None where the catalog holds no such figure
    entry: Entry | None = None  # None: the catalog's own stays
    note: str = ""


class Calibrator:
    """Makes every fit that the samples allow.

    Args:
        samples: Of all journals.
        catalog: What they are held against.
        needed: Least samples.
    """

    def __init__(self, samples: JournalSamples, catalog: Catalog, needed: Needs = NEEDED) -> None:
        self._samples, self._catalog, self._needed = samples, catalog, needed
        self._profiles = {(p.variant, p.pool): p for p in catalog.profiles}
        listed = ", ".join(f"{s.name} (sha256 {s.sha256[:12]})" for s in samples.sources)
        self._journals = f"{len(samples.sources)} live journal(s): {listed}"

    def fits(self) -> list[Fit]:
        """All fits, services first.

        Raises:
            InputError: No service time can be fitted; says what was found and what is needed.
        """
        services = [fit for pair in self._profiles for fit in self._services(*pair)]
        means = [fit for fit in services if fit.what == SERVICE]
        if all(fit.found is None for fit in means):
            raise InputError(self._too_few(means))
        return [*services, *self._spans(), *self._arrivals()]

    # Service

    def _services(self, variant: str, pool: str) -> Iterator[Fit]:
        profile = self._profiles[variant, pool]
        of_pair = {k: s for k, s in sorted(self._samples.services.items()) if (k.variant, k.pool) == (variant, pool)}
        warm = {k.batch: s for k, s in of_pair.items() if not k.is_cold and k.batch <= profile.batch_max}
        means: dict[int, Estimate] = {}
        for batch, series in warm.items():
            fit = self._service_mean(profile, batch, series)
            if fit.found is not None:
                means[batch] = fit.found
            yield fit
        if not warm:
            yield from self._from_windows(profile)
        if len(means) > 1:
            yield from self._line(profile, means)
        if means:
            yield self._service_shape(profile, {b: s for b, s in warm.items() if b in means}, means)
        cold = of_pair.get(ServiceKey(variant, pool, 1, True))
        if cold is not None:
            yield self._cold_start(profile, cold, means.get(1))

    def _service_mean(self, profile: Profile, batch: int, series: Series) -> Fit:
        where, before = f"{_name(profile)}, batch {batch}", profile.service_s(batch)
        place = (*_place(profile), "service_by_batch_s", str(batch))
        return self._mean(SERVICE, where, series, before, self._needed.service, place, "batches")

    def _from_windows(self, profile: Profile) -> Iterator[Fit]:
        """A mean from sums by window, which is all that journals without single durations hold."""
        windows = self._samples.windows
        held = np.array(windows.is_held, np.bool_)
        pair = (profile.variant, profile.pool)
        if not held.size or pair not in windows.options:
            return
        column = windows.options.index(pair)
        busy_s, answers = np.array(windows.busy_s), np.array(windows.answers)
        if not busy_s[:, column].any():
            return
        found = seconds_per_answer(answers[~held], busy_s[~held])[column]
        enough = found is not None and found.samples >= self._needed.windows and found.se <= _WELL_TOLD * found.value
        entry = None
        if enough and found is not None:
            text = (
                f"credit-seconds in service per answer, non-negative least squares over {found.samples} windows, "
                f"standard error {found.se:.2g} s; {self._journals}"
            )
            entry = derived(found.value, text)
        yield Fit(
            what=SERVICE,
            where=f"{_name(profile)}, batch 1",
            found=found if enough else None,
            before=profile.service_s(1),
            samples=0 if found is None else found.samples,
            held=int((busy_s[held, column] > 0).sum()),
            needed=self._needed.windows,
            place=(*_place(profile), "service_by_batch_s", "1"),
            entry=entry,
            note="from sums by window; no shape" if enough else "journal without single service times",
        )

    def _line(self, profile: Profile, means: dict[int, Estimate]) -> Iterator[Fit]:
        """The line of the profile, which stands for sizes that were not measured."""
        line = line_through(means)
        for field, value, before in (
            ("service_intercept_s", line.intercept_s, profile.service_intercept_s.value),
            ("service_slope_s", line.slope_s, profile.service_slope_s.value),
        ):
            yield Fit(
                what=field.removesuffix("_s").replace("_", " "),
                where=_name(profile),
                found=Estimate(value, math.nan, len(means)),
                before=before,
                samples=len(means),
                held=0,
                needed=2,
                place=(*_place(profile), field),
                entry=derived(value, line.text),
                note=f"through {len(means)} means",
            )

    def _service_shape(self, profile: Profile, warm: dict[int, Series], means: dict[int, Estimate]) -> Fit:
        ratios = Series()
        for batch, series in warm.items():
            ratios.add([s / means[batch].value for s in series.fitted], False)
            ratios.add([s / means[batch].value for s in series.held], True)
        place = (*_place(profile), "service_shape")
        return self._shape("service shape", _name(profile), ratios, self._needed.shape, place, "batches")

    def _cold_start(self, profile: Profile, cold: Series, warm: Estimate | None) -> Fit:
        """What a cold call takes more than a warm one."""
        service = warm or Estimate(profile.service_s(1), 0.0, 0)
        extra = Series([s - service.value for s in cold.fitted], [s - service.value for s in cold.held])
        before = 0.0 if profile.cold_start_s is None else profile.cold_start_s.value
        place = (*_place(profile), "cold_start_s")
        return self._mean("cold start", _name(profile), extra, before, self._needed.span, place, "cold calls")

    # Start-up and swap

    def _spans(self) -> Iterator[Fit]:
        for key, series in sorted(self._samples.spans.items()):
            if key.kind == "launch":
                yield from self._launch(key, series)
                continue
            profile = self._profiles[key.variant, key.pool]
            figure = profile.load_s if key.kind == "load" else profile.swap_s
            before, place = None if figure is None else figure.value, (*_place(profile), f"{key.kind}_s")
            yield self._mean(key.kind, _name(profile), series, before, self._needed.span, place, f"{key.kind}s")

    def _launch(self, key: SpanKey, series: Series) -> Iterator[Fit]:
        pool = next(p for p in self._catalog.pools if p.name == key.pool)
        section = ("pools", pool.name)
        place = (*section, "launch_s")
        mean = self._mean("launch", pool.name, series, pool.launch_s.value, self._needed.span, place, "launches")
        yield mean
        if mean.found is not None and mean.found.value > 0:
            scale = mean.found.value
            ratios = Series([s / scale for s in series.fitted], [s / scale for s in series.held])
            place = (*section, "launch_shape")
            yield self._shape("launch shape", pool.name, ratios, self._needed.span_shape, place, "launches")

    # Arrivals

    def _arrivals(self) -> Iterator[Fit]:
        first = self._samples.sources[0].scenario
        rates, needed = self._samples.rates_rps, self._needed
        yield self._mean(RATE, "all classes, requests/s", rates, first.mean_rps, needed.windows, None, "")
        gaps = self._samples.gap_ratios
        if len(gaps.fitted) >= needed.gaps:
            cv = cv_of(np.array(gaps.fitted))
            held = np.array(gaps.held)
            judged = gap_agreement(held, cv.value) if held.size >= _JUDGES and cv.value > 0 else None
            told = cv_of(held) if held.size >= needed.gaps // 4 else None
            error = cv.value / told.value - 1 if told is not None and told.value > 0 else None
            shared = (cv.samples, held.size, needed.gaps, error, judged)
            yield Fit(GAP_CV, "all classes", cv, first.arrivals.cv, *shared)
            return
        busy = [c for c in self._samples.counts if c.size >= needed.windows and c.mean() >= _FEW_ARRIVALS]
        found = _weighted([cv_of_counts(counts) for counts in busy])
        windows = sum(c.size for c in self._samples.counts)
        yield Fit(
            what=GAP_CV,
            where="all classes",
            found=found,
            before=first.arrivals.cv,
            samples=len(gaps.fitted) if found is None else found.samples,
            held=0,
            needed=needed.gaps if found is None else needed.windows,
            note=f"from counts of {windows} windows" if found is not None else "gaps; or busier and more windows",
        )

    # Shared

    def _mean(
        self, what: str, where: str, series: Series, before: float | None, needed: int, place: Place | None, unit: str
    ) -> Fit:
        samples, held = len(series.fitted), len(series.held)
        if samples < max(2, needed):
            return Fit(what, where, None, before, samples, held, needed, place=place)
        found = mean_of(series.fitted)
        error = found.value / float(np.mean(series.held)) - 1 if held >= _JUDGES and np.mean(series.held) > 0 else None
        entry, note = None, ""
        is_sharp = found.se <= _SHARP * found.value
        if before is not None and not is_sharp and abs(found.value - before) <= _CONTRADICTS_SES * found.se:
            note = f"catalog's value stays: within {_CONTRADICTS_SES:g} standard errors"
        elif place is not None:
            text = f"mean of {samples} {unit}, standard error {found.se:.2g} s; {self._journals}"
            entry = measured(max(found.value, 0.0), text)
        return Fit(what, where, found, before, samples, held, needed, error, place=place, entry=entry, note=note)

    def _shape(self, what: str, where: str, ratios: Series, needed: int, place: Place, unit: str) -> Fit:
        samples, held = len(ratios.fitted), len(ratios.held)
        if samples < needed:
            return Fit(what, where, None, None, samples, held, needed, place=place)
        table = shape_of(ratios.fitted)
        judged = agreement(ratios.held, table) if held >= _JUDGES else None
        text = f"quantile / mean of {samples} {unit}; {self._journals}"
        entry: Entry = {"quantiles": table, "measured": text}
        shared = (samples, held, needed, None, judged, place, entry)
        return Fit(what, where, None, None, *shared, note="" if judged or held < _JUDGES else "a constant")

    def _too_few(self, services: Sequence[Fit]) -> str:
        most = max(services, key=lambda fit: fit.samples / fit.needed, default=None)
        old = [s.name for s in self._samples.sources if not s.is_measured]
        if most is None and old:
            return (
                f"{old[0]}: expected a journal with single service times, or one in which every batch was one request, "
                "got one without; it was written before live runs measured them, and must be run again"
            )
        got = "none" if most is None else f"at most {most.samples} ({most.where}) and {most.held} held back"
        if most is not None and most.note:
            needed = f"{most.needed} windows that tell the times of the options apart to {_WELL_TOLD:.0%}"
        else:
            needed = f"{self._needed.service} answered batches of one size from one option"
        return (
            f"JOURNAL: expected at least {needed}, beside those of every fifth window, which judge the fit; got {got}. "
            "Serve longer, or give more journals"
        )


def _name(profile: Profile) -> str:
    return f"{profile.variant} on {profile.pool}"


def _place(profile: Profile) -> Place:
    return ("profiles", _name(profile))


def _weighted(estimates: Sequence[Estimate]) -> Estimate | None:
    """Mean by inverse variance; None without estimates."""
    told = [e for e in estimates if e.se > 0]
    if not told:
        return None
    weights = np.array([1 / e.se**2 for e in told])
    value = float((weights * [e.value for e in told]).sum() / weights.sum())
    return Estimate(value, float(weights.sum() ** -0.5), sum(e.samples for e in told))
