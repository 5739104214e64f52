"""Prometheus families of a router's audits."""

from __future__ import annotations

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.rules import RouterTables
from serving.tally import RouterStats


def audit_families(stats: RouterStats, tables: RouterTables) -> list[Metric]:
    """What audits have shown and taken; nothing where no class has a tier."""
    audits = stats.audits
    tiers = [c for c, tier in enumerate(tables.tiers) if tier is not None]
    if audits is None or not tiers:
        return []
    families: list[Metric] = []
    for name, counts, text in (
        ("audited", audits.audited, "Requests of tiers that the best version answered as well"),
        ("differing", audits.differing, "Audited requests with different answers"),
        ("labelled", audits.labelled, "Audited requests whose right answer was told"),
        ("dropped", audits.dropped, "Audits that no replica had time for"),
    ):
        family = CounterMetricFamily(f"provisor_router_audit_{name}", text, labels=["request_class"])
        for c in tiers:
            family.add_metric([tables.class_names[c]], float(counts[c]))
        families.append(family)
    demoted = {one.request_class for one in audits.demotions}
    gauge = GaugeMetricFamily("provisor_router_tier_demoted", "Whether a tier is demoted", labels=["request_class"])
    for c in tiers:
        gauge.add_metric([tables.class_names[c]], float(c in demoted))
    seconds = CounterMetricFamily(
        "provisor_router_audit_seconds", "Credit-seconds of audits, in no other count", labels=["variant", "pool"]
    )
    for option in np.flatnonzero(audits.seconds):
        variant, _, pool = tables.option_name(int(option)).partition("@")
        seconds.add_metric([variant, pool], float(audits.seconds[option]))
    usd = CounterMetricFamily("provisor_router_audit_usd", "Rent of those credit-seconds, part of the machines' bill")
    usd.add_metric([], audits.usd)
    return [*families, gauge, seconds, usd]
