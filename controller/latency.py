"""Log buckets for latencies: where a latency is counted, and which latency a histogram's quantile is.

Bucket k covers 2**(k // 8 - 10) * (1 + k % 8 / 8) seconds up to the next bucket's begin: eight linear steps per octave,
so a quantile is known within an eighth of its value. The first bucket also takes what is shorter, the last what is
longer.
The simulator's kernels compile `bucket_of` from this source; routers and reports run it as it stands.
"""

from __future__ import annotations

import math

import numpy as np

from controller.arrays import F64, I64, LATENCY_BUCKETS

STEPS_PER_OCTAVE = 8
FIRST_OCTAVE = -10
SHORTEST_S = 2.0**FIRST_OCTAVE
LONGEST_S = 2.0 ** (FIRST_OCTAVE + LATENCY_BUCKETS // STEPS_PER_OCTAVE)


def bucket_of(latency_s: float) -> int:
    """Bucket that counts a latency (seconds; not NaN), 0 up to `LATENCY_BUCKETS` - 1."""
    if latency_s < SHORTEST_S:
        return 0
    if latency_s >= LONGEST_S:
        return LATENCY_BUCKETS - 1
    mantissa, exponent = math.frexp(latency_s)  # latency_s = mantissa * 2**exponent, mantissa in [0.5, 1)
    return (exponent - 1 - FIRST_OCTAVE) * STEPS_PER_OCTAVE + int((2.0 * mantissa - 1.0) * STEPS_PER_OCTAVE)


def bucket_edges() -> F64:
    """Begins of all buckets and the end of the last, seconds, shape (`LATENCY_BUCKETS` + 1,)."""
    k = np.arange(LATENCY_BUCKETS + 1)
    return np.asarray(2.0 ** (k // STEPS_PER_OCTAVE + FIRST_OCTAVE) * (1.0 + k % STEPS_PER_OCTAVE / STEPS_PER_OCTAVE))


def quantile(histogram: I64, probability: float) -> float:
    """Latency at or below which a share `probability` of the counted answers lies, linear inside a bucket.

    Args:
        histogram: Counts by bucket, shape (`LATENCY_BUCKETS`,).
        probability: In (0, 1].

    Returns:
        Seconds; NaN for an empty histogram.
    """
    total = int(histogram.sum())
    if total == 0:
        return math.nan
    rank = probability * total
    before = 0.0
    edges = bucket_edges()
    for k in np.flatnonzero(histogram):
        count = float(histogram[k])
        if before + count >= rank:
            return float(edges[k] + (edges[k + 1] - edges[k]) * (rank - before) / count)
        before += count
    return float(edges[np.flatnonzero(histogram)[-1] + 1])
