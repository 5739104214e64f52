"""The mini-workflow as a problem: accuracies, message sizes and seconds of its real models, measured here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.planners.workflow.problem import (
    AccuracySample,
    EndToEnd,
    Message,
    Operator,
    Source,
    Variant,
    Worker,
    WorkerLink,
    WorkflowProblem,
)
from serving import zoo
from serving.two_views import HIDDEN, VIEWS, ViewModel, as_input, fuse, source_of, view_of

RATE_RPS = 12.0
LOSS = 1.0
"""Points of accuracy given up over the best variants."""

WORKERS = (
    Worker(name="edge-1", tier="edge", usd_per_hour=0.05),
    Worker(name="edge-2", tier="edge", usd_per_hour=0.05),
    Worker(name="edge-3", tier="edge", usd_per_hour=0.05),
    Worker(name="cloud-1", tier="cloud", usd_per_hour=0.2),
    Worker(name="cloud-2", tier="cloud", usd_per_hour=0.2),
)
LARGE_S = {"edge": 0.12, "cloud": 0.03}
"""Seconds that the large variant takes of a worker: what is measured is scaled so, since a core here serves thousands a
second, and a placement of so small models would otherwise need one worker each."""

_USD_PER_GIB = 50.0
_TIMED = 200


def reference(operator: str, variant: str) -> str:
    """The `module:callable` of an operator's variant."""
    return "serving.two_views:fuse" if operator == "fusion" else f"serving.two_views:{operator}_{variant}"


def unseen() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images that neither models nor accuracies were made from, and their digits."""
    images, digits = zoo.images()[2:]
    return images[zoo.HELD_OUT // 2 :], digits[zoo.HELD_OUT // 2 :]


def two_views_problem(rate_rps: float = RATE_RPS) -> WorkflowProblem:
    """The workflow, measured on one half of the held-out images; the other half is for whoever tests a placement.

    Derived: a worker's seconds are the measured ones of a core here, scaled by one factor a tier (`LARGE_S`).

    Args:
        rate_rps: Of each source.
    """
    images, digits = zoo.images()[2:]
    images, digits = images[: zoo.HELD_OUT // 2], digits[: zoo.HELD_OUT // 2]
    models = {(view, size): ViewModel(view, size) for view in VIEWS for size in HIDDEN}
    logs = {key: model.log_probabilities(view_of(images, key[0])) for key, model in models.items()}
    percent = {key: _percent(found, digits) for key, found in logs.items()}
    inputs = [as_input(image.tolist()) for image in images[:_TIMED]]
    seconds = {key: _median_s(model, inputs) for key, model in models.items()}
    told = [
        dict(zip(VIEWS, pair, strict=True)) for pair in zip(*(models[v, "large"](inputs) for v in VIEWS), strict=True)
    ]
    fuse_s = _median_s(fuse, told)
    slowness = {tier: large_s / max(seconds[view, "large"] for view in VIEWS) for tier, large_s in LARGE_S.items()}

    def latency(measured_s: float) -> dict[str, float]:
        return {worker.name: measured_s * slowness[worker.tier] for worker in WORKERS}

    operators = [
        Operator(
            name=view,
            inputs=(source_of(view),),
            variants=tuple(
                Variant(
                    name=size,
                    accuracy=(AccuracySample(accuracy=percent[view, size]),),
                    selection_cost=seconds[view, size],
                    latency_s=latency(seconds[view, size]),
                )
                for size in HIDDEN
            ),
        )
        for view in VIEWS
    ]
    fused = {(a, b): _percent(logs["upper", a] + logs["lower", b], digits) for a in HIDDEN for b in HIDDEN}
    fusion = Variant(
        accuracy=tuple(
            AccuracySample(inputs=(percent["upper", a], percent["lower", b]), accuracy=accuracy)
            for (a, b), accuracy in fused.items()
        ),
        latency_s=latency(fuse_s),
    )
    whole = tuple(EndToEnd(variants={"upper": a, "lower": b}, accuracy=accuracy) for (a, b), accuracy in fused.items())
    return WorkflowProblem(
        name="two-views",
        # Two variants of a view may be as accurate as each other, and the table is by accuracies alone.
        end_to_end=whole,
        accuracy_target=max(fused.values()) - LOSS,
        sources=tuple(Source(name=source_of(view), rate_rps=rate_rps) for view in VIEWS),
        operators=(*operators, Operator(name="fusion", inputs=VIEWS, variants=(fusion,))),
        messages=(
            *(Message(source=source_of(view), target=view, kib=_kib(inputs[0][source_of(view)])) for view in VIEWS),
            *(Message(source=view, target="fusion", kib=_kib(told[0][view])) for view in VIEWS),
        ),
        tiers=("edge", "cloud"),
        workers=WORKERS,
        links=tuple(
            WorkerLink(source=source, target="cloud", usd_per_gib=_USD_PER_GIB)
            for source in ("edge", *map(source_of, VIEWS))
        ),
    )


def _percent(logs: NDArray[np.float32], digits: NDArray[np.int64]) -> float:
    return float(100.0 * (logs.argmax(axis=1) == digits).mean())


def _kib(message: Any) -> float:
    return len(json.dumps(message)) / 1024.0


def _median_s(model: Callable[[list[Any]], object], messages: Sequence[Any]) -> float:
    """Median time of a core for one message."""
    seconds = []
    for message in messages:
        began_s = time.thread_time()
        model([message])
        seconds.append(time.thread_time() - began_s)
    return float(np.median(seconds))
