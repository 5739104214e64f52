"""The workflow planners on the published VQA example: the authors' answer, our planners, baselines over targets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from controller.errors import UsageError, mismatch
from controller.planners.workflow.compiled import Instance, Placement

DATA_VARIABLE = "PROVISOR_DATA"
FOLDER = "jellybean_vqa"

AUTHORS = {
    "ExtractImageFeature": ("resnet18", ("cpu-1", "cpu-2", "cpu-5")),
    "SpeechRecognition": ("wav2vec2-large-960h-lv60-self", ("gpu-1", "cpu-3")),
    "VQA": ("default", ("cpu-6",)),
}
"""Their published answer at accuracy 56.0, workers in the order in which they are filled (README of the repository)."""

AUTHORS_COMPUTE, AUTHORS_COMMUNICATION = 6.242, 1.26678


def published_folder() -> Path:
    """The folder of the authors' files.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
    """
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        raise UsageError(mismatch(DATA_VARIABLE, f"the directory that holds {FOLDER}", data))
    return Path(data) / FOLDER


def authors_placement(instance: Instance) -> Placement:
    """The authors' assignment: each worker filled in turn, the last one of an operator with the rest."""
    names = [w.name.removeprefix("workflow-compute-") for w in instance.problem.workers]
    load = np.zeros((instance.num_operators, len(names)))
    variants = []
    for v, operator in enumerate(instance.operators):
        variant, workers = AUTHORS[operator.name]
        variants.append([m.name for m in operator.variants].index(variant))
        left = float(instance.rate_rps[v])
        for worker in workers:
            w = names.index(worker)
            load[v, w] = min(left, float(instance.capacity_rps[v][variants[-1]][w]))
            left -= load[v, w]
    return Placement(tuple(variants), load)
