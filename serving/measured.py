"""What a router measured singly: how long batches held a credit, gaps between arrivals, arrivals in short bins.

Only the latest are kept, with the number there ever were, so whoever reads twice can tell which are new; of a window
with more than fit, the first are lost and the later ones stand for them.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from controller.measurements import MOST_GAPS, MOST_SERVICES, ArrivalBins, ServiceSample, WindowMeasurements, evenly
from serving.requests import Dispatch

_KEPT = 2048
# More than any router here finishes in a tick; copying them takes some ten microseconds.
_KEPT_BINS = 600
# A minute of ticks: whoever reads less often loses the oldest, and is told so.


class Measured:
    """The latest durations; entries are immutable, so a copy shares them.

    Args:
        arrived_s: Time of the latest arrival, where there was one.
        num_classes: Counts of each bin of arrivals.
        bin_s: Seconds of a bin.
    """

    def __init__(self, arrived_s: float | None = None, num_classes: int = 0, bin_s: float = 1.0) -> None:
        self.num_bins = 0  # closed ones with arrivals
        self._num_classes, self._bin_s = num_classes, bin_s
        self._bins: deque[tuple[int, ...]] = deque(maxlen=_KEPT_BINS)
        self._open: list[int] = []  # number of the bin, then counts; empty before the first arrival
        self.num_services = 0
        self.num_gaps = 0
        self._services: deque[tuple[int, int, bool, float]] = deque(maxlen=_KEPT)
        self._gaps_s: deque[float] = deque(maxlen=_KEPT)
        self._arrived_s = arrived_s

    def arrived(self, now_s: float, request_class: int) -> None:
        """A request arrived."""
        number = int(now_s / self._bin_s)
        if self._open and self._open[0] < number:
            self._bins.append(tuple(self._open))
            self.num_bins += 1
            self._open = []
        if not self._open:
            self._open = [number, *([0] * self._num_classes)]
        self._open[1 + request_class] += 1
        if self._arrived_s is not None:
            self._gaps_s.append(now_s - self._arrived_s)
            self.num_gaps += 1
        self._arrived_s = now_s

    def served(self, dispatch: Dispatch, now_s: float) -> None:
        """A batch was answered; it held its credit until now."""
        seconds = now_s - dispatch.sent_at_s
        self._services.append((dispatch.option, len(dispatch.copies), dispatch.cold_s > 0, seconds))
        self.num_services += 1

    def since(self, earlier: Measured) -> Measured:
        """What was measured after an earlier reading of the same router."""
        window = Measured(self._arrived_s, self._num_classes, self._bin_s)
        window.num_bins = self.num_bins - earlier.num_bins
        window._bins.extend(islice(self._bins, max(0, len(self._bins) - window.num_bins), None))
        window.num_services = self.num_services - earlier.num_services
        window.num_gaps = self.num_gaps - earlier.num_gaps
        window._services.extend(islice(self._services, max(0, len(self._services) - window.num_services), None))
        window._gaps_s.extend(islice(self._gaps_s, max(0, len(self._gaps_s) - window.num_gaps), None))
        return window

    def summary(self, now_s: float | None = None) -> WindowMeasurements:
        """As it is journalled, in order of options and sizes; without spans, which a router does not know.

        Args:
            now_s: When the router was read; None: arrivals by bin are left out.
        """
        found: dict[tuple[int, int, bool], list[float]] = {}
        for option, batch, is_cold, seconds in self._services:
            found.setdefault((option, batch, is_cold), []).append(seconds)
        services = tuple(
            ServiceSample(*key, len(seconds), evenly(seconds, MOST_SERVICES)) for key, seconds in sorted(found.items())
        )
        arrivals = None
        if now_s is not None:
            end = int(now_s / self._bin_s)
            arrivals = ArrivalBins(self._bin_s, end, self.num_bins - len(self._bins), tuple(self._bins))
        return WindowMeasurements(services, self.num_gaps, evenly(list(self._gaps_s), MOST_GAPS), arrivals=arrivals)

    def __deepcopy__(self, memo: object) -> Measured:
        return self.since(Measured())
