"""Single durations as a router measured them: how long batches held a credit, and the gaps between arrivals.

Only the latest are kept, with the number there ever were, so whoever reads twice can tell which are new; of a window
with more than fit, the first are lost and the later ones stand for them.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from controller.measurements import MOST_GAPS, MOST_SERVICES, ServiceSample, WindowMeasurements, evenly
from serving.requests import Dispatch

_KEPT = 2048
# More than any router here finishes in a tick; copying them takes some ten microseconds.


class Measured:
    """The latest durations; entries are immutable, so a copy shares them.

    Args:
        arrived_s: Time of the latest arrival, where there was one.
    """

    def __init__(self, arrived_s: float | None = None) -> None:
        self.num_services = 0
        self.num_gaps = 0
        self._services: deque[tuple[int, int, bool, float]] = deque(maxlen=_KEPT)
        self._gaps_s: deque[float] = deque(maxlen=_KEPT)
        self._arrived_s = arrived_s

    def arrived(self, now_s: float) -> None:
        """A request of any class arrived."""
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
        window = Measured(self._arrived_s)
        window.num_services = self.num_services - earlier.num_services
        window.num_gaps = self.num_gaps - earlier.num_gaps
        window._services.extend(islice(self._services, max(0, len(self._services) - window.num_services), None))
        window._gaps_s.extend(islice(self._gaps_s, max(0, len(self._gaps_s) - window.num_gaps), None))
        return window

    def summary(self) -> WindowMeasurements:
        """As it is journalled, in order of options and sizes; without spans, which a router does not know."""
        found: dict[tuple[int, int, bool], list[float]] = {}
        for option, batch, is_cold, seconds in self._services:
            found.setdefault((option, batch, is_cold), []).append(seconds)
        services = tuple(
            ServiceSample(*key, len(seconds), evenly(seconds, MOST_SERVICES)) for key, seconds in sorted(found.items())
        )
        return WindowMeasurements(services, self.num_gaps, evenly(list(self._gaps_s), MOST_GAPS))

    def __deepcopy__(self, memo: object) -> Measured:
        return self.since(Measured())
