"""A Ray to serve on: one started here, private to this process, or an existing one that is joined as a guest.

What is started here ends here: `close` leaves no process and no file behind, and a killed parent takes its Ray along
(the kernel ends the children). On an existing cluster only our own application and controller are ever removed; Serve
itself is stopped only if we started it. Nothing here calls `ray stop`, which would end every Ray on the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.errors import ClusterError, UsageError, mismatch
from serving.processes import child_processes

_log = logging.getLogger("provisor.cluster")

HOST = "127.0.0.1"

_CONNECT_TIMEOUT_S = 3.0
_END_TIMEOUT_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_VERSION_TIMEOUT_S = 30.0  # importing Ray is some seconds of it, and a head may be starting
_OBJECT_STORE_BYTES = 150 << 20
_SOCKET_ROOT = Path("/tmp")
_START_ATTEMPTS = 3  # Ray waits 30 s for its first node, which no setting changes; a busy machine may miss that
_OWN_ENVIRONMENT = {
    # A private Ray on loopback needs no token, and a stale token of another one would lock us out.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    # A proxy that dies is back in some 6 s; by default it takes 27 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}

_WATCHED_NODES = {
    # A node that freezes is given up after three checks without an answer: 2.7 s at the most. Ray's own default is some
    # 15 s. One missed check is no sign of anything where many processes share two cores.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_timeout_ms": "600",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Cluster:
    """A joined Ray with Serve running on it."""

    host: str
    port: int
    is_own: bool
    owns_serve: bool
    folder: Path | None = None
    before: frozenset[int] = frozenset()  # processes below this one that are none of the cluster's
    _closed: bool = field(init=False, default=False)

    @property
    def url(self) -> str:
        """Where the application answers, without a trailing slash."""
        return f"http://{self.host}:{self.port}{self.route_prefix.rstrip('/')}"

    @property
    def route_prefix(self) -> str:
        """`/` on our own Serve; on another's, a prefix that takes no route away from it."""
        return "/" if self.owns_serve else "/provisor"

    def close(self, app: str) -> None:
        """Removes our application and controller, and what was started here; may be called twice."""
        if self._closed:
            return
        self._closed = True
        from ray import serve

        from serving.shell import CONTROLLER_NAME as NAME
        from serving.shell import CONTROLLER_NAMESPACE as NAMESPACE

        shutdown_serve: Any = serve.shutdown

        ray: Any = importlib.import_module("ray")  # its end calls are untyped

        # What is ours alone ends with its Ray; taking it apart first would only take longer, and could block.
        if ray.is_initialized() and not self.is_own:
            with contextlib.suppress(Exception):
                ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))
            with contextlib.suppress(Exception):
                serve.delete(app)
            if self.owns_serve:
                with contextlib.suppress(Exception):
                    shutdown_serve()
        ray.shutdown()
        if self.is_own:
            _end_children(self.before)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def require_free_port(port: int, option: str) -> None:
    """Refuses a port that something listens on.

    Raises:
        UsageError: Naming the option and the port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(f"{option}: expected a free port, got {port} ({error.strerror or error})") from error


def start_cluster(slots: Mapping[str, float], port: int, *, has_local_nodes: bool = False) -> Cluster:
    """Starts a private Ray with Serve on loopback.

    Args:
        slots: Custom resources that replicas take; with local nodes, the nodes offer them.
        port: For HTTP.
        has_local_nodes: More nodes will join; their loss is to be noticed soon.

    Raises:
        UsageError: The port is taken.
        ClusterError: Ray does not start.
    """
    require_free_port(port, "--port")
    os.environ.update(_OWN_ENVIRONMENT | (_WATCHED_NODES if has_local_nodes else {}))
    # Read by Ray when it is imported, so set before.
    from ray import serve

    from serving import ray_compat

    ray_compat.check_version()
    _adopt_orphans()
    cluster = _start_ray({} if has_local_nodes else slots, port)
    try:
        quiet_ray()
        serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": port})
    except Exception as error:
        cluster.close("")
        raise _no_start(error) from error
    except BaseException:
        cluster.close("")
        raise
    return cluster


def _start_ray(slots: Mapping[str, float], port: int) -> Cluster:
    """Starts Ray alone, anew where it fails: what a failed start leaves behind is removed before the next."""
    import ray

    for attempt in range(1, _START_ATTEMPTS + 1):
        folder = Path(tempfile.mkdtemp(prefix="pv-", dir=_SOCKET_ROOT))
        before = frozenset(child_processes())
        cluster = Cluster(HOST, port, is_own=True, owns_serve=True, folder=folder, before=before)
        try:
            ray.init(
                address="local",
                num_cpus=2,
                resources=dict(slots),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=_OBJECT_STORE_BYTES,
                namespace="provisor",
                _temp_dir=str(folder),
            )
        except Exception as error:
            cluster.close("")
            _forget_processes(error)
            if attempt == _START_ATTEMPTS:
                raise _no_start(error) from error
            _log.warning("%s; trying again (%d of %d)", _no_start(error), attempt + 1, _START_ATTEMPTS)
        except BaseException:
            cluster.close("")
            raise
        else:
            return cluster
    raise AssertionError("the last attempt returns or raises")


def _no_start(error: Exception) -> ClusterError:
    return ClusterError(f"Ray did not start: {type(error).__name__}: {error}"[:600])


def _forget_processes(error: Exception) -> None:
    """Drops Ray's handles of processes that `Cluster.close` has ended, which would tell that they still run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        traceback.clear_frames(error.__traceback__)
        gc.collect()


