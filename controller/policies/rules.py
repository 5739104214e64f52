"""Published heuristic schemes, as rivals and as rules to hand back to.

They follow "Towards Designing a Self-Managed Machine Learning Inference Serving System in Public Cloud" (arXiv
2008.09491) and the systems it compares, of which only abstracts were at hand; what each rule does is our reading,
stated on its settings. As published, all of them run one fixed variant per class: the cheapest whose accuracy meets
the floor and whose service fits the SLO. `controller.policies.levers` holds what each is offered beyond that.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from controller.policies.levers import FixedChoice, Levers
from controller.policies.scheme import Scheme, SettingsT


class ReactiveSettings(Levers):
    """`reactive`: n = ceil(headroom x rate of the last minute / capacity), up at once, down after a cool-down."""

    headroom: float = Field(
        default=1.2, ge=0.3, le=5.0, description="capacity (at full use) over the rate of the last minute"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )


class UtilAwareSettings(Levers):
    """`util_aware`: resized to a target utilisation whenever the measured one leaves a band.

    With a mix of variants the measured utilisation is that of all machines together.
    """

    high_utilisation: float = Field(default=0.8, ge=0.05, le=1.0, description="busy share above which it scales out")
    low_utilisation: float = Field(default=0.5, ge=0.0, le=0.95, description="busy share below which it scales in")
    target_utilisation: float = Field(
        default=0.8, ge=0.05, le=1.0, description="busy share it sizes for, at the last minute's rate"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )


class ExascaleSettings(Levers):
    """`exascale`: a line through the last minutes read at the launch delay, and never below the window's peak."""

    headroom: float = Field(
        default=1.1, ge=0.3, le=5.0, description="capacity over max(forecast, largest tick of the window)"
    )
    window_s: float = Field(default=600.0, ge=30.0, le=3600.0, description="window of the moving linear regression")
    cooldown_s: float = Field(
        default=0.0, ge=0.0, le=7200.0, description="extra cool-down; the window's peak already holds"
    )


class MixedSettings(ReactiveSettings):
    """`mixed`: reactive machines; a request whose predicted wait is too long goes to serverless."""

    overflow_fraction: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )


class ParagonSettings(FixedChoice):
    """`paragon`: strict classes overflow early, relaxed ones wait out their slack; calm load gets machines instead.

    The published form, which has no lever but spot.
    """

    headroom: float = Field(
        default=1.2, ge=0.3, le=5.0, description="capacity (at full use) over the rate of the last minute"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )
    overflow_slack: float = Field(
        default=0.6, ge=0.0, le=2.0, description="wait called too long, share of SLO - service - network"
    )
    strict_slo_s: float = Field(default=5.0, ge=0.0, le=3600.0, description="classes with a longer SLO are relaxed")
    window_s: float = Field(default=600.0, ge=30.0, le=3600.0, description="window over which burstiness is measured")
    burstiness: float = Field(
        default=1.3, ge=1.0, le=20.0, description="peak / median of the window above which serverless is kept"
    )
    calm_headroom: float = Field(default=1.1, ge=1.0, le=3.0, description="extra capacity while serverless is not kept")


class ParagonPlusSettings(ParagonSettings, Levers):
    """`paragon_plus`: `paragon` with every lever: the cheapest mix that the accuracy owed allows, overflow in part."""

    adaptive_variant: bool = Field(
        default=True,
        description="the cheapest mix of variants whose mean accuracy is what the day still needs, in place of one",
    )
    overflow_fraction: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )


class _RatePolicy(Scheme[SettingsT]):
    """A scheme that sizes for the rate: its settings stand for themselves, spans in ticks."""

    def numbers(self) -> dict[str, Any]:
        """Headroom, bands, burstiness, cool-down and window."""
        given = self.settings.model_dump(exclude=set(Levers.model_fields))
        given["cooldown_ticks"] = self.ticks(given.pop("cooldown_s"))
        if "window_s" in given:
            given["window_ticks"] = self.ticks(given.pop("window_s"), least=3)
        return given


class ReactivePolicy(_RatePolicy[ReactiveSettings]):
    """`reactive`; see `ReactiveSettings`."""

    kind = "reactive"
    Settings = ReactiveSettings


class UtilAwarePolicy(_RatePolicy[UtilAwareSettings]):
    """`util_aware`; see `UtilAwareSettings`."""

    kind = "util_aware"
    Settings = UtilAwareSettings


class ExascalePolicy(_RatePolicy[ExascaleSettings]):
    """`exascale`; see `ExascaleSettings`."""

    kind = "exascale"
    Settings = ExascaleSettings


class MixedPolicy(_RatePolicy[MixedSettings]):
    """`mixed`; see `MixedSettings`."""

    kind = "mixed"
    Settings = MixedSettings


class ParagonPolicy(_RatePolicy[ParagonSettings]):
    """`paragon`; see `ParagonSettings`."""

    kind = "paragon"
    Settings = ParagonSettings

    def numbers(self) -> dict[str, Any]:
        """The same; all of what would wait too long overflows while load is bursty."""
        return super().numbers() | {"overflow_fraction": 1.0, "overflow_slack": self.settings.overflow_slack}


class ParagonPlusPolicy(_RatePolicy[ParagonPlusSettings]):
    """`paragon_plus`; see `ParagonPlusSettings`."""

    kind = "paragon_plus"
    Settings = ParagonPlusSettings
