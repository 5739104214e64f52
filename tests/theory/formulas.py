"""Closed forms of queueing theory that the simulator is held to, each with its source.

Rates are in 1/s, times in s; `servers` are credits. Nothing here knows of the simulator.

Sources named by author: Gross, Shortle, Thompson, Harris, Fundamentals of Queueing Theory, 4th ed., Wiley 2008 (Gross);
Kleinrock, Queueing Systems, volume 1, Wiley 1975 (Kleinrock); Medhi, Stochastic Models in Queueing Theory, 2nd ed.,
Academic Press 2003 (Medhi).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.stats import poisson

Transform = Callable[[NDArray[np.complex128]], NDArray[np.complex128]]
"""Laplace transform of a density at complex points, shape (K,) to (K,)."""


def erlang_b(servers: int, load: float) -> float:
    """Share of calls lost by `servers` without a queue, Poisson arrivals and any service time (M/G/c/c).

    Args:
        servers: >= 0.
        load: Arrival rate times mean service time, >= 0.

    Source:
        Gross, sec. 2.5, and its recursion over servers; insensitive to the law of service (Sevastyanov 1957).
    """
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Probability that an arrival waits, M/M/c.

    Args:
        servers: > load.
        load: Arrival rate times mean service time, > 0.

    Source:
        Gross, sec. 2.3; from Erlang B as in Cooper, Introduction to Queueing Theory.
    """
    blocked = erlang_b(servers, load)
    return servers * blocked / (servers - load * (1.0 - blocked))


def mmc_mean_wait_s(servers: int, rate: float, service_s: float) -> float:
    """Mean wait, M/M/c.

    Source:
        Gross, sec. 2.3.
    """
    return erlang_c(servers, rate * service_s) / (servers / service_s - rate)


def mmc_wait_tail(servers: int, rate: float, service_s: float, at_s: float) -> float:
    """P(wait > at_s) under first come, first served, M/M/c.

    Source:
        Gross, sec. 2.3.
    """
    return erlang_c(servers, rate * service_s) * math.exp(-(servers / service_s - rate) * at_s)


def mmc_sojourn_tail(servers: int, rate: float, service_s: float, at_s: float) -> float:
    """P(wait + service > at_s) under first come, first served, M/M/c.

    The wait is 0 with probability 1 - C and else exponential of rate d = c / S - rate; convolving it with service of
    rate m = 1 / S gives e^-mt + C m (e^-mt - e^-dt) / (d - m), where the fraction tends to t e^-mt as d does to m.

    Source:
        Gross, sec. 2.3.
    """
    waits, m = erlang_c(servers, rate * service_s), 1.0 / service_s
    d = servers * m - rate
    late = at_s if d == m else -math.expm1(-(d - m) * at_s) / (d - m)
    return math.exp(-m * at_s) * (1.0 + waits * m * late)


def mm1_sojourn_tail(rate: float, service_s: float, at_s: float) -> float:
    """P(wait + service > at_s) under first come, first served, M/M/1.

    Source:
        Gross, sec. 2.2: exponential with rate 1 / service_s - rate.
    """
    return math.exp(-(1.0 / service_s - rate) * at_s)


def mg1_mean_wait_s(rate: float, mean_s: float, second_moment_s2: float) -> float:
    """Mean wait under first come, first served with any service time, M/G/1.

    Source:
        Pollaczek 1930, Khinchine 1932; Kleinrock, sec. 5.6.
    """
    return rate * second_moment_s2 / (2.0 * (1.0 - rate * mean_s))


