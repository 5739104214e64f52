"""What a day must cost at least, as a linear program: the relaxation behind `experiments.hindsight`.

Everything that makes serving hard is left out as long as that only lowers the bill: machines are continuous and known
in advance, queueing, swaps, minimum billing, cold starts and losses cost nothing. What stays is stated here, each with
the reason why no run of the simulator can get around it:

- *Work.* An answer takes its option's mean service time per request, in the best batch that could meet the deadline at
  the luckiest draw, with every credit of the machine busy. Draws are independent of what was decided before them, so
  what a run pays for service differs from the mean by a martingale; `hindsight` takes several of its standard
  deviations off the bound.
- *Time.* A request that is answered in time is served within its SLO and one service of its arrival: no more may wait
  at the end of a step than arrived in that span before it. So coarser steps give a valid, weaker bound.
- *Machines.* Work of a pool in a step is at most what its machines live in it, and each second of that is billed. A
  machine lives from when it is first ready until it goes; its part of each step rises once and falls once, so the rises
  of a pool's mean number of machines are at most its launches, and the falls at most its releases. A launch pays for
  its start, at the luckiest launch time and the shortest load, in whole ticks; less one longest service, for batches
  that lie across the edge of two steps. A release pays the release lag. Those that exist in the first step are free.
- *Limits.* A pool holds its quota; a spot pool what its zone offers, with two ticks' grace for those that are taken
  back at tick edges.
- *Serverless.* A call pays its mean service at the lowest rate that any reservation can bring it to, and its fee.
- *Promises.* Misses are free, up to as many as the run had; answers that came late bring as much accuracy as the best
  variant has and cost nothing; the mean accuracy of all answers is at least the run's.

Pools that can do another's work at a price near it are joined with it, at the lowest price of any, and hold the
machines of all (`experiments.relaxed_cell`): that too can only lower the bill.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.linear_program import Program, Solution

_LEAST_USED = 1e-4  # an interior point leaves a little everywhere


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The program's data. T steps, Q joined machine pools, C classes, J ways to answer."""

    span_s: F64  # (T,)
    price: F64  # (Q,) $/s of a machine
    start_usd: F64  # (Q,) of a launch
    release_usd: F64  # (Q,)
    limit: F64  # (T, Q) machines
    klass: I64  # (J,)
    pool: I64  # (J,) -1 for serverless
    work_s: F64  # (J,) machine-seconds of a request
    usd: F64  # (J,) of a request: egress, serverless
    accuracy: F64  # (J,)
    arrivals: F64  # (C, T)
    waiting: F64  # (C, T) most that may wait at the end of each step
    misses: F64  # (C,)
    wanted: F64  # (C,) mean accuracy; 0 for none
    late_gain: F64  # (C,) accuracy above the wanted mean that late answers bring at most

    @property
    def unit_usd(self) -> float:
        """Unit of money of the program: near one machine's rent of a step, so that a solver's tolerances fit."""
        rents = self.price[self.price > 0] * self.span_s.max()
        usable = rents if rents.size else self.usd[self.usd > 0]
        return 0.01 * float(usable.min()) if usable.size else 1.0


@dataclass(frozen=True, eq=False)
class Prices:
    """Multipliers of the program's rows; whatever they are, `least_usd` gives a lower bound."""

    machine: F64  # (T, Q) $ per machine-second
    change: F64  # (T, Q) $ per machine more than the step before
    request: F64  # (C, T) $
    miss: F64  # (C,) $
    accuracy: F64  # (C,) $ per answer of accuracy 1


def state(relaxed: Relaxation) -> tuple[Program, tuple[I64, ...]]:
    """The program, in requests/s, machines and `unit_usd`, and its rows: able, changed, balance, within, accurate."""
    steps, num_pools = relaxed.limit.shape
    span, span_row, unit = relaxed.span_s, relaxed.span_s[None, :], relaxed.unit_usd
    program = Program()
    machines = program.add_columns(relaxed.price * span[:, None] / unit, 0.0, relaxed.limit)
    more = program.add_columns(np.tile(relaxed.start_usd / unit, (steps, 1)))
    fewer = program.add_columns(np.tile(relaxed.release_usd / unit, (steps, 1)))
    served = program.add_columns(relaxed.usd[:, None] * span / unit)  # (J, T) requests/s
    missed = program.add_columns(np.zeros(relaxed.arrivals.shape))  # (C, T) requests/s
    waiting = program.add_columns(np.zeros(relaxed.arrivals.shape), 0.0, relaxed.waiting)

    able = program.add_rows(np.full((steps, num_pools), -np.inf), 0.0)
    program.add_entries(able, machines, -1.0)
    on_machines = np.flatnonzero(relaxed.pool >= 0)
    program.add_entries(able[:, relaxed.pool[on_machines]].T, served[on_machines], relaxed.work_s[on_machines, None])
    changed = program.add_rows(np.zeros((steps, num_pools)), np.where(np.arange(steps)[:, None] == 0, np.inf, 0.0))
    program.add_entries(changed[1:], machines[1:], 1.0)
    program.add_entries(changed[1:], machines[:-1], -1.0)
    program.add_entries(changed[1:], more[1:], -1.0)
    program.add_entries(changed[1:], fewer[1:], 1.0)
    balance = program.add_rows(relaxed.arrivals / span_row, relaxed.arrivals / span_row)
    program.add_entries(balance[relaxed.klass], served, 1.0)
    program.add_entries(balance, missed, 1.0)
    program.add_entries(balance, waiting, 1.0 / span_row)
    program.add_entries(balance[:, 1:], waiting[:, :-1], -1.0 / span_row[:, 1:])
    total_s = span.sum()
    within = program.add_rows(np.full(len(relaxed.misses), -np.inf), relaxed.misses / total_s)
    program.add_entries(within[:, None], missed, span_row / total_s)
    accurate = program.add_rows(-relaxed.late_gain / total_s, np.inf)
    gain = relaxed.accuracy - relaxed.wanted[relaxed.klass]
    program.add_entries(accurate[relaxed.klass][:, None], served, gain[:, None] * span_row / total_s)
    return program, (able, changed, balance, within, accurate)


