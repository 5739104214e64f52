"""Workers on a Ray cluster that others started: joined as a guest, our packages shipped, versions compared first."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from controller.config import versions
from controller.errors import ClusterError
from controller.identity import OWN_PACKAGES
from envs.world import DATA_VARIABLE
from experiments.worker import AHEAD, Attempt, Workers, attempt, take_one_core, unwrapped

_ANSWER_S = 120.0  # the first task of a node unpacks our code and imports numpy
_COMPARED = ("numba", "numpy", "scipy", "torch")
"""Packages whose version can change what a worker computes; Ray and Python are compared before joining."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class _RayWorkers:
    """Tasks of one core each."""

    def __init__(self, ray: Any, count: int) -> None:
        self.count = count
        self._ray = ray

    def run(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[tuple[int, ResultT]]:
        """Results as they come; see `Workers`."""
        task = self._ray.remote(_task).options(num_cpus=1)
        data = os.environ.get(DATA_VARIABLE)
        waiting = enumerate(items)
        begun: dict[Any, tuple[int, ItemT]] = {}
        try:
            while True:
                while len(begun) < AHEAD * self.count and (one := next(waiting, None)) is not None:
                    begun[task.remote(data, function, one[1])] = one
                if not begun:
                    return
                done, _ = self._ray.wait(list(begun), num_returns=1)
                for reference in done:
                    index, item = begun.pop(reference)
                    yield index, unwrapped(self._got(reference), item)
        finally:
            for reference in begun:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)

    def _got(self, reference: Any) -> Attempt[Any]:
        try:
            tried: Attempt[Any] = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Attempt(None, f"the cluster lost the task: {type(error).__name__}: {error}"[:600], ClusterError)
        return tried


@contextlib.contextmanager
def open_ray_workers(address: str, workers: int | None) -> Iterator[Workers]:
    """Joins a cluster for the length of a `with`.

    Args:
        address: `host:port` of its head.
        workers: Tasks at a time; None: one per core of the cluster.

    Raises:
        UsageError: The address has another form.
        ClusterError: It cannot be joined, has no core, or a node has other versions of what computes.
    """
    from serving.cluster import quiet_ray, require_joinable

    require_joinable(address)
    ray: Any = importlib.import_module("ray")
    try:
        ray.init(
            address=address,
            namespace="provisor",
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"py_modules": shipped_code()},
        )
    except Exception as error:
        raise ClusterError(f"--address {address}: cannot be joined: {type(error).__name__}: {error}"[:600]) from error
    try:
        quiet_ray()
        offered = int(ray.cluster_resources().get("CPU", 0))
        if offered < 1:
            raise ClusterError(f"--address {address}: expected nodes with at least one core, got none")
        for node, found in _versions_of_nodes(ray, address).items():
            require_equal_versions(versions(), found, f"--address {address}: node {node}")
        yield _RayWorkers(ray, workers or offered)
    finally:
        ray.shutdown()  # ends our tasks, and nothing else


def shipped_code() -> list[str]:
    """Directories of our packages; a worker runs this very code, whatever is installed on its node."""
    root = Path(__file__).resolve().parents[1]
    return [str(root / name) for name in OWN_PACKAGES]


def require_equal_versions(own: Mapping[str, str | None], found: Mapping[str, str | None], where: str) -> None:
    """Refuses a node on which a package has another version than here, since its results could differ.

    Raises:
        ClusterError: Naming the node, the package and both versions.
    """
    for name in _COMPARED:
        if own.get(name) != found.get(name):
            raise ClusterError(
                f"{where}: expected {name} {own.get(name) or 'not installed'} (as here), "
                f"got {found.get(name) or 'not installed'}"
            )


def _versions_of_nodes(ray: Any, address: str) -> dict[str, dict[str, str | None]]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(versions)
    nodes = [node for node in ray.nodes() if node["Alive"] and node.get("Resources", {}).get("CPU", 0) >= 1]
    asked = {
        node["NodeManagerAddress"]: ask.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    }
    try:
        return dict(zip(asked, ray.get(list(asked.values()), timeout=_ANSWER_S), strict=True))
    except Exception as error:
        raise ClusterError(
            f"--address {address}: its nodes do not run our code: {type(error).__name__}: {error}"[:600]
        ) from error


def _task(data: str | None, function: Callable[[ItemT], ResultT], item: ItemT) -> Attempt[ResultT]:
    """One item on a node; where the public traces lie is the node's own knowledge, or as here."""
    take_one_core()
    if data is not None:
        os.environ.setdefault(DATA_VARIABLE, data)
    return attempt(function, item)
