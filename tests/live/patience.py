"""Starting a Ray in a process of a test's own."""

import ray


def init(**options):
    """`ray.init`, anew where it fails: a first node has 30 s to come up, which a busy machine may miss."""
    for _ in range(2):
        try:
            return ray.init(**options)
        except Exception:  # noqa: BLE001 - Ray raises a plain one
            ray.shutdown()
    return ray.init(**options)
