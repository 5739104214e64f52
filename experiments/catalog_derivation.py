"""How long each variant takes on each kind of capacity, derived from published measurements.

A figure is a mapping of `value` and either `measured` (a source) or `derived` (a formula). CPU times rest on
InfAdapter's throughput by cores, GPU times on Ribbon's line over batches, Lambda times on Cocktail; timm's benchmarks
carry them to larger networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.catalog_sources import BatchLatency, Sources

Entry = dict[str, object]

KARPENTER = "aws/karpenter-provider-aws 1d92708, us-east-1 on-demand, generated 2026-07-20"
SPOTINFO = "alexei-led/spotinfo 05e9331, 2025-06"
INFADAPTER = "InfAdapter 398b18f saturation"
IMAGE_PULL_S = 30.0
RAY_JOIN_S = 10.0
GPU_LAUNCH_S = 150.0
LAMBDA_MB_PER_VCPU = 1769.0
COCKTAIL_MB = 3008.0
LAMBDA_PLATEAU_VCPUS = 4.0
MODERN_OVERHEAD_S = 0.02
CPU_BATCH_MAX, GPU_BATCH_MAX = 4, 8
CPU_CREDIT_CORES = 2
REFERENCE_DEPTH = 152


@dataclass(frozen=True)
class Network:
    """A variant: the timm weights it stands for, and its InfAdapter depth or its timm benchmark rows."""

    name: str
    weights: str
    side: int
    depth: int | None = None
    load_s: float | None = None  # InfAdapter, where measured


NETWORKS = (
    Network("resnet18", "resnet18.a1_in1k", 224, 18, 6.4),
    Network("resnet34", "resnet34.a1_in1k", 224, 34, 6.8),
    Network("resnet50", "resnet50.a1_in1k", 224, 50, 6.8),
    Network("resnet101", "resnet101.a1_in1k", 224, 101, 7.8),
    Network("resnet152", "resnet152.a1_in1k", 224, 152, 8.5),
    Network("convnext-large-384", "convnext_large.fb_in22k_ft_in1k_384", 384),
    Network("eva02-large-448", "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 448),
)
FAMILY_RUN = {"c5": "c5.4xlarge", "m5": "m5.2xlarge", "r5": "r5.xlarge"}
FAMILY_VCPUS = {"c5": 16, "m5": 8, "r5": 4}
COCKTAIL_NAMES = {18: ("Resnet-18",), 34: ("Resnet-18", "Resnet-50"), 50: ("Resnet-50",), 101: ("Resnet-101",)}
COCKTAIL_NAMES |= {152: ("Resnet-101", "Resnet-200")}


def measured(value: float, source: str) -> Entry:
    """A figure read off a source."""
    return {"value": _short(value), "measured": source}


def derived(value: float, formula: str) -> Entry:
    """A figure computed or assumed."""
    return {"value": _short(value), "derived": formula}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


class Derivation:
    """Turns the sources into the durations of each variant on each kind of capacity."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._reference = next(n for n in NETWORKS if n.depth == REFERENCE_DEPTH)

    def core_s(self, network: Network) -> tuple[float, str]:
        """Seconds of one image on one core of a c5, with its formula."""
        if network.depth is not None:
            rps = self.sources.saturation_rps[network.depth, CPU_CREDIT_CORES]
            return CPU_CREDIT_CORES / rps, f"{CPU_CREDIT_CORES} cores / {INFADAPTER} {rps:g} req/s"
        step, reference = self._cpu_step_s(network), self._cpu_step_s(self._reference)
        base, text = self.core_s(self._reference)
        ratio = step / reference
        return (
            base * ratio,
            f"resnet152 ({text}) x {ratio:.2f} (timm i9-10940X step {step * 1e3:.4g} / {reference * 1e3:.4g} ms)",
        )

    def gpu_weight(self, network: Network) -> tuple[float, str]:
        """How many times Ribbon's ResNet the variant weighs, with its formula."""
        if network.depth is not None:
            rps = self.sources.saturation_rps[network.depth, 16]
            item_s = self.sources.ribbon["resnet", "c5.4xlarge"].at_ten_s / 10
            return (
                1 / rps / item_s,
                f"k = ({INFADAPTER} 1 / {rps:g} s, 16 cores) / (Ribbon c5.4xlarge {item_s * 1e3:.4g} ms, batch 10)",
            )
        rate, reference = self._gpu_rps(network), self._gpu_rps(self._reference)
        base, _ = self.gpu_weight(self._reference)
        return base * reference / rate, f"k = resnet152's x timm RTX 3090 rate {reference:.5g} / {rate:.5g}"

    def family_factor(self, family: str) -> float:
        """Time per core against c5, from Ribbon's VGG, whose latency is linear in vCPUs."""
        return self._core_slope_s(family) / self._core_slope_s("c5")

    def call_s(self, family: str) -> float:
        """Time of a call that does not grow with the batch, from Ribbon's VGG."""
        return self.sources.ribbon["vgg", FAMILY_RUN[family]].intercept_s

    def load_s(self, network: Network) -> tuple[float, str]:
        """Seconds from a running instance to a loaded model, with its formula."""
        if network.load_s is not None:
            return network.load_s, "load times of reconfigurable-ml-pipeline/InfAdapter"
        first, last = NETWORKS[0], self._reference
        assert first.load_s is not None
        assert last.load_s is not None
        per_gb = (last.load_s - first.load_s) / (self.weights_gb(last) - self.weights_gb(first))
        value = last.load_s + per_gb * (self.weights_gb(network) - self.weights_gb(last))
        return value, f"InfAdapter load times on a line, resnet18 to resnet152: {per_gb:.3g} s per GB of weights"

    def weights_gb(self, network: Network) -> float:
        """Size in 32-bit floats."""
        return self.sources.weights[network.weights, network.side].parameters * 4 / 1e9

    def cocktail(self, network: Network) -> tuple[float, float, float, str] | None:
        """(warm run, warm overhead, cold extra) in seconds at Cocktail's memory, and the rows; None if not measured."""
        names = COCKTAIL_NAMES.get(network.depth or 0)
        if names is None:
            return None
        calls = [self.sources.lambda_calls[n] for n in names]
        count = len(calls)
        rows = "Cocktail cold-starts.csv " + (names[0] if count == 1 else f"mean of {' and '.join(names)}")
        return (
            sum(c.warm_run_s for c in calls) / count,
            sum(c.warm_overhead_s for c in calls) / count,
            sum(c.cold_total_s - c.warm_total_s for c in calls) / count,
            rows,
        )

    def _core_slope_s(self, family: str) -> float:
        return self.sources.ribbon["vgg", FAMILY_RUN[family]].slope_s * FAMILY_VCPUS[family]

    def _cpu_step_s(self, network: Network) -> float:
        return self.sources.cpu_step_s[network.weights.split(".")[0], network.side]

    def _gpu_rps(self, network: Network) -> float:
        return self.sources.gpu_rps[network.weights.split(".")[0], network.side]


