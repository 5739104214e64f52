"""A cluster of somebody else's, joined to read it: versions compared first, nothing of it started or ended."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from controller.errors import ClusterError
from serving.survey import Survey


@contextmanager
def joined(address: str) -> Iterator[Survey]:
    """Joins a cluster for as long as the block lasts.

    Args:
        address: `host:port` of its head.

    Raises:
        ClusterError: Unreachable, other versions, or Serve does not run there.
    """
    from serving import cluster as clusters

    clusters.join_cluster(address, {}, 0, [], starts_serve=False)
    ray: Any = importlib.import_module("ray")  # its end calls are untyped
    try:
        yield read_survey()
    finally:
        ray.shutdown()


def read_survey() -> Survey:
    """Survey of the cluster that this process has joined.

    Raises:
        ClusterError: Serve does not run there.
    """
    from serving import ray_compat
    from serving.survey import survey_of

    details = ray_compat.instance_details()
    if details is None:
        raise ClusterError("expected Ray Serve to run on the cluster, got a Ray without it")
    ray: Any = importlib.import_module("ray")  # its list of nodes is untyped
    return survey_of(details, ray.nodes())
