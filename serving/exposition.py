"""Prometheus text of a router's and a controller's readings.

The counters live in `Tally` and in the observation; they are turned into metric families when a scraper asks, so that
a request pays nothing for being measured twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.arrays import BILL_TERMS, ActionArrays, ObservationArrays, PlanArrays
from controller.latency import STEPS_PER_OCTAVE, bucket_edges
from serving.audit_metrics import audit_families
from serving.rules import RouterTables
from serving.tally import RouterStats


class _Fixed(Collector):
    """Families that are already made."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def exposition(families: list[Metric]) -> bytes:
    """Text format of metric families."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families))
    return generate_latest(registry)


class MetricsServer:
    """Serves the families published last at `/metrics` on loopback, from a thread of its own.

    Args:
        port: Port to listen on; 0 for none.
    """

    def __init__(self, port: int) -> None:
        self._collector = _Fixed([])
        self._server: Any = None
        if port:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(self._collector)
            self._server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)

    def publish(self, families: list[Metric]) -> None:
        """Replaces what is served."""
        self._collector.families = families

    def close(self) -> None:
        """Stops listening; may be called twice."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def router_families(stats: RouterStats, tables: RouterTables) -> list[Metric]:
    """Metric families of one router reading."""
    families: list[Metric] = []
    tally = stats.tally
    for name, text in (
        ("arrived", "Requests that arrived"),
        ("answered", "Requests answered, late ones included"),
        ("missed", "Deadlines that passed unanswered, refused requests included"),
        ("shed", "Requests refused at arrival"),
        ("failed", "Requests dropped at the deadline or lost"),
        ("overflowed", "Requests sent to serverless because the predicted wait was too long"),
    ):
        family = CounterMetricFamily(f"provisor_router_{name}", text, labels=["request_class"])
        for c, request_class in enumerate(tables.class_names):
            family.add_metric([request_class], float(getattr(tally, name)[c]))
        families.append(family)
    for name, values, text in (
        ("waiting", stats.waiting, "Requests queued now"),
        ("in_service", stats.in_service, "Requests in service now"),
    ):
        gauge = GaugeMetricFamily(f"provisor_router_{name}", text, labels=["request_class"])
        for c, request_class in enumerate(tables.class_names):
            gauge.add_metric([request_class], float(values[c]))
        families.append(gauge)
    families += [_latency(stats, tables), *audit_families(stats, tables)]
    queue = GaugeMetricFamily("provisor_router_queue", "Requests queued now, by option", labels=["variant", "pool"])
    busy = CounterMetricFamily("provisor_router_busy_seconds", "Credit-seconds in service", labels=["variant", "pool"])
    for option in range(tables.num_options):
        variant, _, pool = tables.option_name(option).partition("@")
        queue.add_metric([variant, pool], float(stats.queue[option]))
        busy.add_metric([variant, pool], float(tally.busy_s[option]))
    families += [queue, busy]
    for name in ("invocations", "cold_starts", "throttled", "serverless_usd"):
        family = CounterMetricFamily(f"provisor_router_serverless_{name}", "Serverless, by pool", labels=["pool"])
        for p in np.flatnonzero(tables.is_serverless[: tables.num_pools]):
            family.add_metric([tables.pool_names[p]], float(getattr(tally, name)[p]))
        families.append(family)
    return families


def _latency(stats: RouterStats, tables: RouterTables) -> Metric:
    """Latency histogram, one Prometheus bucket per octave: a scrape of all of ours would be 160 lines per class."""
    family = HistogramMetricFamily(
        "provisor_router_latency_seconds", "Arrival to answer, by class", labels=["request_class"]
    )
    ends = bucket_edges()[STEPS_PER_OCTAVE::STEPS_PER_OCTAVE]
    for c, request_class in enumerate(tables.class_names):
        counts = np.cumsum(stats.tally.latency[c])[STEPS_PER_OCTAVE - 1 :: STEPS_PER_OCTAVE]
        buckets = [(f"{end:g}", float(n)) for end, n in zip(ends[:-1], counts[:-1], strict=True)]
        family.add_metric([request_class], [*buckets, ("+Inf", float(counts[-1]))], sum_value=None)
    return family


def controller_families(
    observation: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    tables: RouterTables,
    facts: dict[str, float],
) -> list[Metric]:
    """Metric families of one decision; `facts` are further gauges by name."""
    families: list[Metric] = []
    by_option = {
        "ready": observation.ready,
        "starting": observation.starting,
        "draining": observation.draining,
        "doomed": observation.doomed,
        "planned": plan.replicas,
        "launch": actions.launch,
        "drain": actions.drain,
    }
    for name, values in by_option.items():
        gauge = GaugeMetricFamily(f"provisor_{name}", f"Replicas: {name}", labels=["variant", "pool"])
        flat = values[0].reshape(-1)
        for option in range(tables.num_options):
            variant, _, pool = tables.option_name(option).partition("@")
            gauge.add_metric([variant, pool], float(flat[option]))
        families.append(gauge)
    spend = GaugeMetricFamily("provisor_day_spend_usd", "Spend since the day began, by term", labels=["term"])
    for i, term in enumerate(BILL_TERMS):
        spend.add_metric([term], float(observation.day_spend_usd[0, i]))
    families.append(spend)
    for name, value in facts.items():
        families.append(GaugeMetricFamily(f"provisor_{name}", name.replace("_", " "), value=value))
    return families