def cpu_profile(
    derivation: Derivation, network: Network, pool: str, instance: str, shape: Mapping[str, object]
) -> Entry:
    """Profile on a CPU instance: one image runs on one core, as InfAdapter served it, so credits are vCPUs."""
    family = instance.split(".")[0]
    core_s, formula = derivation.core_s(network)
    factor, call_s = derivation.family_factor(family), derivation.call_s(family)
    total = core_s * factor
    load_s, load_text = derivation.load_s(network)
    load = measured(load_s, load_text) if network.load_s is not None else derived(load_s, load_text)
    return {
        "variant": network.name,
        "pool": pool,
        "service_intercept_s": derived(
            call_s,
            f"a: intercept of Ribbon's VGG line (batches 10 to 100) on {FAMILY_RUN[family]}; 11 ms at 4, 8, 16 vCPUs",
        ),
        "service_slope_s": derived(
            total - call_s,
            f"({formula}) x {factor:.3f} ({family} / c5, Ribbon VGG slope x vCPUs) - a; one InfAdapter core = one vCPU",
        ),
        "service_shape": shape,
        "batch_max": CPU_BATCH_MAX,
        "concurrency": int(derivation.sources.instances[instance].vcpus),
        "load_s": load,
        "swap_s": derived(load_s, f"as load_s: one process stops, the next loads ({load_text})"),
    }


