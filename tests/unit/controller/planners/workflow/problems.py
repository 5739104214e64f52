"""Workflow problems small enough to be worked by hand."""

from controller.planners.workflow.problem import (
    AccuracySample,
    Message,
    Operator,
    Source,
    Variant,
    Worker,
    WorkerLink,
    WorkflowProblem,
)

GIB_KIB = 1024.0**2


def chain(**changes) -> WorkflowProblem:
    """A source of 10 requests/s into `detect` and then `name`, on two edge workers and a cloud one.

    `detect` is small (accuracy 70) or large (80); `name` reaches 60 from 70 and 75 from 80. An image is such that 10 of
    them a second are 1 GiB an hour, and what `detect` passes on is a tenth of it; a GiB to the cloud costs $1.
    """
    image_kib = GIB_KIB / 3600.0 / 10.0
    fields = {
        "name": "chain",
        "accuracy_target": 60.0,
        "sources": (Source(name="camera", rate_rps=10.0),),
        "operators": (
            Operator(
                name="name",
                inputs=("detect",),
                variants=(
                    Variant(
                        accuracy=(
                            AccuracySample(inputs=(70.0,), accuracy=60.0),
                            AccuracySample(inputs=(80.0,), accuracy=75.0),
                        ),
                        latency_s={"edge-1": 0.05, "edge-2": 0.1, "cloud": 0.01},
                    ),
                ),
            ),
            Operator(
                name="detect",
                inputs=("camera",),
                variants=(
                    Variant(
                        name="small",
                        selection_cost=1.0,
                        accuracy=(AccuracySample(accuracy=70.0),),
                        latency_s={"edge-1": 0.1, "edge-2": 0.2, "cloud": 0.05},
                    ),
                    Variant(
                        name="large",
                        selection_cost=2.0,
                        accuracy=(AccuracySample(accuracy=80.0),),
                        latency_s={"edge-1": 0.2, "edge-2": 0.2, "cloud": 0.05},
                    ),
                ),
            ),
        ),
        "messages": (
            Message(source="camera", target="detect", kib=image_kib),
            Message(source="detect", target="name", kib=image_kib / 10.0),
        ),
        "tiers": ("edge", "cloud"),
        "workers": (
            Worker(name="edge-1", tier="edge", usd_per_hour=0.5),
            Worker(name="edge-2", tier="edge", usd_per_hour=0.3),
            Worker(name="cloud", tier="cloud", usd_per_hour=2.0),
        ),
        "links": (WorkerLink(source="edge", target="cloud", usd_per_gib=1.0),),
    }
    return WorkflowProblem(**{**fields, **changes})
