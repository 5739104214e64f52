"""Published measurements of one framework on AWS Lambda at five memory sizes, and what fits into how much memory.

Warm runs are the mean and its standard error over calls 3 to 20 of each series (the first starts cold, the second
still loads kernels); the cold total is the client's time of the first call. Sizes at which the function was killed for
want of memory have no row: AlexNet at 512 MB, VGG-16 and VGG-19 at 512 and VGG-16 at 1024 MB. VGG-19 at 1024 MB is left
out: after the first two calls its answers take less time than the arithmetic can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SOURCE = "jaeriver/DL_Lambda_Serving 01903f4, intel/mxnet/mxnet.csv (MXNet, x86, us-west-2)"

SIZES_MB = (512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class LambdaRun:
    """One model at one memory size."""

    model: str
    memory_mb: int
    run_s: float
    run_error_s: float
    cold_total_s: float


RUNS = (
    LambdaRun("mobilenet", 512, 0.06419, 0.0052, 2.814),
    LambdaRun("mobilenet", 1024, 0.02893, 0.00251, 2.449),
    LambdaRun("mobilenet", 2048, 0.01448, 0.00124, 2.667),
    LambdaRun("mobilenet", 4096, 0.01298, 0.00091, 2.536),
    LambdaRun("mobilenet", 8192, 0.01163, 0.00059, 2.836),
    LambdaRun("mobilenet-v2", 512, 0.14675, 0.01283, 2.836),
    LambdaRun("mobilenet-v2", 1024, 0.08306, 0.00619, 2.821),
    LambdaRun("mobilenet-v2", 2048, 0.03754, 0.00386, 2.569),
    LambdaRun("mobilenet-v2", 4096, 0.02446, 0.00206, 2.543),
    LambdaRun("mobilenet-v2", 8192, 0.02025, 0.00092, 2.674),
    LambdaRun("resnet50", 512, 0.17316, 0.00693, 4.436),
    LambdaRun("resnet50", 1024, 0.08923, 0.00413, 3.741),
    LambdaRun("resnet50", 2048, 0.04626, 0.00355, 3.655),
    LambdaRun("resnet50", 4096, 0.03678, 0.00257, 3.42),
    LambdaRun("resnet50", 8192, 0.0247, 0.00164, 3.424),
    LambdaRun("inception-v3", 512, 0.1799, 0.01142, 4.133),
    LambdaRun("inception-v3", 1024, 0.09088, 0.00651, 3.888),
    LambdaRun("inception-v3", 2048, 0.05098, 0.00367, 3.916),
    LambdaRun("inception-v3", 4096, 0.03217, 0.00252, 3.531),
    LambdaRun("inception-v3", 8192, 0.02713, 0.00247, 3.624),
    LambdaRun("alexnet", 1024, 0.08268, 0.00224, 5.292),
    LambdaRun("alexnet", 2048, 0.04356, 0.00131, 5.308),
    LambdaRun("alexnet", 4096, 0.03524, 0.00143, 5.906),
    LambdaRun("alexnet", 8192, 0.01407, 0.00085, 5.135),
    LambdaRun("vgg16", 2048, 0.30137, 0.02163, 8.336),
    LambdaRun("vgg16", 4096, 0.2936, 0.02199, 8.517),
    LambdaRun("vgg16", 8192, 0.14399, 0.01115, 7.995),
    LambdaRun("vgg19", 2048, 0.37703, 0.01987, 10.328),
    LambdaRun("vgg19", 4096, 0.35623, 0.01752, 8.511),
    LambdaRun("vgg19", 8192, 0.18302, 0.0096, 7.983),
)

RUNTIME_GB = 0.25
"""Memory that interpreter and framework take, assumed; see `footprint_gb`."""

COPIES_OF_WEIGHTS = 2.0
"""Weights are read whole before they are copied into the network."""


def footprint_gb(weights_gb: float) -> float:
    """Memory that a function needs for a model.

    `RUNTIME_GB` + `COPIES_OF_WEIGHTS` x weights, chosen to lie inside every bound that the source gives: ResNet-50
    (0.10 GB of weights), Inception v3 (0.10) and both MobileNets run in 0.5 GB; AlexNet (0.24) does not, but in 1 GB;
    VGG-16 (0.55) does not in 1 GB, but in 2 GB.

    Args:
        weights_gb: Size of the weights in 32-bit floats.
    """
    return RUNTIME_GB + COPIES_OF_WEIGHTS * weights_gb


def differ(model: str, one_mb: int, other_mb: int) -> bool:
    """Whether memory x run time of a model at two sizes differs by more than two standard errors.

    Raises:
        KeyError: The model was not measured at one of the sizes.
    """
    runs = {run.memory_mb: run for run in RUNS if run.model == model}
    one, other = runs[one_mb], runs[other_mb]
    gap = abs(one_mb * one.run_s - other_mb * other.run_s)
    return gap > 2.0 * math.hypot(one_mb * one.run_error_s, other_mb * other.run_error_s)