def narrowed(relaxed: Relaxation, kept: Bool) -> Relaxation:
    """The same with only some of the ways to answer, (J,)."""
    fields = ("klass", "pool", "work_s", "usd", "accuracy")
    return replace(relaxed, **{name: getattr(relaxed, name)[kept] for name in fields})


def ways_used(relaxed: Relaxation) -> Bool:
    """Which ways to answer the optimum uses, (J,); all where it was not found. Serverless is kept: it has no limit."""
    program, _ = state(relaxed)
    found = program.solve_interior()
    ways, steps = len(relaxed.klass), len(relaxed.span_s)
    if found.values is None:
        return np.ones(ways, np.bool_)
    first = 3 * relaxed.limit.size  # after machines, more and fewer
    served = found.values[first : first + ways * steps].reshape(ways, steps)
    return np.asarray((relaxed.pool < 0) | (served.max(axis=1) > _LEAST_USED * served.max()))


def prices_of(relaxed: Relaxation, rows: tuple[I64, ...], solution: Solution) -> Prices:
    """The multipliers that a solver found, in $ per unit; zeros where it found none."""
    able, changed, balance, within, accurate = rows
    span, total_s = relaxed.span_s, relaxed.span_s.sum()
    dual = solution.row_dual
    if dual is None or not np.isfinite(dual).all():
        dual = np.zeros(1 + max(int(part.max(initial=0)) for part in rows))
    dual = dual * relaxed.unit_usd
    return Prices(
        machine=-dual[able] / span[:, None],
        change=-dual[changed],
        request=dual[balance] / span[None, :],
        miss=-dual[within] / total_s,
        accuracy=dual[accurate] / total_s,
    )


def least_usd(relaxed: Relaxation, prices: Prices) -> float:
    """A lower bound on the program's optimum from any prices at all: its Lagrangian dual.

    Prices are first brought to where the dual is finite and no lower, which costs what a solver left inexact. Every
    column is then at the end of its range where its reduced cost is least, so no solver's tolerance enters.
    """
    span = relaxed.span_s[:, None]
    machine, change, after = _repaired(relaxed, prices)
    reduced = (relaxed.price - machine) * span + change - after
    total = float((np.minimum(reduced, 0.0) * relaxed.limit).sum())
    accuracy, miss = np.maximum(prices.accuracy, 0.0), np.maximum(prices.miss, 0.0)
    total -= float(miss @ relaxed.misses) + float(accuracy @ relaxed.late_gain)
    for c in range(len(relaxed.misses)):
        worth = np.minimum(prices.request[c], miss[c])
        for j in np.flatnonzero(relaxed.klass == c):
            worth = np.minimum(worth, _answer_usd(relaxed, prices, machine, int(j)))
        total += float(worth @ relaxed.arrivals[c])
        later = np.append(worth[1:], 0.0)
        total += float(np.minimum(later - worth, 0.0) @ relaxed.waiting[c])
    return total


def cheaper_ways(relaxed: Relaxation, prices: Prices, kept: Bool) -> Bool:
    """Ways to answer that at these prices undercut all that were kept, in some step, (J,).

    Args:
        relaxed: With all ways.
        prices: Found with those that were kept alone.
        kept: (J,).
    """
    machine, _, _ = _repaired(relaxed, prices)
    found = np.zeros(len(kept), np.bool_)
    for c in range(len(relaxed.misses)):
        worth = np.minimum(prices.request[c], max(float(prices.miss[c]), 0.0))
        for j in np.flatnonzero((relaxed.klass == c) & ~kept):
            found[j] = bool((_answer_usd(relaxed, prices, machine, int(j)) < worth).any())
    return found


def _repaired(relaxed: Relaxation, prices: Prices) -> tuple[F64, F64, F64]:
    """Prices of machines, of a change and of the next one, (T, P) each, where the dual is finite and no lower."""
    change = np.clip(prices.change, -relaxed.release_usd, relaxed.start_usd)
    change[0] = 0.0  # what runs in the first step is free
    after = np.concatenate((change[1:], np.zeros((1, change.shape[1]))))
    # Up to where a machine just pays for itself, a higher price of its work costs nothing.
    own = relaxed.price + (change - after) / relaxed.span_s[:, None]
    return np.maximum(np.maximum(prices.machine, 0.0), own), change, after


def _answer_usd(relaxed: Relaxation, prices: Prices, machine: F64, j: int) -> F64:
    """What an answer of way j costs in each step, less what its accuracy is worth, (T,)."""
    c, pool = relaxed.klass[j], relaxed.pool[j]
    pay = relaxed.usd[j] - max(float(prices.accuracy[c]), 0.0) * (relaxed.accuracy[j] - relaxed.wanted[c])
    rent = relaxed.work_s[j] * machine[:, pool] if pool >= 0 else np.zeros(len(machine))
    return np.asarray(pay + rent)
