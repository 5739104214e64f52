"""The type for what arrives: request counts in equal bins, with the bins that were never recorded marked.

Two ideas are needed to read it. *Rows* are functions, clients or request classes of one source; they share bins and the
validity mask. *Days* are 1-based and counted from the first bin, whatever clock the source used, because the time zone
of most public traces is unknown. Reading files lives in `readers`, request times inside a bin in `intensity`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch

DAY_S = 86_400.0


@dataclass(frozen=True, eq=False)
class Trace:
    """Counts of requests per bin, immutable; a 1-D array becomes one row.

    Raises:
        TraceError: Counts that are empty, negative or not finite, or fields whose lengths do not agree.
    """

    name: str
    counts: NDArray[Any]  # (R, bins) requests in a bin; int64, or float64 once rescaled
    bin_seconds: float
    row_names: tuple[str, ...] = ()  # R names; "0", "1", ... where the source has none
    valid: NDArray[np.bool_] | None = None  # (bins,) False where the source recorded nothing; None: all recorded
    start: str | None = None  # the source's own words for when bin 0 begins
    source: str = ""  # public origin
    offset_s: float = 0.0  # where bin 0 lies in the file it was cut from, seconds
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = _checked_counts(self.name, self.counts)
        if not (math.isfinite(self.bin_seconds) and self.bin_seconds > 0):
            raise TraceError(mismatch(f"{self.name}: bin_seconds", "a number > 0", self.bin_seconds))
        rows, bins = counts.shape
        names = tuple(str(name) for name in self.row_names) or tuple(str(i) for i in range(rows))
        if len(names) != rows or len(set(names)) != rows:
            raise TraceError(mismatch(f"{self.name}: row_names", f"{rows} different names", names))
        valid = np.ones(bins, bool) if self.valid is None else np.array(self.valid, dtype=bool)
        if valid.shape != (bins,):
            raise TraceError(mismatch(f"{self.name}: valid", f"one flag per bin, shape ({bins},)", valid.shape))
        if not valid.any():
            raise TraceError(f"{self.name}: valid: expected at least one recorded bin, got none in {bins}")
        counts.flags.writeable = False
        valid.flags.writeable = False
        for key, value in {"counts": counts, "row_names": names, "valid": valid, "meta": dict(self.meta)}.items():
            object.__setattr__(self, key, value)

    # ---- size -------------------------------------------------------------------------------------------------

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Recorded bins, bool, shape (bins,)."""
        assert self.valid is not None  # set by the constructor
        return self.valid

    @property
    def num_rows(self) -> int:
        """Functions, clients or classes in the trace."""
        return int(self.counts.shape[0])

    @property
    def num_bins(self) -> int:
        """Bins, recorded or not."""
        return int(self.counts.shape[1])

    @property
    def duration_s(self) -> float:
        """Time from the first bin's begin to the last bin's end, gaps included."""
        return self.num_bins * self.bin_seconds

    @property
    def days(self) -> int:
        """Whole days of 86,400 s; a trailing part of a day is not counted."""
        return int((self.duration_s + 1e-6) // DAY_S)

    @property
    def mean_rps(self) -> float:
        """Requests/s of all rows together, over recorded bins only."""
        return float(self.counts[:, self.mask].sum(dtype=float) / (self.mask.sum() * self.bin_seconds))

    @property
    def row_mean_rps(self) -> NDArray[np.float64]:
        """Requests/s of each row over recorded bins, shape (R,)."""
        return np.asarray(self.counts[:, self.mask].mean(axis=1) / self.bin_seconds, dtype=np.float64)

    def fingerprint(self) -> str:
        """SHA-256 over counts, mask and bin width: equal for equal content, whatever file it came from."""
        digest = hashlib.sha256(json.dumps([self.bin_seconds, self.row_names, self.counts.shape]).encode())
        digest.update(np.ascontiguousarray(self.counts, dtype=np.float64).tobytes())
        digest.update(np.packbits(self.mask).tobytes())
        return digest.hexdigest()

    # ---- parts of it ------------------------------------------------------------------------------------------

    def row(self, key: int | str) -> Trace:
        """One row as a trace, chosen by name, or else by its 0-based number."""
        text = str(key)
        if text in self.row_names:
            index = self.row_names.index(text)
        elif text.isdigit() and int(text) < self.num_rows:
            index = int(text)
        else:
            shown = ", ".join(self.row_names[:8]) + (", ..." if self.num_rows > 8 else "")
            raise TraceError(mismatch(f"{self.name}: row", f"0..{self.num_rows - 1} or one of {shown}", key))
        return replace(self, counts=self.counts[index : index + 1], row_names=(self.row_names[index],))

    def slice_time(self, start_s: float, end_s: float) -> Trace:
        """The bins that begin in [start_s, end_s), seconds from this trace's begin."""
        first, last = self._bin_from(start_s), self._bin_from(end_s)
        if not 0 <= first < last <= self.num_bins:
            span = f"a span inside 0..{self.duration_s:g} s that holds a bin"
            raise TraceError(mismatch(f"{self.name}: time", span, (start_s, end_s)))
        return replace(
            self,
            counts=self.counts[:, first:last],
            valid=self.mask[first:last],
            offset_s=self.offset_s + first * self.bin_seconds,
        )

    def slice_days(self, first: int, last: int) -> Trace:
        """Days `first` to `last`, 1-based from this trace's begin, both included."""
        if not 1 <= first <= last <= self.days:
            raise TraceError(
                mismatch(f"{self.name}: days", f"FIRST:LAST within 1:{self.days} (whole days)", f"{first}:{last}")
            )
        return self.slice_time((first - 1) * DAY_S, last * DAY_S)

    def split_time(self, *cuts_s: float) -> tuple[Trace, ...]:
        """Consecutive parts that share no bin and lose none.

        Args:
            cuts_s: Increasing times in seconds from this trace's begin, each strictly inside it.

        Returns:
            One part more than there are cuts, in order of time.
        """
        edges = [0.0, *cuts_s, self.duration_s]
        if any(b <= a for a, b in pairwise(edges)):
            raise TraceError(
                mismatch(f"{self.name}: cuts", f"increasing times inside 0..{self.duration_s:g} s", cuts_s)
            )
        return tuple(self.slice_time(a, b) for a, b in pairwise(edges))

    def valid_windows(self, length_s: float, stride_s: float | None = None) -> NDArray[np.int64]:
        """First bins of the windows that touch no unrecorded bin.

        Args:
            length_s: Window length in seconds, > 0; rounded up to whole bins.
            stride_s: Distance between the windows looked at, from bin 0; None: every bin.

        Returns:
            Bin numbers, increasing; empty where no window fits.
        """
        length = max(1, math.ceil(length_s / self.bin_seconds - 1e-9))
        stride = 1 if stride_s is None else max(1, round(stride_s / self.bin_seconds))
        gaps_before = np.concatenate([[0], np.cumsum(~self.mask)])
        starts = np.arange(0, self.num_bins - length + 1, stride, dtype=np.int64)
        whole: NDArray[np.int64] = starts[gaps_before[starts + length] == gaps_before[starts]]
        return whole

    # ---- rates ------------------------------------------------------------------------------------------------

    def rate_rps(self, window_s: float | None = None) -> NDArray[np.float64]:
        """Rate in windows laid end to end, over the recorded bins of each.

        Args:
            window_s: Window length, a whole number of bins (rounded); None: one bin.

        Returns:
            Requests/s, shape (R, windows); NaN where a window has no recorded bin; a trailing part is left out.
        """
        size = 1 if window_s is None else max(1, round(window_s / self.bin_seconds))
        windows = self.num_bins // size
        if windows == 0:
            raise TraceError(mismatch(f"{self.name}: window_s", f"at most {self.duration_s:g} s", window_s))
        used = windows * size
        recorded = self.mask[:used].reshape(windows, size).sum(axis=1)
        total = np.where(self.mask, self.counts, 0)[:, :used].reshape(self.num_rows, windows, size).sum(axis=2)
        rate = np.full(total.shape, np.nan)
        np.divide(total, recorded * self.bin_seconds, out=rate, where=np.broadcast_to(recorded > 0, total.shape))
        return rate

    def rebinned(self, bin_seconds: float) -> Trace:
        """Counts in wider bins; one is valid when all its parts are, and a trailing part is dropped."""
        size = round(bin_seconds / self.bin_seconds)
        if size < 1 or abs(size * self.bin_seconds - bin_seconds) > 1e-6 or self.num_bins < size:
            whole = f"a multiple of {self.bin_seconds:g} up to {self.duration_s:g}"
            raise TraceError(mismatch(f"{self.name}: bin_seconds", whole, bin_seconds))
        bins = self.num_bins // size
        counts = self.counts[:, : bins * size].reshape(self.num_rows, bins, size).sum(axis=2)
        valid = np.asarray(self.mask[: bins * size].reshape(bins, size).all(axis=1))
        return replace(self, counts=counts, valid=valid, bin_seconds=float(bin_seconds))

    # ---- other loads from it ----------------------------------------------------------------------------------

    def summed(self, equal_mean: bool = True, training_part: Trace | None = None) -> Trace:
        """All rows as one; the mean over the weighing part is kept.

        Args:
            equal_mean: Scale rows to equal mean first, so that the shape of each counts the same; a row without any
                request in the weighing part is left out. Otherwise rows are added as they are.
            training_part: Where the row means are taken; None: this trace. Must have the same rows.
        """
        if self.num_rows == 1:
            return self
        counts = self.counts.sum(axis=0, keepdims=True)
        if equal_mean:
            basis = self if training_part is None else training_part
            if basis.row_names != self.row_names:
                raise TraceError(mismatch(f"{self.name}: training_part rows", str(self.row_names), basis.row_names))
            means = basis.row_mean_rps
            if not means.any():
                raise TraceError(f"{self.name}: expected a row with requests to weigh rows by, got none")
            busy = means > 0
            weights = np.divide(means.sum() / busy.sum(), means, out=np.zeros_like(means), where=busy)
            counts = weights[None, :] @ self.counts.astype(float)
        return replace(self, counts=counts, row_names=("sum",), meta={**self.meta, "summed_rows": self.row_names})

    def scaled(self, factor: float) -> Trace:
        """Counts times `factor` (> 0): float intensities, no longer counts of whole requests."""
        if not (math.isfinite(factor) and factor > 0):
            raise TraceError(mismatch(f"{self.name}: scale", "a number > 0", factor))
        scale = float(self.meta.get("scale", 1.0)) * factor
        return replace(self, counts=self.counts.astype(float) * factor, meta={**self.meta, "scale": scale})

    def scale_for_mean(self, target_rps: float) -> float:
        """The constant that brings this part's mean over recorded bins to `target_rps` (requests/s, > 0)."""
        mean = self.mean_rps
        if mean == 0:
            raise TraceError(f"{self.name}: expected requests to scale, got a mean of 0 requests/s")
        if not (math.isfinite(target_rps) and target_rps > 0):
            raise TraceError(mismatch(f"{self.name}: mean_rps", "a number > 0", target_rps))
        return target_rps / mean

    def scale_to_mean(self, target_rps: float, training_part: Trace | None = None) -> Trace:
        """This trace times the one constant that brings its training part to a mean.

        Args:
            target_rps: Mean wanted over the training part, requests/s, > 0.
            training_part: The only part the constant is computed from; None: this trace.

        Returns:
            The scaled trace; `meta["scale"]` holds the constant.
        """
        return self.scaled((self if training_part is None else training_part).scale_for_mean(target_rps))

    def thin(self, keep: float, seed: int) -> Trace:
        """Each request kept with probability `keep` on its own, so counts stay whole and Poisson stays Poisson.

        Args:
            keep: Probability in (0, 1].
            seed: Equal seeds keep equal requests.
        """
        if not 0 < keep <= 1:
            raise TraceError(mismatch(f"{self.name}: keep", "a probability in (0, 1]", keep))
        if self.counts.dtype != np.int64:
            raise TraceError(f"{self.name}: thin: expected whole counts, got rescaled rates; thin before scaling")
        kept = np.random.default_rng([seed, 0x7417]).binomial(self.counts, keep)
        scale = float(self.meta.get("scale", 1.0)) * keep
        return replace(self, counts=kept, meta={**self.meta, "scale": scale})

    def _bin_from(self, time_s: float) -> int:
        """First bin that begins at or after a time; the tolerance absorbs rounding of `n * bin_seconds`."""
        return math.ceil(time_s / self.bin_seconds - 1e-9)


def _checked_counts(name: str, counts: NDArray[Any]) -> NDArray[Any]:
    """A private copy as (R, bins) of int64 or float64, or the error that names the first bad cell."""
    array = np.asarray(counts)
    if array.dtype.kind not in "iuf":
        raise TraceError(mismatch(f"{name}: counts", "numbers", str(array.dtype)))
    if array.ndim not in (1, 2) or array.size == 0:
        raise TraceError(mismatch(f"{name}: counts", "bins, or rows x bins, not empty", f"shape {array.shape}"))
    array = np.array(np.atleast_2d(array), dtype=np.float64 if array.dtype.kind == "f" else np.int64, order="C")
    bad = (~np.isfinite(array) | (array < 0)) if array.dtype == np.float64 else array < 0
    if bad.any():
        row, at = (int(i) for i in np.argwhere(bad)[0])
        raise TraceError(mismatch(f"{name}: counts[{row}, {at}]", "a finite number >= 0", array[row, at].item()))
    return array