def join_cluster(
    address: str, slots: Mapping[str, float], port: int, code: list[str], *, starts_serve: bool = True
) -> Cluster:
    """Joins a running cluster, after comparing versions, and starts Serve on it where none runs.

    Args:
        address: `host:port` of its head.
        slots: Custom resources that its nodes must offer.
        port: For HTTP, where Serve does not run yet.
        code: Directories of the packages that are shipped to its workers.
        starts_serve: Whether Serve is started where none runs; an application to attach to needs one that does.

    Raises:
        ClusterError: Unreachable, other versions, or a resource is missing; what to do is said.
    """
    require_joinable(address)
    from ray import serve

    from serving import ray_compat

    ray: Any = importlib.import_module("ray")
    try:
        ray.init(
            address=address,
            namespace="provisor",
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"py_modules": code},
        )
    except Exception as error:
        raise ClusterError(f"--address {address}: cannot be joined: {type(error).__name__}: {error}"[:600]) from error
    try:
        quiet_ray()
        offered = ray.cluster_resources()
        missing = [name for name in slots if offered.get(name, 0) < 1]
        if missing:
            wanted = ", ".join(f'"{name}": {int(slots[name])}' for name in missing)
            raise ClusterError(
                f"--address {address}: expected nodes that offer {', '.join(missing)}; "
                f"start them with: ray start --address={address} --resources='{{{wanted}}}'"
            )
        details = ray_compat.instance_details()
        if details is None and not starts_serve:
            raise ClusterError(f"--address {address}: expected Ray Serve to run there, got a Ray without it")
        if details is None:
            require_free_port(port, "--port")
            serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": port})
            return Cluster(HOST, port, is_own=False, owns_serve=True)
        if "provisor" in details.get("applications", {}):
            raise ClusterError(f"--address {address}: expected no application named provisor, got one that runs")
        found = ray_compat.http_address(details) or (HOST, port)
        return Cluster(found[0], found[1], is_own=False, owns_serve=False)
    except BaseException:
        ray.shutdown()
        raise


def own_code() -> list[str]:
    """Directories of the packages a remote worker needs: decisions, serving and the world model, no experiments."""
    root = Path(__file__).resolve().parents[1]
    return [str(root / name) for name in ("controller", "serving", "envs", "traces")]


def node_loss_text() -> str:
    """What to expect of a joined cluster when a node is lost without notice."""
    from serving import ray_compat

    dies_s, hangs_s = ray_compat.node_loss_s()
    return (
        f"a node lost without notice counts as gone after up to {dies_s:g} s if it dies and {hangs_s:g} s if it hangs, "
        "unless this cluster's head was started with other RAY_health_check_* settings, which cannot be seen from here"
    )


def require_joinable(address: str) -> None:
    """Refuses a cluster that cannot be reached or runs other versions of Ray or Python than this process.

    Args:
        address: `host:port` of its head.

    Raises:
        UsageError: The address has another form.
        ClusterError: Unreachable, or other versions; both are named.
    """
    _require_reachable(address)
    from serving import ray_compat

    ray_compat.check_version()
    _require_versions(address, _versions_within(address))


def _require_reachable(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise UsageError(mismatch("--address", "host:port of a Ray head (such as 127.0.0.1:6379)", address))
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S):
            pass
    except (OSError, OverflowError) as error:
        raise ClusterError(f"--address {address}: expected a running Ray head, got: {error}") from error


def _versions_within(address: str) -> dict[str, str]:
    """The cluster's versions; empty where nothing answers as a Ray head in time."""
    words = [sys.executable, "-P", "-m", "serving.version_probe", address]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, _import_roots()))}
    with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
        done = subprocess.run(
            words, env=environment, timeout=_VERSION_TIMEOUT_S, capture_output=True, text=True, check=False
        )
        found: dict[str, str] = json.loads(done.stdout)
        return found
    return {}


def _import_roots() -> list[Path]:
    """Where this process finds our packages, before what else is on its path."""
    own = Path(__file__).resolve().parents[1]
    return [own, *(Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)]


def _require_versions(address: str, cluster: Mapping[str, str]) -> None:
    import ray

    own = {"ray": ray.__version__, "python": platform.python_version()}
    if not cluster.get("ray"):
        raise ClusterError(f"--address {address}: expected a Ray head, got something that does not answer as one")
    for name, number in own.items():
        if cluster[name] != number:
            raise ClusterError(f"--address {address}: expected {name} {number} (as here), got {cluster[name]}")


def quiet_ray() -> None:
    """Ray's loggers print progress to the terminal, where our own lines and tables are read."""
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _adopt_orphans() -> None:
    """Makes this process the parent of processes whose parent dies, so that none of Ray's gets out of sight (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_children(before: frozenset[int]) -> None:
    """Waits until every process that was started since `before` is gone, and kills what does not go by itself."""
    end_s = time.monotonic() + _END_TIMEOUT_S
    while (left := child_processes() - before) and time.monotonic() < end_s:
        time.sleep(0.05)
    while left:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        left = child_processes() - before
