"""Settings of the alarms and of the way back; `trust:` in the run file of `provisor serve`.

Spans are control time: they shrink with `--speed` as every span of the control loop does. The one exception is the
decision time-out, which is about the machine.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from controller.config import StrictModel


class BurnPair(StrictModel):
    """Fires while both windows burn faster than `rate`: the long shows that it matters, the short that it lasts."""

    long_s: float = Field(ge=10.0, le=86400.0)
    short_s: float = Field(ge=10.0, le=86400.0)
    rate: float = Field(gt=0.0, le=1e4, description="times the pace at which the budget lasts exactly its period")

    @model_validator(mode="after")
    def _short_is_shorter(self) -> BurnPair:
        if self.short_s > self.long_s:
            raise ValueError(f"short_s: expected at most long_s ({self.long_s:g}), got {self.short_s:g}")
        return self


class SloBurnPair(BurnPair):
    """A pair that may also ask for how the day went so far."""

    spent: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="fires only where so much of the misses that the day's requests so far permit have happened",
    )


class SloBurnConfig(StrictModel):
    """Misses against the attainment target, by class.

    The error budget of a class is 1 - its attainment target, over a day. The default pairs alarm when half of a class's
    requests are missed for five minutes; and, on a day whose misses so far are more than it permits, when 5 % of the
    day's budget went in five minutes or 12.5 % in half an hour. A day that is within its promise has minutes in which
    the budget is used, that being what it is for: a flash crowd is over before a machine can start.

    Source:
        The Site Reliability Workbook, chapter 5, "Alerting on SLOs", 6: multiwindow, multi-burn-rate alerts; there for
        a budget of 30 days (2 % of which in an hour, its first page, is 60 % of a day's), here for a day's.
    """

    is_on: bool = True
    pairs: tuple[SloBurnPair, ...] = Field(
        default=(
            SloBurnPair(long_s=300.0, short_s=60.0, rate=50.0),
            SloBurnPair(long_s=300.0, short_s=60.0, rate=14.4, spent=1.0),
            SloBurnPair(long_s=1800.0, short_s=300.0, rate=6.0, spent=1.0),
        ),
        min_length=1,
    )
    min_misses: int = Field(
        default=10, ge=1, le=100_000, description="misses in the long window below which nothing is concluded"
    )
    least_day: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="the requests of the day so far count as at least this share of a day at the rate of the long "
        "window: the first misses of a morning break no promise yet",
    )


class BudgetBurnConfig(StrictModel):
    """Spend against `limits.budget_usd_per_hour` and `limits.budget_usd_per_day`, every term of the bill counted."""

    is_on: bool = True
    hour_pairs: tuple[BurnPair, ...] = Field(
        default=(
            BurnPair(long_s=3600.0, short_s=300.0, rate=1.0),
            BurnPair(long_s=600.0, short_s=60.0, rate=2.0),
        ),
        description="pace against the hour's budget",
    )
    day_pairs: tuple[BurnPair, ...] = Field(
        default=(BurnPair(long_s=3600.0, short_s=300.0, rate=6.0),),
        description="pace against the day's budget; a rate of 6 over an hour spends a quarter of it",
    )
    day_share: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="share of the day's budget from which the rule drives until the day ends",
    )


class DriftConfig(StrictModel):
    """Inputs of the policy outside what it saw in training; needs a policy file that says what that was."""

    is_on: bool = True
    margin: float = Field(
        default=0.1,
        ge=0.0,
        le=10.0,
        description="an input is outside when it lies further than this share of its training range beyond it",
    )
    share: float = Field(default=0.1, gt=0.0, le=1.0, description="share of the inputs that must be outside")
    ticks: int = Field(default=3, ge=1, le=1000, description="ticks in a row")


class TrustConfig(StrictModel):
    """When the named rule takes over, and when the policy gets its place back."""

    slo_burn: SloBurnConfig = SloBurnConfig()
    budget_burn: BudgetBurnConfig = BudgetBurnConfig()
    drift: DriftConfig = DriftConfig()
    stale_ticks: int = Field(
        default=1, ge=1, le=1000, description="readings that fail in a row before the rule takes over"
    )
    decide_timeout_s: float = Field(
        default=1.0,
        ge=0.01,
        le=60.0,
        description="wall-clock seconds a policy may take, whatever the speed; never more than half a tick",
    )
    quiet_s: float = Field(
        default=600.0, ge=0.0, le=86400.0, description="time without an alarm after which the policy drives again"
    )
    fault_quiet_s: float = Field(
        default=1800.0,
        ge=0.0,
        le=86400.0,
        description="the same after an error, a time-out or a changed file: what is broken is not mended by waiting",
    )
    settle_s: float = Field(
        default=3600.0,
        ge=0.0,
        le=86400.0,
        description="an alarm this soon after the policy got its place back doubles the quiet time",
    )
    max_backoff: int = Field(default=8, ge=1, le=1024, description="largest factor of the quiet time")
    canary_share: float = Field(
        default=0.2, ge=0.0, le=1.0, description="band around the rule's replicas, as a share of them"
    )
    canary_least: int = Field(default=1, ge=0, le=1000, description="replicas that the band is wide at least")
