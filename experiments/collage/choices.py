"""What the rule of `controller.redundancy_choice` says for the measured workers and networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.arrays import F64
from controller.redundancy_choice import CollageOffer, Stakes, Way, best_way
from experiments.collage.networks import Network, collages

_SLOS_S = (0.3, 0.5, 0.7)
_MISS_VALUES = (0.1, 1.0, 10.0, 100.0)
# Value of a miss, and of a wrong answer, over the price of a mean request.

TITLES = ("SLO, s", "a miss costs, requests", "way", "after, s", "missed", "busy, of none's", "by collage")


def offers_of(networks: Sequence[Network], task: str) -> list[CollageOffer]:
    """What networks of a task offer, of full resolution.

    Args:
        networks: Measured.
        task: Of these.
    """
    return [
        CollageOffer(one.w**2, one.pass_ratio(single), max(0.0, single.accuracy - one.accuracy))
        for one, single in collages(networks)
        if (one.task, one.form) == (task, "full")
    ]


def chosen(latency_s: F64, offers: Sequence[CollageOffer]) -> Iterator[tuple[float, float, Way]]:
    """SLO, value of a miss and the way of least cost.

    Args:
        latency_s: The measured latencies.
        offers: Collages that there are.
    """
    mean_s = float(latency_s.mean())
    for slo_s in _SLOS_S:
        for value in _MISS_VALUES:
            usd = value * mean_s
            yield slo_s, value, best_way(latency_s, Stakes(slo_s, 1.0, usd, usd), offers)


def lines(latency_s: F64, networks: Sequence[Network]) -> list[list[str]]:
    """Of the table."""
    mean_s = float(latency_s.mean())
    return [
        [
            f"{slo_s:g}",
            f"{value:g}",
            way.mode.value
            + ("" if way.offer is None else f" of {way.offer.cells}")
            + (", two workers" if way.passes > 1 else ""),
            "" if way.after_s == float("inf") else f"{way.after_s:.3f}",
            f"{way.missed:.3%}",
            f"{way.busy_s / mean_s:.3f}",
            f"{way.by_collage:.2%}",
        ]
        for slo_s, value, way in chosen(latency_s, offers_of(networks, "digits"))
    ]
