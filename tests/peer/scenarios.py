"""What the simulator and Ciw both run, stated once and in terms of neither.

Every replication starts empty and ends at `horizon_s`; whatever is counted (warm-up included) is counted on both sides,
so both are samples of one distribution. Every change of capacity falls on a tick edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

NEVER_S = 1e9
"""An SLO that nothing misses."""


@dataclass(frozen=True)
class PeerOption:
    """Servers with one queue.

    Attributes:
        servers: Requests in service at once.
        mean_s: Mean service time.
        share: Part of the requests that is sent here.
        network_s: Added to every latency.
        credits: Servers of one replica; divides `servers`.
        is_serverless: The servers are execution environments: without a free one a request is refused.
    """

    servers: int
    mean_s: float
    share: float = 1.0
    network_s: float = 0.0
    credits: int = 1
    is_serverless: bool = False


@dataclass(frozen=True)
class PeerClass:
    """Requests with one SLO; `drops` takes those that still wait at their deadline out of the queue."""

    share: float = 1.0
    slo_s: float = NEVER_S
    drops: bool = False
    queue_limit: int | None = None


@dataclass(frozen=True)
class PeerScenario:
    """One comparison.

    Attributes:
        about: What it checks, in one line.
        rate_rps: Arrivals of all classes; several values split the horizon evenly.
        service: Distribution of service times around the option's mean, with coefficient of variation `service_cv`.
        gap_cv: Coefficient of variation of the gaps between arrivals; 1 is Poisson, others are Gamma.
        change: What happens at each shift to the servers of the only option. `launch`: servers are added, services go
            on. `turnover`: all servers are replaced, old ones finish what they have. `outage`: all servers are lost;
            what was in service is queued again and served afresh.
        shifts: (end, servers) of each span between changes; the last ends at the horizon.
        routers: Routers that share the only option: every arrival is one of theirs by an even chance, and each has an
            even part of the servers and a queue of its own.
        overflow_queue: With this many waiting, an arrival goes to the second option with `overflow_fraction`.
        replications: Of Ciw, which sets what the comparison costs.
    """

    name: str
    about: str
    rate_rps: tuple[float, ...]
    horizon_s: float
    options: tuple[PeerOption, ...]
    classes: tuple[PeerClass, ...] = (PeerClass(),)
    service: Literal["exponential", "lognormal", "constant"] = "exponential"
    service_cv: float = 1.0
    gap_cv: float = 1.0
    change: Literal["launch", "turnover", "outage"] | None = None
    shifts: tuple[tuple[float, int], ...] = ()
    routers: int = 1
    overflow_queue: int | None = None
    overflow_fraction: float = 0.0
    tick_s: float = 2.0
    replications: int = 24

    @property
    def refuses(self) -> bool:
        """Whether an arrival may be refused."""
        return self.classes[0].queue_limit is not None or self.options[0].is_serverless

    @property
    def queues(self) -> tuple[PeerOption, ...]:
        """Servers that have a queue in common: those of an option, or of a router in it."""
        if self.routers == 1:
            return self.options
        (option,) = self.options
        return (replace(option, servers=option.servers // self.routers, share=1.0 / self.routers),) * self.routers


SCENARIOS = (
    PeerScenario(
        "mm1",
        "M/M/1 at load 0.7",
        rate_rps=(7.0,),
        horizon_s=700.0,
        options=(PeerOption(1, 0.1),),
        classes=(PeerClass(slo_s=0.5),),
        replications=30,
    ),
    PeerScenario(
        "mmc",
        "M/M/4 at load 0.8, two replicas with two credits each",
        rate_rps=(16.0,),
        horizon_s=320.0,
        options=(PeerOption(4, 0.2, credits=2),),
        classes=(PeerClass(slo_s=0.7),),
    ),
    PeerScenario(
        "constant",
        "M/D/3 at load 0.8",
        rate_rps=(10.4,),
        horizon_s=480.0,
        options=(PeerOption(3, 0.23),),
        classes=(PeerClass(slo_s=0.5),),
        service="constant",
    ),
    PeerScenario(
        "lognormal",
        "M/G/4 at load 0.75, lognormal services with CV 1",
        rate_rps=(15.0,),
        horizon_s=340.0,
        options=(PeerOption(4, 0.2),),
        classes=(PeerClass(slo_s=0.8),),
        service="lognormal",
    ),
    PeerScenario(
        "bursts",
        "G/G/4 at load 0.6, arrivals in bursts (gaps with CV 2), lognormal services with CV 0.5",
        rate_rps=(12.0,),
        horizon_s=420.0,
        options=(PeerOption(4, 0.2),),
        classes=(PeerClass(slo_s=0.8),),
        service="lognormal",
        service_cv=0.5,
        gap_cv=2.0,
    ),
    PeerScenario(
        "day",
        "Poisson arrivals whose rate changes, above capacity for a while",
        rate_rps=(8.0, 14.0, 30.0, 8.0, 10.0, 15.0, 12.0, 8.0),
        horizon_s=96.0,
        options=(PeerOption(4, 0.2),),
        classes=(PeerClass(slo_s=2.0),),
        replications=80,
    ),
    PeerScenario(
        "classes",
        "two classes in one FIFO, a strict one that is dropped at its deadline and a relaxed one that waits",
        rate_rps=(15.0,),
        horizon_s=330.0,
        options=(PeerOption(3, 0.2),),
        classes=(PeerClass(share=0.4, slo_s=0.5, drops=True), PeerClass(share=0.6, slo_s=1.0)),
        replications=20,
    ),
    PeerScenario(
        "deadlines",
        "overload of 1.3 that only drops at the deadline carry off",
        rate_rps=(13.0,),
        horizon_s=380.0,
        options=(PeerOption(2, 0.2),),
        classes=(PeerClass(slo_s=0.6, drops=True),),
        replications=16,
    ),
    PeerScenario(
        "shed",
        "a queue of at most 5 under a load of 1.2",
        rate_rps=(12.0,),
        horizon_s=420.0,
        options=(PeerOption(2, 0.2),),
        classes=(PeerClass(slo_s=0.6, queue_limit=5),),
        replications=16,
    ),
    PeerScenario(
        "split",
        "arrivals in bursts (CV 1.5) split at random over two options of different speed and distance",
        rate_rps=(17.0,),
        horizon_s=300.0,
        options=(PeerOption(2, 0.1, share=0.6, network_s=0.02), PeerOption(3, 0.3, share=0.4, network_s=0.05)),
        classes=(PeerClass(slo_s=0.8),),
        gap_cv=1.5,
    ),
    PeerScenario(
        "routers",
        "two routers at load 0.7 with a queue and three of the six servers each, lognormal services with CV 1",
        rate_rps=(21.0,),
        horizon_s=240.0,
        options=(PeerOption(6, 0.2),),
        classes=(PeerClass(slo_s=0.8),),
        service="lognormal",
        routers=2,
        replications=20,
    ),
    PeerScenario(
        "launches",
        "too few servers at first; launches add to them while requests are in service",
        rate_rps=(12.0,),
        horizon_s=100.0,
        options=(PeerOption(1, 0.2),),
        classes=(PeerClass(slo_s=2.0),),
        change="launch",
        shifts=((10.0, 1), (60.0, 4), (100.0, 6)),
        replications=80,
    ),
    PeerScenario(
        "turnover",
        "every shift replaces all replicas by others: old ones drain, the queue moves on in order",
        rate_rps=(13.0,),
        horizon_s=100.0,
        options=(PeerOption(4, 0.2),),
        classes=(PeerClass(slo_s=2.0),),
        service="lognormal",
        change="turnover",
        shifts=((20.0, 4), (40.0, 3), (54.0, 1), (76.0, 5), (100.0, 4)),
        replications=80,
    ),
    PeerScenario(
        "outages",
        "all spot replicas are taken at once, also while a queue waits; what they served is retried with a new draw",
        rate_rps=(12.0,),
        horizon_s=160.0,
        options=(PeerOption(8, 0.5),),
        classes=(PeerClass(slo_s=3.0),),
        change="outage",
        shifts=((30.0, 8), (34.0, 0), (38.0, 8), (44.0, 0), (100.0, 8), (104.0, 0), (160.0, 8)),
        replications=64,
    ),
    PeerScenario(
        "overflow",
        "load 1.07; with two or more waiting, half of the arrivals go to serverless",
        rate_rps=(16.0,),
        horizon_s=320.0,
        options=(PeerOption(3, 0.2), PeerOption(200, 0.4, share=0.0, is_serverless=True)),
        classes=(PeerClass(slo_s=0.8),),
        overflow_queue=2,
        overflow_fraction=0.5,
        replications=12,
    ),
    PeerScenario(
        "limit",
        "M/G/4/4: a serverless limit of 4 that refuses what finds it full",
        rate_rps=(12.0,),
        horizon_s=420.0,
        options=(PeerOption(4, 0.3, is_serverless=True),),
        classes=(PeerClass(slo_s=0.8),),
        service="lognormal",
        replications=16,
    ),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