def mg1_tails(rate: float, service: Transform, at_s: NDArray[np.float64], mean_s: float = 1.0) -> NDArray[np.float64]:
    """P(wait + service > at) under first come, first served with any service time without atoms, M/G/1.

    Args:
        rate: Arrivals/s.
        service: Transform of the service time.
        at_s: Times > 0, shape (T,).
        mean_s: Mean service time; rate times it must be below 1.

    Returns:
        Probabilities, shape (T,).

    Source:
        Pollaczek-Khinchine transform, Kleinrock, sec. 5.7.
    """

    def tail(s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        serves = service(s)
        stays = serves * (1.0 - rate * mean_s) * s / (s - rate * (1.0 - serves))
        return (1.0 - stays) / s

    return invert(tail, at_s)


def invert(transform: Transform, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Function of time > 0 with the given Laplace transform, to about 1e-8 where it is smooth; shape (T,).

    Source:
        Algorithm EULER of Abate and Whitt, Numerical inversion of Laplace transforms of probability distributions,
        ORSA Journal on Computing 7, 1995, sec. 1, with A = 18.4 and more terms.
    """
    a, terms, averaged = 18.4, 200, 15
    weights = np.array([math.comb(averaged, m) * 2.0**-averaged for m in range(averaged + 1)])
    k = np.arange(terms + averaged + 1)
    values = []
    for at in at_s:
        points = (a + 2j * np.pi * k) / (2.0 * at)
        series = math.exp(a / 2.0) / at * np.where(k == 0, 0.5, 1.0) * (-1.0) ** k * transform(points).real
        values.append(float(weights @ np.cumsum(series)[terms:]))
    return np.array(values)


def md1_wait_tail(rate: float, service_s: float, at_s: float) -> float:
    """P(wait > at_s) under first come, first served with constant service, M/D/1.

    Source:
        Erlang 1909: P(wait <= t) = (1 - r) sum over k <= t / D of (rate (k D - t))^k / k! e^(rate (t - k D)).
    """
    terms = (
        (rate * (k * service_s - at_s)) ** k / math.factorial(k) * math.exp(rate * (at_s - k * service_s))
        for k in range(int(at_s / service_s) + 1)
    )
    return 1.0 - (1.0 - rate * service_s) * math.fsum(terms)


def gim1_waits(gap: Transform, service_s: float) -> float:
    """Probability that an arrival waits, for renewal arrivals and exponential service, GI/M/1.

    It is the root in (0, 1) of x = A((1 - x) / S), A the transform of the gap. The mean wait is x S / (1 - x) and the
    sojourn exponential with mean S / (1 - x).

    Source:
        Kleinrock, sec. 6.4.
    """

    def off(x: float) -> float:
        return float(gap(np.array([(1.0 - x) / service_s + 0j])).real[0]) - x

    return float(brentq(off, 1e-9, 1.0 - 1e-6, xtol=1e-14))


def mm1_deadline(rate: float, service_s: float, deadline_s: float) -> tuple[float, float]:
    """Shares of requests lost and missed where one that waits until its deadline leaves unserved, M/M/1 + D.

    With m = 1 / S, load r = rate S and E = e^-(m - rate)D, the server is idle with p0 = (1 - r) / (1 - r^2 E); lost are
    r p0 E, and those served too late add p0 E.

    Args:
        rate: Arrivals/s; the load must not be 1.
        service_s: Mean service time.
        deadline_s: Longest wait, D.

    Returns:
        P(lost) and P(lost or answered after the deadline).

    Source:
        Barrer, Queuing with impatient customers and ordered service, Operations Research 5, 1957.
    """
    load = rate * service_s
    kept = math.exp(-(1.0 / service_s - rate) * deadline_s)
    idle = (1.0 - load) / (1.0 - load**2 * kept)
    return load * idle * kept, (1.0 + load) * idle * kept


def mg1_deadline(rate: float, service: Transform, mean_s: float, deadline_s: float) -> tuple[float, float]:
    """As `mm1_deadline` with any service time without atoms, M/G/1 + D, at any load.

    Below D, where every arrival joins, the work ahead has the law of M/G/1 but for a factor: it is at most w with
    probability p0 G(w), G of transform 1 / (s - rate (1 - B(s))). So a share p0 G(D) is served, and because the server
    is busy 1 - p0 of the time, rate p0 G(D) S = 1 - p0. Of these p0 (G * B)(D) are served in time.

    Source:
        Baccelli, Boyer, Hebuterne, Single-server queues with impatient customers, Advances in Applied Probability 16,
        1984; level crossing as there.
    """
    at_s = np.array([deadline_s])
    (joins,) = invert(lambda s: 1.0 / (s - rate * (1.0 - service(s))), at_s)
    (in_time,) = invert(lambda s: service(s) / (s - rate * (1.0 - service(s))), at_s)
    idle = 1.0 / (1.0 + rate * mean_s * joins)
    return 1.0 - idle * joins, 1.0 - idle * in_time


def bulk_mean_wait_s(rate: float, service_s: float, batch: int) -> tuple[float, float]:
    """Mean wait and share of time in service where a free server takes up to `batch` of those who wait, M/M(1,b)/1.

    The server never waits for more requests, none joins a batch in service, and a batch takes an exponential time
    whatever its size. While it serves, n wait with probability A r^n: with m = 1 / S, balance for n >= 1 is
    (rate + m) r = rate + m r^(b + 1), that of n = 0 is the same equation, and that of the idle server,
    rate p_idle = m A, gives A = 1 / (1 / (1 - r) + m / rate).

    Source:
        Neuts, A general class of bulk queues with Poisson input, Annals of Mathematical Statistics 38, 1967; Medhi on
        M/M(a,b)/1, with a = 1.
    """
    m = 1.0 / service_s
    # The root at r = 1 is divided out: m (r + ... + r^b) = rate.
    r = float(brentq(lambda x: m * sum(x**k for k in range(1, batch + 1)) - rate, 0.0, 1.0, xtol=1e-15))
    a = 1.0 / (1.0 / (1.0 - r) + m / rate)
    return a * r / (1.0 - r) ** 2 / rate, a / (1.0 - r)


def bulk_mean_wait_of_s(
    rate: float, arrivals: NDArray[np.float64], batch: int, moments: tuple[float, float]
) -> tuple[float, float]:
    """As `bulk_mean_wait_s` with any service time, M/G(1,b)/1, by the chain embedded at the ends of service.

    A batch that leaves j behind is followed by one of min(j, b), at once or, for j = 0, after the next arrival. While
    a batch is served, those it left behind wait, and new ones for half the mean square of the service time.

    Args:
        rate: Arrivals/s.
        arrivals: Chances of 0, 1, ... arrivals during one service, shape (K,); K bounds the queue, so take it large.
        batch: Largest batch, b.
        moments: Mean and mean square of the service time, s and s^2.

    Source:
        Bailey, On queueing processes with bulk service, Journal of the Royal Statistical Society B 16, 1954.
    """
    mean_s, square_s2 = moments
    most = len(arrivals)
    behind = np.maximum(np.arange(most) - batch, 0)
    chain = np.array([np.concatenate([np.zeros(j), arrivals])[:most] for j in behind])
    chain[:, -1] += 1.0 - chain.sum(axis=1)
    equations = chain.T - np.eye(most)
    equations[-1] = 1.0  # the chances sum to 1, in place of an equation that the others imply
    left = np.linalg.solve(equations, np.eye(most)[-1])
    cycle_s = left[0] / rate + mean_s
    waiting = (float(left @ behind) * mean_s + rate * square_s2 / 2.0) / cycle_s
    return waiting / rate, mean_s / cycle_s


def gathered_batch(rate: float, batch: int, wait_s: float) -> tuple[float, float]:
    """Mean size of a batch and mean wait in it, where one leaves once it is full or its first request waited `wait_s`.

    Servers are always free. While a batch gathers, 1 + N(t) requests wait, N Poisson, as long as that is below
    `batch`; integrated over time, each count k + 1 < b adds P(N(wait_s) > k) / rate.

    Returns:
        Requests per batch and seconds of wait per request.

    Source:
        Renewal-reward theorem over the gathering of one batch; Ross, Introduction to Probability Models, sec. 7.4.
    """
    grown = poisson(rate * wait_s).sf(np.arange(batch - 1))  # P(N > k)
    size = 1.0 + float(grown.sum())
    waited_s = float(((1.0 + np.arange(batch - 1)) * grown).sum()) / rate
    return size, waited_s / size


def lone_environment(rate: float, service_s: float, cold_s: float, keep_alive_s: float) -> tuple[float, float]:
    """Shares of calls refused, and of calls that start cold, with one environment that ends after its keep-alive.

    From the end of a call the next one is an exponential gap away, so it is cold with q = e^(-rate keep_alive),
    whatever the law of service. A cycle is that gap and a call of mean S + q cold; calls that come meanwhile are
    refused.

    Returns:
        Refused and cold calls per call made.

    Source:
        Renewal-reward theorem, Ross, Introduction to Probability Models, sec. 7.4.
    """
    cold = math.exp(-rate * keep_alive_s)
    accepted = 1.0 / (1.0 + rate * (service_s + cold * cold_s))
    return 1.0 - accepted, accepted * cold


def cold_share(rate: float, service_s: float, keep_alive_s: float, limit: int) -> float:
    """Share of calls that start a new environment, where the one that became idle last is used first.

    The environment that a fall of the number of calls from n + 1 to n leaves idle is the one that its next rise from
    n to n + 1 takes: idle ones are a stack. So an arrival that finds n calls is cold exactly where fewer than n + 1
    ran all through the keep-alive before it. The number of calls is an M/M/c/c process with c = limit, reversible and
    seen by arrivals as by time, so that is the chance that from n, drawn from its stationary law, n + 1 is not
    reached within the keep-alive: a row sum of the exponential of the generator on 0..n. Service must be exponential
    and a cold start no longer than a warm one.

    Returns:
        Cold calls per call made, refused ones included.

    Source:
        Reversibility of the loss system, Kelly, Reversibility and Stochastic Networks, 1979, sec. 1.3 and 2.1.
    """
    load = rate * service_s
    weights = np.cumprod(np.concatenate([[1.0], load / np.arange(1, limit + 1)]))
    weights /= weights.sum()
    share = 0.0
    for n in range(limit):
        falls = np.arange(n + 1) / service_s
        generator = np.diag(-(rate + falls)) + np.diag(falls[1:], -1) + np.diag(np.full(n, rate), 1)
        share += float(weights[n] * expm(generator * keep_alive_s)[n].sum())
    return share


def zone_availability(stays_on: float, stays_off: float, start_ticks: int, notice_ticks: int) -> float:
    """Share of ticks in which a machine that is launched again at once serves, in a zone that comes and goes.

    The zone is a two-state Markov chain in steps of a tick. A machine launched as the zone opens serves `start_ticks`
    (L) later and until the zone closes. One that still starts is lost once the end lies within the notice (m), so of a
    span of U ticks it serves U - L if U >= L + m, else none: with U geometric and p = stays_on, that is
    p^(L + m - 1) (m + p / (1 - p)) in the mean, over a cycle of 1 / (1 - p) ticks on and 1 / (1 - stays_off) off. A
    notice of one tick is as good as none, for which it is the chance that the zone is on and has been for L ticks.

    This is the machine-repair model with a repairman for every machine: no zone waits for another to come back.

    Args:
        stays_on: P(on | on) of one tick to the next, in (0, 1).
        stays_off: P(off | off), in (0, 1).
        start_ticks: Launch and load, rounded up to ticks, >= 1, or >= 2 with notice.
        notice_ticks: Notice before the zone closes, in ticks, >= 0.

    Source:
        Availability of an alternating renewal process, Ross, Introduction to Probability Models, sec. 7.5.1.
    """
    ahead = max(notice_ticks, 1)
    served = stays_on ** (start_ticks + ahead - 1) * (ahead - 1 + 1.0 / (1.0 - stays_on))
    return served / (1.0 / (1.0 - stays_on) + 1.0 / (1.0 - stays_off))
