"""Money: what an instance and a serverless call cost. One source for both worlds; the kernels compile these functions.

A replica is billed per second from launch until its instance is released: at least the pool's minimum, plus the
release lag (the time until the provider or the node owner really stops the clock). A serverless call is billed by
memory x duration, rounded up, plus a fee.
"""

from __future__ import annotations

import math


def release_charge_s(alive_s: float, min_billing_s: float, release_lag_s: float) -> float:
    """Seconds billed at the release of an instance on top of the seconds it was alive.

    Args:
        alive_s: Seconds since its launch.
        min_billing_s: Least seconds billed per launch.
        release_lag_s: Seconds the clock runs on after the last use.
    """
    return max(min_billing_s - alive_s, release_lag_s, 0.0)


def serverless_usd(
    duration_s: float, step_s: float, memory_gb: float, usd_per_gb_s: float, usd_per_request: float
) -> float:
    """Charge of one serverless call: duration rounded up to `step_s`, times memory and rate, plus the request fee."""
    billed_s = math.ceil(duration_s / step_s - 1e-9) * step_s
    return billed_s * memory_gb * usd_per_gb_s + usd_per_request
