"""Assembles the default catalog from its derived figures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from experiments.catalog_derivation import (
    GPU_LAUNCH_S,
    IMAGE_PULL_S,
    KARPENTER,
    LAMBDA_MB_PER_VCPU,
    NETWORKS,
    RAY_JOIN_S,
    SPOTINFO,
    Derivation,
    Entry,
    cpu_profile,
    derived,
    gpu_profile,
    lambda_profile,
    measured,
    modern_profile,
)
from experiments.catalog_sources import Sources

REGION, CLIENTS = "us-east-1", "clients"
ON_DEMAND_QUOTA = {"m5.large": 24, "c5.large": 48, "c5.xlarge": 24, "r5.large": 24, "g4dn.xlarge": 1}
SPOT_POOLS = (
    ("m5-large-spot", "m5.large", "us-east-1c", 24),
    ("c5-large-spot-f", "c5.large", "us-east-1f", 32),
    ("c5-large-spot-d", "c5.large", "us-east-1d", 32),
    ("c5-xlarge-spot", "c5.xlarge", "us-east-1c", 16),
    ("r5-large-spot", "r5.large", "us-east-1f", 24),
    ("g4dn-xlarge-spot", "g4dn.xlarge", "us-east-1a", 1),
)
LAMBDA_MB = (1769.0, 3008.0, 10240.0)
MODERN_LAMBDA, MODERN_MB = "lambda-modern-3008", 3008.0
LAMBDA_QUOTA = 250
GPU = "g4dn.xlarge"


def default_catalog(sources: Sources) -> Entry:
    """The default catalog as plain values, as the YAML file holds them."""
    derivation = Derivation(sources)
    return {
        "schema_version": 1,
        "name": "default",
        "sites": [{"name": CLIENTS, "kind": "edge"}, {"name": REGION, "kind": "region"}],
        "links": _links(),
        "variants": [_variant(sources, derivation, n.name) for n in NETWORKS],
        "pools": _pools(sources),
        "profiles": _profiles(sources, derivation),
    }


def _links() -> list[Entry]:
    rate = derived(12.5e6, "assumed: 100 Mbit/s")
    delay = derived(0.015, "assumed: a client some 1000 km from the region, 30 ms there and back")
    source = "AWS on-demand pricing, data transfer"
    return [
        {
            "source": CLIENTS,
            "target": REGION,
            "delay_s": delay,
            "bytes_per_s": rate,
            "usd_per_gb": measured(0, f"{source} in from the internet is free"),
        },
        {
            "source": REGION,
            "target": CLIENTS,
            "delay_s": delay,
            "bytes_per_s": rate,
            "usd_per_gb": measured(
                0.09,
                f"{source} out to the internet, first 10 TB a month, 2026 "
                "(as on wring.co/blog/aws-data-transfer-pricing-guide)",
            ),
        },
    ]


def _variant(sources: Sources, derivation: Derivation, name: str) -> Entry:
    network = next(n for n in NETWORKS if n.name == name)
    top1 = sources.weights[network.weights, network.side].top1
    row = f"{network.weights} at {network.side} px"
    # An upload holds the image as the client has it; only what the network sees is scaled.
    side_ratio = network.side / 224
    return {
        "name": name,
        "operator": "classify",
        "accuracy": measured(top1, f"timm aa4b585 results-imagenet.csv, top-1 of {row}"),
        "weights_gb": derived(derivation.weights_gb(network), f"timm parameters of {row} x 4 bytes"),
        "input_bytes": derived(40e3 * side_ratio**2, f"assumed: a JPEG of {network.side} px at 0.8 byte a pixel"),
        "output_bytes": derived(1000, "assumed: five labels with scores as JSON"),
    }


def _pools(sources: Sources) -> list[Entry]:
    pools = [_machine(sources, t.replace(".", "-"), t, quota) for t, quota in ON_DEMAND_QUOTA.items()]
    pools += [_machine(sources, name, t, quota, zone) for name, t, zone, quota in SPOT_POOLS]
    pools += [serverless_pool(sources, f"lambda-{mb:g}", mb) for mb in LAMBDA_MB]
    return [*pools, serverless_pool(sources, MODERN_LAMBDA, MODERN_MB)]


def _machine(sources: Sources, name: str, instance: str, quota: int, zone: str | None = None) -> Entry:
    row = sources.instances[instance]
    boot = sources.boot_us_east_1_s
    if instance == GPU:
        launch = derived(
            GPU_LAUNCH_S,
            "assumed: between 110 and 180 s, the sums of the low ends and of the middles of provisioning 60-120, "
            "driver 20-40, image 30-90 s; no raw measurement is public",
        )
    else:
        launch = derived(
            boot + IMAGE_PULL_S + RAY_JOIN_S,
            f"{boot:.4g} s API call to SSH (brevdev/ec2-coldboot-research, m7i.large us-east-1, 2026-01) + "
            f"{IMAGE_PULL_S:g} s image pull (assumed: 3 GB at 100 MB/s) + {RAY_JOIN_S:g} s Ray node start and join "
            "(measured 10 s on two cores)",
        )
    spot = zone is not None
    price = (
        derived(
            row.spot_usd_per_hour,
            f"{row.on_demand_usd_per_hour:g} ({KARPENTER}) x (1 - {row.spot_saving_percent:g} %, {SPOTINFO}); +-20 %",
        )
        if spot
        else measured(row.on_demand_usd_per_hour, KARPENTER)
    )
    pool: Entry = {"name": name, "site": REGION, "instance_type": instance, "market": "spot" if spot else "on_demand"}
    if zone is not None:
        pool["zone"] = zone
    pool |= {"vcpus": measured(row.vcpus, KARPENTER), "memory_gb": measured(row.memory_gib, KARPENTER)}
    if instance == GPU:
        pool["accelerator"] = "t4"
    pool |= {
        "price_usd_per_hour": price,
        "launch_s": launch,
        "launch_shape": launch_shape(sources),
        "min_billing_s": derived(60, "AWS bills Linux instances by the second, a minute at least"),
        "release_lag_s": derived(
            5, "assumed: one call to terminate (2 to 5 s in brevdev/ec2-coldboot-research) before billing stops"
        ),
        "quota": quota,
    }
    if spot:
        pool["notice_s"] = measured(120, "AWS EC2 user guide, spot instance interruption notices: two minutes")
    return pool


def serverless_pool(sources: Sources, name: str, memory_mb: float) -> Entry:
    """A Lambda of one memory size, at list prices."""
    usd = sources.lambda_usd
    listed = "AWS Lambda price table, us-east-1 x86-64 (artillery 2.0.28, provider page 2026-09)"
    unconfirmed = "AWS Lambda list price from memory, not confirmed by a source"
    return {
        "name": name,
        "site": REGION,
        "instance_type": f"lambda-{memory_mb:g}mb",
        "market": "serverless",
        "vcpus": derived(memory_mb / LAMBDA_MB_PER_VCPU, "memory / 1769 MB per vCPU (AWS Lambda developer guide)"),
        "memory_gb": derived(memory_mb / 1024, f"{memory_mb:g} MB / 1024"),
        "launch_s": derived(0, "nothing to launch"),
        "quota": LAMBDA_QUOTA,
        "usd_per_gb_s": measured(usd["compute_usd_per_gb_s"], listed),
        "usd_per_request": measured(usd["request_usd_per_million"] / 1e6, listed),
        "provisioned_usd_per_gb_s": derived(usd["provisioned_concurrency_usd_per_gb_s"], unconfirmed),
        "provisioned_compute_usd_per_gb_s": derived(usd["provisioned_compute_usd_per_gb_s"], unconfirmed),
        "billing_step_s": measured(0.001, "AWS Lambda pricing: duration rounded up to 1 ms"),
        "keep_alive_s": derived(300, "assumed: AWS states no figure; idle environments are seen to live for minutes"),
    }


def _profiles(sources: Sources, derivation: Derivation) -> list[Entry]:
    machines = [(t.replace(".", "-"), t) for t in ON_DEMAND_QUOTA] + [(name, t) for name, t, _, _ in SPOT_POOLS]
    profiles: list[Entry] = []
    for network in NETWORKS:
        for pool, instance in machines:
            shape = service_shape(sources, instance)
            if instance == GPU:
                profiles.append(gpu_profile(derivation, network, pool, shape))
            else:
                profiles.append(cpu_profile(derivation, network, pool, instance, shape))
        for memory_mb in LAMBDA_MB:
            old = lambda_profile(derivation, network, f"lambda-{memory_mb:g}", memory_mb, cocktail_shape(sources))
            if old is not None:
                profiles.append(old)
        profiles.append(modern_profile(derivation, network, MODERN_LAMBDA, MODERN_MB, init_shape(sources)))
    return profiles


def _table(points: Mapping[float, float]) -> dict[float, float]:
    return {p: round(v, 3) for p, v in points.items()}


def service_shape(sources: Sources, instance: str) -> Entry:
    """Spread of the service time on the instance's family, from Ribbon."""
    run = {"c5": "c5.4xlarge", "m5": "m5.2xlarge", "r5": "r5.xlarge", "g4dn": "g4dn.2xlarge"}[instance.split(".")[0]]
    spread = sources.ribbon["resnet", run].spread
    return {"quantiles": _table(spread), "measured": f"Ribbon ResNet on {run}, quantile / mean over batches 10 to 100"}


