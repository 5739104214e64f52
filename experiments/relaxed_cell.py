"""A cell as data of the relaxation: pools joined, ways to answer that can matter, what arrives, what can be bought.

Why each figure is the least that any run can get by with is said in `experiments.relaxation`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, SPOT
from controller.compile import Setting
from envs.world import Cell, World
from experiments.relaxation import Relaxation

DEAREST_JOINED = 1.6
"""Pools are joined where their prices for the same work differ by less than this factor."""

_NONE = -1


def relax(world: World, cell: Cell, arrivals: F64, step_ticks: int, misses: F64, wanted: F64, late: F64) -> Relaxation:
    """The program's data for one cell.

    Args:
        world: Names setting and market.
        cell: Which market.
        arrivals: (C, ticks).
        step_ticks: Ticks of a step; the last may be shorter.
        misses: (C,) misses permitted.
        wanted: (C,) mean accuracy of the answers; NaN for none.
        late: (C,) answers among the misses.
    """
    setting = world.setting
    cat, wl, tick_s = setting.catalog, setting.workload, setting.control.tick_s
    num_ticks = arrivals.shape[1]
    first = np.arange(0, num_ticks, step_ticks)
    length = np.diff(np.append(first, num_ticks))
    joined, ratio = _join(setting, _work(setting))
    pools = np.unique(joined[joined >= 0])
    limits = _limits(world, cell, num_ticks)
    limit = np.zeros((len(first), len(pools)))
    for p in np.flatnonzero(joined >= 0):
        mean = np.add.reduceat(limits[:, p], first) / length
        limit[:, int(np.searchsorted(pools, joined[p]))] += ratio[p] * mean
    ways = _ways(setting, pools)
    starts = np.array([_start_usd(setting, p) for p in range(len(cat.market))])
    ends = np.append(first[1:], num_ticks)
    summed = np.concatenate((np.zeros((len(arrivals), 1)), np.cumsum(arrivals, axis=1)), axis=1)
    longest_s = np.where(
        wl.allowed, wl.network_s + cat.service_s.max(axis=2, where=np.isfinite(cat.service_s), initial=0.0), 0.0
    )
    span_ticks = np.ceil((wl.slo_s + longest_s.max(axis=(1, 2))) / tick_s).astype(np.int64)
    waiting = np.stack(
        [row[ends] - row[np.maximum(ends - ticks, 0)] for row, ticks in zip(summed, span_ticks, strict=True)]
    )
    best = np.array([cat.accuracy[rows.any(axis=1)].max() for rows in wl.allowed])
    has = ~np.isnan(wanted)
    aim = np.where(has, wanted, 0.0)
    return Relaxation(
        span_s=length * tick_s,
        price=_least(cat.price_usd_per_s, joined, ratio, pools),
        start_usd=_least(starts, joined, ratio, pools),
        release_usd=_least(cat.price_usd_per_s * cat.release_lag_s, joined, ratio, pools),
        limit=limit,
        klass=np.array([way.klass for way in ways], np.int64),
        pool=np.array([way.pool for way in ways], np.int64),
        work_s=np.array([way.work_s for way in ways]),
        usd=np.array([way.usd for way in ways]),
        accuracy=np.array([way.accuracy for way in ways]),
        arrivals=np.add.reduceat(arrivals, first, axis=1),
        waiting=waiting,
        misses=misses,
        wanted=aim,
        late_gain=np.where(has, late * np.maximum(best - aim, 0.0), 0.0),
    )


def _work(setting: Setting) -> F64:
    """Machine-seconds of a request, (C, V, P): the best batch that can meet the SLO; infinite where none may."""
    cat, wl = setting.catalog, setting.workload
    luck = cat.shapes[cat.service_shape].min(axis=2)
    sizes = np.arange(cat.service_s.shape[2])
    each_s = np.where(sizes >= 1, cat.service_s / np.maximum(sizes, 1), np.inf)
    can = (sizes >= 1) & (sizes <= cat.batch_max[:, :, None])
    in_time = luck[None, :, :, None] * cat.service_s[None] + wl.network_s[..., None] <= wl.slo_s[:, None, None, None]
    seconds = np.where(can[None] & in_time & wl.allowed[..., None], each_s[None], np.inf).min(axis=3)
    return np.asarray(seconds / np.maximum(cat.concurrency, 1), np.float64)


def _join(setting: Setting, work: F64) -> tuple[I64, F64]:
    """Pools joined with another of their market: (P,) pool that stands for each, -1 for none, and its multiple.

    Pool p is joined with b if r machines of b do all that one of p does, for every class and variant, with no more
    egress, and the two prices are near.
    """
    cat, egress = setting.catalog, setting.workload.egress_usd
    num_pools = len(cat.market)
    used = (cat.market != SERVERLESS) & np.isfinite(work).any(axis=(0, 1))
    joined = np.where(used, np.arange(num_pools), _NONE).astype(np.int64)
    ratio = np.ones(num_pools)
    dearness = np.where(np.isfinite(work), work, np.inf).min(axis=(0, 1)) * np.where(used, cat.price_usd_per_s, 1.0)
    for b in np.argsort(dearness, kind="stable"):
        if not used[b] or joined[b] != b:
            continue
        for p in np.flatnonzero(used & (cat.market == cat.market[b])):
            has, better = np.isfinite(work[..., p]), np.isfinite(work[..., b])
            is_single = joined[p] == p and (joined == p).sum() == 1
            if p == b or not is_single or (has & ~better).any() or (egress[..., b] > egress[..., p])[has].any():
                continue
            multiple = float((work[..., b][has] / work[..., p][has]).max())
            dearer = cat.price_usd_per_s[p] / (multiple * cat.price_usd_per_s[b])
            if 1.0 / DEAREST_JOINED <= dearer <= DEAREST_JOINED:
                joined[p], ratio[p] = b, multiple
    return joined, ratio


def _least(values: F64, joined: I64, ratio: F64, pools: I64) -> F64:
    """Smallest value per machine of the pool that stands for others, (Q,), of values by pool, (P,)."""
    return np.array([(values[joined == p] / ratio[joined == p]).min() for p in pools], np.float64)


def _start_usd(setting: Setting, p: int) -> float:
    """Rent from a launch until the first answer can begin, less one longest service."""
    cat, tick_s = setting.catalog, setting.control.tick_s
    usable = cat.usable[:, p]
    if cat.market[p] == SERVERLESS or not usable.any():
        return 0.0
    luck = float(cat.shapes[cat.launch_shape[p]].min())
    start_s = float(cat.launch_s[p]) * luck + float(cat.load_s[:, p][usable].min())
    longest_s = 0.0
    for v in np.flatnonzero(usable):
        most = float(cat.shapes[cat.service_shape[v, p]].max())
        longest_s = max(longest_s, most * float(cat.service_s[v, p, cat.batch_max[v, p]]))
    ticks = np.ceil(start_s / tick_s - 1e-9)
    return float(cat.price_usd_per_s[p]) * max(0.0, float(ticks) * tick_s - longest_s)


def _limits(world: World, cell: Cell, num_ticks: int) -> F64:
    """Machines that each pool can hold in each tick, (ticks, P)."""
    cat, tick_s = world.setting.catalog, world.setting.control.tick_s
    limits = np.tile(cat.quota.astype(np.float64), (num_ticks, 1))
    begin_s = float(world.spot_start_s([cell])[0])
    last = world.spot_share.shape[1] - 1
    for p in np.flatnonzero((cat.market == SPOT) & (cat.zone >= 0)):
        offered = np.floor(world.spot_share[cat.zone[p]] * cat.quota[p] + 0.5)
        for tick in range(num_ticks):
            # Taken back at the first edge after the zone offers less; one tick more for rounding.
            low = int(np.clip((begin_s + (tick - 2) * tick_s) / world.spot_gap_s, 0, last))
            high = int(np.clip((begin_s + (tick + 1) * tick_s) / world.spot_gap_s, 0, last))
            limits[tick, p] = offered[low : high + 1].max()
    return limits


class _Way(NamedTuple):
    """One way to answer a class."""

    klass: int
    pool: int
    work_s: float
    usd: float
    accuracy: float


def _ways(setting: Setting, pools: I64) -> list[_Way]:
    """Ways to answer each class, without those that a mixture of others on the same pool replaces at no more cost."""
    cat, wl = setting.catalog, setting.workload
    work = _work(setting)
    found: list[_Way] = []
    for c in range(len(wl.slo_s)):
        for q, p in enumerate(pools):
            usd = wl.egress_usd[c, :, p]
            hull = _hull(cat.accuracy, work[c, :, p], usd)
            found += [_Way(c, q, float(work[c, v, p]), float(usd[v]), float(cat.accuracy[v])) for v in hull]
        offers = np.full(cat.usable.shape, np.inf)
        for p in np.flatnonzero(cat.market == SERVERLESS):
            offers[:, p] = np.where(wl.allowed[c, :, p], call_usd(setting, int(p)) + wl.egress_usd[c, :, p], np.inf)
        least = offers.min(axis=1)
        hull = _hull(cat.accuracy, least, np.zeros(len(least)))
        found += [_Way(c, _NONE, 0.0, float(least[v]), float(cat.accuracy[v])) for v in hull]
    return found


def call_usd(setting: Setting, p: int) -> F64:
    """Least mean price of a call of each variant on a serverless pool, (V,).

    A call at a reserved environment's rate begins in a tick for which the reservation is paid, and no more of them run
    at once than are reserved; so a reserved tick is shared by at most a tick and one longest call of use.
    """
    cat, tick_s = setting.catalog, setting.control.tick_s
    shapes = cat.shapes
    longest_s = cat.service_s[:, p, 1] * shapes[cat.service_shape[:, p]].max(axis=1)
    longest_s = longest_s + cat.cold_start_s[:, p] * shapes[cat.cold_shape[:, p]].max(axis=1)
    part = np.where(cat.usable[:, p], tick_s / (tick_s + np.where(cat.usable[:, p], longest_s, 0.0)), 0.0)
    reserved = cat.provisioned_compute_usd_per_gb_s[p] + cat.provisioned_usd_per_gb_s[p] * part
    rate = np.minimum(cat.usd_per_gb_s[p], reserved)
    return np.asarray(cat.service_s[:, p, 1] * cat.memory_gb[p] * rate + cat.usd_per_request[p], np.float64)


def _hull(accuracy: F64, first: F64, second: F64) -> list[int]:
    """Variants on the lower hull of two costs over accuracy: none is replaced by others, alone or mixed, in both."""
    fits = [int(v) for v in np.flatnonzero(np.isfinite(first))]
    kept = list(fits)
    for v in fits:
        others = [u for u in kept if u != v]
        low = [u for u in others if accuracy[u] < accuracy[v]]
        high = [u for u in others if accuracy[u] >= accuracy[v]]
        is_worse = any(first[u] <= first[v] and second[u] <= second[v] for u in high)
        for a in low:
            for b in high:
                part = (accuracy[v] - accuracy[a]) / (accuracy[b] - accuracy[a])
                mixed = [(1.0 - part) * cost[a] + part * cost[b] for cost in (first, second)]
                is_worse = is_worse or (mixed[0] <= first[v] and mixed[1] <= second[v])
        if is_worse:
            kept.remove(v)
    return kept
