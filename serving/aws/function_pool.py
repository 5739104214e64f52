"""A serverless pool whose environments are Lambda's: what may be called now, and what calls have really cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from controller.bill import serverless_usd
from serving.aws.breaker import Breaker
from serving.serverless import Call, Environment, ServerlessPool

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


@dataclass
class Spend:
    """A bucket of dollars that fills at an hourly rate.

    Args:
        usd_per_hour: Rate.
        burst_usd: What it holds, full at first.
    """

    usd_per_hour: float
    burst_usd: float
    usd: float = field(init=False)
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        self.usd = self.burst_usd

    def has(self, usd: float, now_s: float) -> bool:
        """Whether so much may be spent now. More than the bucket holds may be spent when it is full."""
        self.usd = min(self.burst_usd, self.usd + max(0.0, now_s - self._at_s) * self.usd_per_hour / 3600.0)
        self._at_s = max(self._at_s, now_s)
        return self.usd >= min(usd, self.burst_usd)

    def take(self, usd: float) -> None:
        """So much is spent; what turns out dearer than thought leaves a debt."""
        self.usd -= usd


@dataclass(eq=False)
class CalledEnvironment(Environment):
    """The environment of one call: Lambda chooses it, and what it costs is told afterwards."""

    held_usd: float = 0.0  # taken from the bucket in advance


@dataclass
class FunctionPool(ServerlessPool):
    """Calls of one pool's functions.

    Nothing is reserved in advance: a plan's reserved environments are not bought. A call is charged when it is known
    what became of it, which may be after its answer is needed no more.

    Args:
        terms: Of the pool, from the catalog.
        num_variants: Of the setting.
        expected_s: Seconds a call of each variant is expected to be charged for.
        spend: What may be spent on calls.
        breaker: After calls that were refused for their number.
    """

    expected_s: tuple[float, ...] = ()
    spend: Spend = field(default_factory=lambda: Spend(1.0, 0.05))
    breaker: Breaker = field(default_factory=lambda: Breaker(Random(), _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
    _is_trying: bool = field(init=False, default=False)

    def admits(self, variant: int, now_s: float) -> bool:
        """Whether a call would be made now, rather than refused here."""
        if self.breaker.is_open(now_s) or (self.breaker.is_trying and self._is_trying):
            return False
        return self.num_busy < self.terms.limit and self.spend.has(self._usd(self.expected_s[variant]), now_s)

    def call(self, variant: int, now_s: float) -> Call | None:
        """A call is made; None where none may be."""
        if not self.admits(variant, now_s):
            self.throttled += 1
            return None
        held_usd = self._usd(self.expected_s[variant])
        self.spend.take(held_usd)
        self._is_trying = self.breaker.is_trying
        environment = CalledEnvironment(variant, False, now_s, is_busy=True, held_usd=held_usd)
        self._environments[variant].append(environment)
        return Call(environment, is_cold=False)

    def finish(self, environment: Environment, now_s: float, duration_s: float) -> float:
        """A call's answer is there, or needed no more; what it costs is told by `answered`."""
        self._environments[environment.variant].remove(environment)
        return 0.0

    def answered(self, environment: Environment, billed_s: float | None, *, is_cold: bool) -> float:
        """A call ran, or may have.

        Args:
            environment: What `call` gave.
            billed_s: As reported; None: it is charged as expected.
            is_cold: Whether its environment was made for it.

        Returns:
            Charge in USD, already added to `usd`.
        """
        assert isinstance(environment, CalledEnvironment)
        self._is_trying = False
        self.breaker.succeed()
        charge = self._usd(self.expected_s[environment.variant] if billed_s is None else billed_s)
        self.spend.take(charge - environment.held_usd)
        self.invocations += 1
        self.cold_starts += is_cold
        self.usd += charge
        return charge

    def refused(self, environment: Environment, now_s: float, *, must_wait: bool) -> None:
        """Lambda did not take a call; `must_wait`: nor would it take the next."""
        assert isinstance(environment, CalledEnvironment)
        self._is_trying = False
        self.spend.take(-environment.held_usd)
        if must_wait:
            self.throttled += 1
            self.breaker.fail(now_s)

    def provision(self, counts: list[int], now_s: float) -> None:
        """Nothing is reserved."""

    def expire(self, now_s: float) -> None:
        """Which environments are idle only Lambda knows."""

    def _usd(self, billed_s: float) -> float:
        terms = self.terms
        return serverless_usd(
            billed_s, terms.billing_step_s, terms.memory_gb, terms.usd_per_gb_s, terms.usd_per_request
        )
