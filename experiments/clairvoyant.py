"""The `mpc` rule that is told how the rate goes on: the practical bound on what a forecast can be worth.

It knows the rate, not the requests: what is drawn from the rate, where the spot market goes, and what happens after
the horizon stay unknown to it. All else is the rule, so the difference to it is the value of a perfect forecast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controller.arrays import F64, ObservationArrays
from controller.compile import Setting
from controller.config import parse_config
from controller.errors import UsageError, mismatch
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import PolicySpec, make_policy, policy_file, read_spec
from controller.policies.tiered import with_tiers
from controller.ports import Policy
from envs.world import Cell, World
from experiments.forecast_samples import largest_ahead

CLAIRVOYANT = "experiments.clairvoyant:ClairvoyantMpc"
"""Its kind, where a policy is named: `provisor tune`, `evaluate` and `benchmark` take it, `serve` cannot."""

HORIZON_S = 200.0
"""How far ahead it is told, control seconds: a launch with its load."""


class RatesAhead:
    """What such a rule is told.

    Args:
        world: Whose rate is told.
        horizon_s: How far ahead, in seconds of control time, > 0.
    """

    def __init__(self, world: World, horizon_s: float = HORIZON_S) -> None:
        self._bin_s = world.bin_s
        self._now_rps = world.rate_rps.sum(axis=0)
        # The bin that a moment lies in and every one that begins within the horizon.
        self._bins = max(1, int(np.ceil(horizon_s / world.setting.scenario.speed / world.bin_s - 1e-9))) + 1
        self._most_rps = largest_ahead(self._now_rps, self._bins)

    def told(self, at_s: F64, end_s: F64) -> tuple[F64, F64]:
        """The rate at moments of the trace and the largest within the horizon, requests/s, (N,) each.

        Args:
            at_s: (N,) trace time.
            end_s: (N,) trace time from which nothing is told: in a world of several traces another's follows there.
        """
        bins = np.minimum((at_s / self._bin_s + 1e-9).astype(np.int64), len(self._now_rps) - 1)
        end_bins = np.rint(end_s / self._bin_s).astype(np.int64)
        most_rps = self._most_rps[bins]
        for n in np.flatnonzero(bins + self._bins > end_bins):
            most_rps[n] = self._now_rps[bins[n] : max(end_bins[n], bins[n] + 1)].max()
        return self._now_rps[bins], most_rps


class ClairvoyantMpc(MpcPolicy):
    """The rule under a perfect forecast.

    Args:
        world: Whose rate is told.
        cells: What each env runs, in order.
        settings: The rule's settings; its `quantile` and `forecaster` have no effect, `headroom` does.
        horizon_s: How far ahead the largest rate is told, in seconds of control time, > 0.
        name: Name in tables.
        setting: What is decided for; None: the world's. One of more requests is told as many more.

    Raises:
        UsageError: The horizon is not positive, or it is reset for another number of envs than there are cells.
    """

    def __init__(
        self,
        world: World,
        cells: Sequence[Cell],
        settings: MpcSettings | None = None,
        horizon_s: float = HORIZON_S,
        name: str = "clairvoyant",
        setting: Setting | None = None,
    ) -> None:
        if not horizon_s > 0:
            raise UsageError(mismatch("horizon_s", "a number of seconds > 0", horizon_s))
        self._begin_s = world.start_s(cells)
        self._end_s = self._begin_s + world.cell_s
        self._rates = RatesAhead(world, horizon_s)
        setting = world.setting if setting is None else setting
        self._times = setting.scenario.mean_rps / world.setting.scenario.mean_rps
        super().__init__(setting, settings, name=name)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; what is told is set at every decision."""
        if num_envs not in (1, len(self._begin_s)):  # one env before anything runs: the rule is made with it
            raise UsageError(mismatch("num_envs", f"{len(self._begin_s)}, one for each cell", num_envs))
        super().reset(num_envs)

    def prepare(self, observation: ObservationArrays) -> None:
        """Tells the rule the rate now and the largest within the horizon."""
        self.state.told[:] = self.told_ahead(observation, 1)[0]

    def told_ahead(self, observation: ObservationArrays, ticks: int) -> F64:
        """The same for this tick and those after it, (T, N, 2)."""
        count = len(observation.tick)
        if count != len(self._begin_s):
            raise UsageError(mismatch("observation", f"{len(self._begin_s)} envs, one for each cell", count))
        at_ticks = observation.tick + np.arange(ticks)[:, None]
        at_s = self._begin_s + at_ticks * self.setting.control.tick_s
        rates = self._rates.told(at_s.ravel(), np.broadcast_to(self._end_s, at_s.shape).ravel())
        return np.stack(rates, axis=1).reshape(ticks, count, 2) * self._times


def policy_in(world: World, cells: Sequence[Cell], choice: str | PolicySpec | Policy) -> Policy:
    """A policy for cells of a world: what `make_policy` takes, and the rule that is told what comes in these cells.

    Args:
        world: What is decided for.
        cells: What each env runs, in order.
        choice: What `make_policy` takes, `CLAIRVOYANT` with or without settings, or a policy, which is returned.

    Raises:
        ConfigError: The policy or its settings are wrong.
    """
    if not isinstance(choice, str | PolicySpec):
        return choice
    if policy_file(choice) is not None:
        return make_policy(choice, world.setting)
    spec = read_spec(choice) if isinstance(choice, str) else choice
    if spec.kind != CLAIRVOYANT:
        return make_policy(choice, world.setting)
    settings = parse_config(spec.settings, MpcSettings, CLAIRVOYANT)
    name = spec.name or "clairvoyant"
    return with_tiers(world.setting, lambda setting: ClairvoyantMpc(world, cells, settings, name=name, setting=setting))
