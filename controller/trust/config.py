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


class SloBurnConfig(StrictModel):
    """Misses against the attainment target, by class.

    The error budget of a class is 1 - its attainment target, over a day. The default pairs alarm when 5 % of the day's
    budget went in five minutes, or 12.5 % in half an hour.

    Source:
        The Site Reliability Workbook, chapter 5, "Alerting on SLOs", 6: multiwindow, multi-burn-rate alerts; there for
        a budget of 30 days, here with the windows of a day's.
    """

    is_on: bool = True
    pairs: tuple[BurnPair, ...] = Field(
        default=(
            BurnPair(long_s=300.0, short_s=60.0, rate=14.4),
            BurnPair(long_s=1800.0, short_s=300.0, rate=6.0),
        ),
        min_length=1,
    )
    min_misses: int = Field(
        default=10, ge=1, le=100_000, description="misses in the long window below which nothing is concluded"
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