def gpu_profile(derivation: Derivation, network: Network, pool: str, shape: Mapping[str, object]) -> Entry:
    """Profile on g4dn: Ribbon's T4 line, scaled as a whole by the weight of the variant."""
    weight, formula = derivation.gpu_weight(network)
    line: BatchLatency = derivation.sources.ribbon["resnet", "g4dn.2xlarge"]
    load_s, load_text = derivation.load_s(network)
    return {
        "variant": network.name,
        "pool": pool,
        "service_intercept_s": derived(
            line.intercept_s * weight, f"Ribbon ResNet g4dn.2xlarge a = {line.intercept_s * 1e3:.4g} ms x k; {formula}"
        ),
        "service_slope_s": derived(
            line.slope_s * weight,
            f"Ribbon ResNet g4dn.2xlarge b = {line.slope_s * 1e3:.4g} ms x k; shortest batch measured is 10",
        ),
        "service_shape": shape,
        "batch_max": GPU_BATCH_MAX,
        "concurrency": 1,
        "load_s": derived(load_s, f"as on a CPU instance ({load_text})"),
        "swap_s": derived(load_s, f"as load_s ({load_text})"),
    }


def lambda_profile(
    derivation: Derivation, network: Network, pool: str, memory_mb: float, shape: Mapping[str, object]
) -> Entry | None:
    """Profile on Lambda as Cocktail measured it in 2021; None where it did not."""
    found = derivation.cocktail(network)
    if found is None:
        return None
    run_s, overhead_s, cold_s, rows = found
    at_cocktail = COCKTAIL_MB / LAMBDA_MB_PER_VCPU
    here = min(memory_mb / LAMBDA_MB_PER_VCPU, LAMBDA_PLATEAU_VCPUS)
    return {
        "variant": network.name,
        "pool": pool,
        "service_intercept_s": measured(
            overhead_s, f"{rows}, warm total - warm run; billed too, so the bill is on the high side"
        ),
        "service_slope_s": derived(
            run_s * at_cocktail / here,
            f"{rows} warm run {run_s:.4g} s x {at_cocktail:.2f} / {here:.2f} vCPUs; assumed: measured at "
            f"{COCKTAIL_MB:g} MB, linear up to {LAMBDA_PLATEAU_VCPUS:g} vCPUs",
        ),
        "batch_max": 1,
        "concurrency": 1,
        "load_s": derived(0, "part of the cold start"),
        "cold_start_s": derived(cold_s, f"{rows}, cold total - warm total; independent of memory (maxday/lambda-perf)"),
        "cold_shape": shape,
    }


def modern_profile(
    derivation: Derivation, network: Network, pool: str, memory_mb: float, shape: Mapping[str, object]
) -> Entry:
    """Profile on a Lambda whose code and runtime are as fast as an instance's."""
    core_s, formula = derivation.core_s(network)
    vcpus, factor = memory_mb / LAMBDA_MB_PER_VCPU, derivation.family_factor("m5")
    init_s = derivation.sources.lambda_init_s["mean"]
    load_s, load_text = derivation.load_s(network)
    return {
        "variant": network.name,
        "pool": pool,
        "service_intercept_s": derived(MODERN_OVERHEAD_S, "assumed: warm invocation inside the region"),
        "service_slope_s": derived(
            core_s * factor / vcpus, f"({formula}) x {factor:.3f} (m5 / c5) / {vcpus:.2f} vCPUs"
        ),
        "batch_max": 1,
        "concurrency": 1,
        "load_s": derived(0, "part of the cold start"),
        "cold_start_s": derived(
            init_s + load_s,
            f"{init_s:.3g} s (maxday/lambda-perf 6070b79, Python images, x86-64, since 2025) + {load_s:.3g} s "
            f"({load_text})",
        ),
        "cold_shape": shape,
    }
