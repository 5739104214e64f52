"""Journals of live runs whose parameters are known, for tests of what is fitted to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.compile import Setting
from controller.journal_writer import JournalWriter
from controller.measurements import ServiceSample, Span, WindowMeasurements
from controller.replay import make_header
from tests.tiny import tiny_setting

SPEED = 20.0
TICK_S = 10.0 / SPEED
"""Live seconds of a window."""

SMALL_OD, SMALL_FN, MEDIUM_SPOT_A = 0, 3, 5
"""Options of the tiny catalog: variant x 4 + pool."""


def live_setting(**changes: Any) -> Setting:
    """The tiny scenario with batches of up to four, served at speed 20."""
    return tiny_setting(batch_max=4, speed=SPEED, **changes)


@dataclass
class Window:
    """What one window held."""

    services: list[ServiceSample] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    gaps_s: Sequence[float] = ()
    arrivals: int = 0
    answered: int = 0
    busy_s: dict[int, float] = field(default_factory=dict)
    invocations: int = 0
    batch_size: int = 1  # of the plan that follows
    is_measured: bool = True

    def serve(self, option: int, batch: int, single_s: Sequence[float], *, is_cold: bool = False) -> None:
        """Batches of one option and size."""
        self.services.append(ServiceSample(option, batch, is_cold, len(single_s), tuple(single_s)))


def live_journal(
    path: Path,
    windows: Sequence[Window],
    setting: Setting | None = None,
    *,
    kind: Any = "live",
    first_batch_size: int = 1,
) -> Path:
    """Writes the line that closes no window and then these."""
    setting = setting or live_setting()
    header = make_header(setting, "mpc", "mpc", (0,), kind)
    before = Window(batch_size=first_batch_size, is_measured=False)
    v, p, c = setting.shape
    with JournalWriter(path, header) as journal:
        for tick, window in enumerate([before, *windows]):
            seen, plan = empty_observation(1, setting.shape), empty_plan(1, setting.shape)
            seen.tick[0] = tick
            seen.arrivals[0, 0] = window.arrivals
            seen.answered[0, 0] = window.answered
            seen.invocations[0, p - 1] = window.invocations
            for option, seconds in window.busy_s.items():
                seen.busy_s[0].reshape(-1)[option] = seconds
            plan.batch_size[...] = window.batch_size
            measured = WindowMeasurements(
                tuple(window.services), len(window.gaps_s), tuple(window.gaps_s), tuple(window.spans)
            )
            journal.write(
                seen,
                np.zeros((1, 1)),
                plan,
                empty_actions(1, setting.shape),
                np.zeros((1, c, v, p)),
                measured=measured if window.is_measured else None,
            )
    return path


def each_window(count: int, fill: Callable[[Window, np.random.Generator], None], seed: int = 0) -> list[Window]:
    """Windows filled one by one from one stream of random numbers."""
    rng = np.random.default_rng(seed)
    windows = [Window() for _ in range(count)]
    for window in windows:
        fill(window, rng)
    return windows


def add_arrivals(windows: Sequence[Window], rng: np.random.Generator, rate_rps: float, cv: float) -> None:
    """A renewal process with Gamma gaps through all windows."""
    span_s = len(windows) * TICK_S
    gaps_s = rng.gamma(1 / cv**2, cv**2 / rate_rps, int(1.5 * span_s * rate_rps) + 200)
    at_s = np.cumsum(gaps_s)
    assert at_s[-1] > span_s
    for number, window in enumerate(windows):
        inside = (at_s >= number * TICK_S) & (at_s < (number + 1) * TICK_S)
        window.gaps_s = gaps_s[inside].tolist()
        window.arrivals = int(inside.sum())


def gamma_s(rng: np.random.Generator, mean_s: float, cv: float, count: int) -> list[float]:
    """Durations with a Gamma distribution."""
    return rng.gamma(1 / cv**2, cv**2 * mean_s, count).tolist()
