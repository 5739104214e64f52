"""Starts the controller's actor on a cluster, and ends it."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import Any

import ray

from serving import ray_compat
from serving.app import ON_HEAD
from serving.controller_actor import ServingController
from serving.controller_spec import ControllerSpec
from serving.shell import CONTROLLER_NAME as NAME
from serving.shell import CONTROLLER_NAMESPACE as NAMESPACE


def start_controller(spec: ControllerSpec) -> Any:
    """Creates the detached actor and returns its handle.

    Raises:
        ValueError: A controller already runs on this cluster.
    """
    # Not as an argument: a large one lives with its creator, and without it the actor cannot be started anew.
    ray_compat.keep(spec.run, pickle.dumps(spec))
    control = spec.layout.control
    where = {"label_selector": dict(control)} if control else {"resources": ON_HEAD["resources"]}
    # One process of its own: a policy's imports and compilations never delay Serve's controller or a router.
    remote: Any = ray.remote(ServingController)
    handle: Any = remote.options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        **where,
        max_restarts=-1,
        max_concurrency=64,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **_passed_on()}},
    ).remote(spec.run)
    return handle


def kill_controller() -> None:
    """Ends the actor at once, where there is one."""
    with contextlib.suppress(Exception):
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))


def _passed_on() -> dict[str, str]:
    """Environment of the creator that decides where caches are."""
    return {name: os.environ[name] for name in ("PROVISOR_CACHE", "XDG_CACHE_HOME") if name in os.environ}