def launch_shape(sources: Sources) -> Entry:
    """Spread of the launch, from all cold launches of CPU types."""
    boots = sorted(sources.boot_s)
    centre = mean(boots)
    last = len(boots) - 1
    points = {round(i / last, 3): boots[i] / centre for i in (0, last // 4, last // 2, 3 * last // 4, last)}
    return {
        "quantiles": _table(points),
        "derived": f"{len(boots)} cold launches of CPU types (brevdev/ec2-coldboot-research, daemonology.net) / mean, "
        "taken for the whole launch; few runs, no tail",
    }


def cocktail_shape(sources: Sources) -> Entry:
    """Spread of the cold start, from the seven models of Cocktail."""
    extra = sorted(c.cold_total_s - c.warm_total_s for c in sources.lambda_calls.values())
    centre = mean(extra)
    last = len(extra) - 1
    return {
        "quantiles": _table({round(i / last, 3): v / centre for i, v in enumerate(extra)}),
        "derived": f"Cocktail cold total - warm total of {len(extra)} models / mean: the spread between models "
        "stands in for that of one",
    }


def init_shape(sources: Sources) -> Entry:
    """Spread of a modern cold start, from lambda-perf."""
    init = sources.lambda_init_s
    points = {0.0: init["min"], 0.5: init["median"], 1.0: init["max"]}
    return {
        "quantiles": _table({p: v / init["mean"] for p, v in points.items()}),
        "derived": "lambda-perf init of ten cold starts: min, median, max / mean, taken for init and load",
    }
