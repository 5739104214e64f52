"""A small catalog for the serving tests: two variants on an on-demand, a spot and a serverless pool, round figures."""

from dataclasses import replace

import numpy as np

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario
from serving.rules import Rules, initial_rules, router_tables

SMALL_OD, SMALL_SPOT, SMALL_LAMBDA, LARGE_OD, LARGE_SPOT, LARGE_LAMBDA = range(6)
SMALL, LARGE = 0, 1


def figure(value):
    return {"value": value, "derived": "chosen: a round figure"}


def pool(name, market, **terms):
    shared = {"name": name, "site": "here", "instance_type": "box", "market": market, "node_owner": "local"}
    figures = {"vcpus": 2, "memory_gb": 2, "launch_s": 4} | terms
    plain = {key: figures.pop(key) for key in ("zone", "quota") if key in figures}
    return shared | plain | {key: figure(value) for key, value in figures.items()}


MACHINE = {"quota": 3, "price_usd_per_hour": 3.6, "min_billing_s": 10, "release_lag_s": 1}
LAMBDA = {
    "quota": 2,
    "launch_s": 0,
    "usd_per_gb_s": 0.01,
    "usd_per_request": 0.001,
    "provisioned_usd_per_gb_s": 0.002,
    "provisioned_compute_usd_per_gb_s": 0.005,
    "billing_step_s": 0.001,
    "keep_alive_s": 5,
}


def profile(variant, pool_name, slope, **more):
    base = {
        "variant": variant,
        "pool": pool_name,
        "service_intercept_s": figure(0),
        "service_slope_s": figure(slope),
        "batch_max": 4,
        "concurrency": 1,
        "load_s": figure(2),
        "swap_s": figure(2),
    }
    return base | more


def catalog():
    pools = [
        pool("od", "on_demand", **MACHINE),
        pool("spot", "spot", zone="za", notice_s=3, **MACHINE),
        pool("lambda", "serverless", **LAMBDA),
    ]
    serverless = {"batch_max": 1, "cold_start_s": figure(0.5), "swap_s": None}
    profiles = [profile(v, p, s) for v, s in (("small", 0.1), ("large", 0.2)) for p in ("od", "spot")]
    profiles += [profile(v, "lambda", s, **serverless) for v, s in (("small", 0.1), ("large", 0.2))]
    variants = [
        {
            "name": name,
            "operator": "classify",
            "accuracy": figure(accuracy),
            "weights_gb": figure(0.1),
            "input_bytes": figure(0),
            "output_bytes": figure(0),
        }
        for name, accuracy in (("small", 0.8), ("large", 0.9))
    ]
    value = {"name": "two-by-three", "sites": [{"name": "here"}], "variants": variants, "pools": pools}
    return parse_config(value | {"profiles": profiles}, Catalog, "catalog")


def scenario(**classes):
    shared = {"source_site": "here", "workflow": "w", "attainment_target": 0.9, "share": 0.5}
    rows = [
        shared | {"name": "strict", "slo_s": 1.0, "accuracy_floor": 0.7, "queue_limit": 3} | classes.get("strict", {}),
        shared | {"name": "relaxed", "slo_s": 4.0, "accuracy_floor": 0.85} | classes.get("relaxed", {}),
    ]
    value = {
        "name": "two-classes",
        "workload": {"workflows": [{"name": "w", "operators": ["classify"]}], "classes": rows},
        "mean_rps": 5.0,
        "trace": {"kind": "generated", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "control": {"tick_s": 1.0, "ticks_per_decision": 1, "horizon_s": 6.0, "retry_after_s": 5.0},
    }
    return parse_config(value, Scenario, "scenario")


def setting(**classes) -> Setting:
    return compile_scenario(scenario(**classes), catalog())


def rules(of: Setting, serving: dict[int, int], **changes) -> Rules:
    """Rules under which every class goes to the serving options in equal parts."""
    tables = router_tables(of)
    counts = np.zeros(tables.num_options, np.int64)
    for option, count in serving.items():
        counts[option] = count
    shares = np.where(counts > 0, 1.0, 0.0) / max(1, len(serving))
    base = replace(
        initial_rules(tables),
        sequence=0,
        shares=np.tile(shares, (len(tables.class_names), 1)),
        serving=counts,
        target=counts,
        shed_limit=np.full(len(tables.class_names), 1000),
    )
    return replace(base, **changes)


def cascade(*variants, threshold=0.5, concurrent=False):
    """Changes of rules under which every class has a cascade, of small and then large unless told."""
    steps = list(variants or (SMALL, LARGE))
    return {
        "cascade_variant": np.tile(steps + [-1] * (3 - len(steps)), (2, 1)),
        "cascade_threshold": np.full((2, 2), threshold),
        "cascade_concurrent": np.full(2, concurrent),
    }
