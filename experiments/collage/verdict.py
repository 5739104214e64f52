"""The values that collages must reach, each beside its bar, and what was found besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt

from experiments.checks import Check, at_least, at_most
from experiments.collage.draws import Kind
from experiments.collage.networks import Network, collages
from experiments.collage.study import (
    COLLAGE,
    COLLAGE_RESENT,
    COLLAGE_TWO,
    NONE,
    REPLICATE,
    RESEND,
    RESEND_TUNED,
    Agreement,
    Row,
    find,
)

_RESEND_BARS = {9: 1.5, 16: 1.5, 25: 2.0}
_TUNED_BARS = {9: 1.4, 16: 1.6, 25: 2.0}
# By size of group.
_DEVIATION_BAR = 4.0
_REPLICATION_P99_BAR, _REPLICATION_SERVERS_BAR = 1.1, 0.56
_COMPARED_SIZES = (9, 16)
_ACCURACY_BARS = {2: 0.96, 3: 0.94, 4: 0.88}
_LOSS_BAR_POINTS = 0.3
_SAME_S = 1e-9


def latency_checks(rows: Sequence[Row]) -> Iterator[Check]:
    """Of the study, at pass ratio 1 and independent draws.

    Args:
        rows: With all sizes of group.
    """
    for k in _RESEND_BARS:
        own = find(rows, k, COLLAGE)
        ratio = find(rows, k, RESEND).group.p99_s / own.group.p99_s
        yield at_least(f"k = {k}: p99 of re-send at {own.after_s:g} s over the collage's", ratio, _RESEND_BARS[k], "×")
        tuned = find(rows, k, RESEND_TUNED)
        what = f"k = {k}: p99 of re-send tuned ({tuned.after_s:.3f} s, {tuned.extra:.1%} extra) over the collage's"
        yield at_least(f"{what} ({own.extra:.1%} extra)", tuned.group.p99_s / own.group.p99_s, _TUNED_BARS[k], "×")
    for k in _RESEND_BARS:
        ratio = find(rows, k, NONE).group.deviation_s / find(rows, k, COLLAGE).group.deviation_s
        yield at_least(f"k = {k}: s.d. without redundancy over the collage's", ratio, _DEVIATION_BAR, "×")
    for k in _COMPARED_SIZES:
        own, full = find(rows, k, COLLAGE), find(rows, k, REPLICATE)
        p99 = own.group.p99_s / full.group.p99_s
        yield at_most(f"k = {k}: p99 of the collage over full replication's", p99, _REPLICATION_P99_BAR, "×")
        servers = own.servers / full.servers
        yield at_most(f"k = {k}: servers of the collage over full replication's", servers, _REPLICATION_SERVERS_BAR)


def accuracy_checks(networks: Sequence[Network], rows: Sequence[Row]) -> Iterator[Check]:
    """Of the networks, and of answers as the study's groups got them.

    Args:
        networks: Of every task.
        rows: Of the study.
    """
    for one, single in collages(networks):
        if one.task == "digits" and one.w in _ACCURACY_BARS:
            what = f"digits {one.w}×{one.w}, held out, mean of {len(one.measured)} seeds (single {single.accuracy:.2%})"
            yield at_least(what, one.accuracy, _ACCURACY_BARS[one.w], " %", 0.01)
    for one, single in best_collages(networks):
        if one.w**2 in _RESEND_BARS:
            row = find(rows, one.w**2, COLLAGE)
            loss = 100.0 * loss_of(row, one, single)
            what = (
                f"{one.task} k = {row.k}: loss of accuracy with {row.by_collage:.2%} answered by the {one.form} collage"
            )
            yield at_most(what, loss, _LOSS_BAR_POINTS, " points")


def agreement_checks(found: Agreement) -> Iterator[Check]:
    """Of the array formulas with the rules' own code.

    Args:
        found: In the replay.
    """
    what = f"replay of {found.groups} groups event by event"
    yield at_most(f"{what}: largest difference of an answer's age", found.most_s, _SAME_S, " s")
    yield at_most(f"{what}: largest difference of workers' time, relative", found.busy, _SAME_S)
    yield at_most(f"{what}: answers by another, requests sent or not", found.differently + found.extra, 0)


def best_collages(networks: Sequence[Network]) -> Iterator[tuple[Network, Network]]:
    """For each task and w, the form whose accuracy is best, with the single-image network."""
    pairs = list(collages(networks))
    for task, w in sorted({(one.task, one.w) for one, _ in pairs}):
        yield max((pair for pair in pairs if (pair[0].task, pair[0].w) == (task, w)), key=lambda pair: pair[0].accuracy)


def loss_of(row: Row, one: Network, single: Network) -> float:
    """Accuracy that answers of a collage cost, over all answers."""
    if isqrt(row.k) != one.w:
        raise ValueError(f"collage: expected {isqrt(row.k)} cells an edge, got {one.w}")
    return row.by_collage * (single.accuracy - one.accuracy)


def findings(rows: Sequence[Row], ratios: Sequence[float]) -> Iterator[str]:
    """What the study says where no bar is set.

    Args:
        rows: Of the study.
        ratios: Of passes that were studied, the least first.
    """
    for k in _RESEND_BARS:
        own, full, none = find(rows, k, COLLAGE), find(rows, k, REPLICATE), find(rows, k, NONE)
        yield (
            f"k = {k}: s.d. of groups {own.group.deviation_s * 1e3:.1f} ms by collage, "
            f"{full.group.deviation_s * 1e3:.1f} ms by full replication, {none.group.deviation_s * 1e3:.1f} ms by none"
        )
    for k in _RESEND_BARS:
        tuned_s = find(rows, k, RESEND_TUNED).group.p99_s
        for mode in (COLLAGE, COLLAGE_TWO, COLLAGE_RESENT):
            wins = [ratio for ratio in ratios if find(rows, k, mode, ratio).group.p99_s < tuned_s]
            upto = f"up to pass ratio {wins[-1]:g}" if wins else "at no pass ratio"
            yield f"k = {k}: {mode} has a lower p99 than tuned re-send {upto} of those studied"
    for k in _RESEND_BARS:
        for kind in (Kind.TIME, Kind.TIME_ROTATED):
            own, two = (find(rows, k, mode, kind=kind) for mode in (COLLAGE, COLLAGE_TWO))
            yield (
                f"k = {k}, {kind.value}: p99 {own.group.p99_s:.3f} s and p99.9 {own.group.p999_s:.3f} s, in a bad "
                f"stretch {own.bad_stretch:.1%} of groups take more than 2 T; with a second collage worker "
                f"{two.group.p99_s:.3f} s, {two.group.p999_s:.3f} s, {two.bad_stretch:.1%}"
            )
        for kind in (Kind.GROUP, Kind.GROUP_ROTATED):
            own, two, tuned, full = (
                find(rows, k, mode, kind=kind) for mode in (COLLAGE, COLLAGE_TWO, RESEND_TUNED, REPLICATE)
            )
            yield (
                f"k = {k}, {kind.value}: p99 {own.group.p99_s:.3f} s; with a second collage worker "
                f"{two.group.p99_s:.3f} s; tuned re-send {tuned.group.p99_s:.3f} s; full replication "
                f"{full.group.p99_s:.3f} s"
            )
