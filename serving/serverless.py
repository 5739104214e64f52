"""Emulated serverless pools: execution environments, cold starts, keep-alive, a concurrency limit and the bill.

One environment runs one call at a time and holds one variant. The environment used last is used first, so the others
age and are given back once idle for the keep-alive. Time is an argument everywhere: the router passes its clock,
tests pass numbers. Who runs the model while the time passes is decided elsewhere (`serving.replica`); nothing here
sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from controller.arrays import SERVERLESS, CatalogArrays
from controller.bill import serverless_usd


class NotCalledError(Exception):
    """A call was refused, so that nothing ran and nothing is charged.

    Args:
        text: Why.
        must_wait: Whether the next calls would be refused as well.
    """

    def __init__(self, text: str, *, must_wait: bool) -> None:
        super().__init__(text)
        self.must_wait = must_wait


class ServerlessTerms(NamedTuple):
    """What a serverless pool charges and allows, from one column of the catalog."""

    limit: int
    keep_alive_s: float
    memory_gb: float
    usd_per_gb_s: float
    usd_per_request: float
    provisioned_usd_per_gb_s: float
    provisioned_compute_usd_per_gb_s: float
    billing_step_s: float

    @classmethod
    def of(cls, catalog: CatalogArrays, pool: int) -> ServerlessTerms:
        """Terms of one pool, which must be serverless."""
        if catalog.market[pool] != SERVERLESS:
            raise ValueError(f"pool {pool}: expected a serverless pool")
        return cls(
            int(catalog.quota[pool]),
            float(catalog.keep_alive_s[pool]),
            float(catalog.memory_gb[pool]),
            float(catalog.usd_per_gb_s[pool]),
            float(catalog.usd_per_request[pool]),
            float(catalog.provisioned_usd_per_gb_s[pool]),
            float(catalog.provisioned_compute_usd_per_gb_s[pool]),
            float(catalog.billing_step_s[pool]),
        )


@dataclass
class Environment:
    """One execution environment; it holds one variant for its whole life."""

    variant: int
    is_provisioned: bool
    idle_since_s: float
    is_busy: bool = False


class Call(NamedTuple):
    """An accepted call."""

    environment: Environment
    is_cold: bool


@dataclass
class ServerlessPool:
    """All environments of one pool, and what they have cost so far."""

    terms: ServerlessTerms
    num_variants: int
    usd: float = 0.0
    invocations: int = 0
    cold_starts: int = 0
    throttled: int = 0
    _environments: list[list[Environment]] = field(init=False)
    _reserved_since_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._environments = [[] for _ in range(self.num_variants)]

    def admits(self, variant: int, now_s: float) -> bool:
        """Whether what overflows may come here; what the limit refuses is refused when it is called."""
        return True

    def call(self, variant: int, now_s: float) -> Call | None:
        """Takes an environment for one call; None where the variant's function runs at the concurrency limit.

        Reserved environments go before others, as AWS Lambda has it, and of each kind the one that was used last;
        without a free one, a new environment starts cold.
        """
        self.expire(now_s)
        free = [e for e in self._environments[variant] if not e.is_busy]
        if free:
            chosen = max(free, key=lambda e: (e.is_provisioned, e.idle_since_s))
            chosen.is_busy = True
            self.invocations += 1
            return Call(chosen, is_cold=False)
        if sum(e.is_busy for e in self._environments[variant]) >= self.terms.limit:
            self.throttled += 1
            return None
        fresh = Environment(variant, is_provisioned=False, idle_since_s=now_s, is_busy=True)
        self._environments[variant].append(fresh)
        self.invocations += 1
        self.cold_starts += 1
        return Call(fresh, is_cold=True)

    def finish(self, environment: Environment, now_s: float, duration_s: float) -> float:
        """Gives an environment back and bills the call.

        Args:
            environment: What `call` gave.
            now_s: Current time.
            duration_s: Seconds the call ran, its cold start included.

        Returns:
            Charge in USD, already added to `usd`.
        """
        environment.is_busy = False
        environment.idle_since_s = now_s
        terms = self.terms
        rate = terms.provisioned_compute_usd_per_gb_s if environment.is_provisioned else terms.usd_per_gb_s
        charge = serverless_usd(duration_s, terms.billing_step_s, terms.memory_gb, rate, terms.usd_per_request)
        self.usd += charge
        return charge

    def provision(self, counts: list[int], now_s: float) -> None:
        """Reserves environments by variant, and bills the reservation that ends now; busy ones are never taken away."""
        self.accrue(now_s)
        for variant, wanted in enumerate(counts):
            held = self._environments[variant]
            reserved = [e for e in held if e.is_provisioned]
            for _ in range(wanted - len(reserved)):
                held.append(Environment(variant, is_provisioned=True, idle_since_s=now_s))
            for environment in sorted(reserved, key=lambda e: e.is_busy)[: max(0, len(reserved) - wanted)]:
                environment.is_provisioned = False
                environment.idle_since_s = now_s

    def accrue(self, now_s: float) -> None:
        """Bills reserved environments up to now."""
        reserved = sum(e.is_provisioned for held in self._environments for e in held)
        elapsed_s = now_s - self._reserved_since_s
        self.usd += reserved * elapsed_s * self.terms.memory_gb * self.terms.provisioned_usd_per_gb_s
        self._reserved_since_s = now_s

    def expire(self, now_s: float) -> None:
        """Gives back environments that were idle for the keep-alive; reserved ones stay."""
        for variant, held in enumerate(self._environments):
            self._environments[variant] = [
                e for e in held if e.is_busy or e.is_provisioned or now_s - e.idle_since_s < self.terms.keep_alive_s
            ]

    @property
    def num_busy(self) -> int:
        """Calls that run now."""
        return sum(e.is_busy for held in self._environments for e in held)

    def num_warm(self, now_s: float) -> int:
        """Environments alive."""
        self.expire(now_s)
        return sum(len(held) for held in self._environments)

    def ready(self, now_s: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Reserved environments by variant, shape (V,)."""
        self.expire(now_s)
        return np.array([sum(e.is_provisioned for e in held) for held in self._environments], np.int64)
