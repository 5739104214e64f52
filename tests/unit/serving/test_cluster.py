import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from controller.errors import ClusterError, UsageError
from serving import cluster as clusters
from serving import version_probe


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_port_in_use_is_named(listener):
    port = listener.getsockname()[1]
    with pytest.raises(UsageError, match=f"--port: expected a free port, got {port}"):
        clusters.require_free_port(port, "--port")


def test_free_port_is_accepted(listener):
    port = listener.getsockname()[1]
    listener.close()
    clusters.require_free_port(port, "--port")


def test_address_where_nothing_listens_is_refused_at_once(listener):
    port = listener.getsockname()[1]
    listener.close()
    began_s = time.monotonic()
    with pytest.raises(ClusterError, match=f"--address 127.0.0.1:{port}: expected a running Ray head"):
        clusters.join_cluster(f"127.0.0.1:{port}", {}, 8000, [])
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("address", ["nowhere", "host:", ":6379", "host:x", "ray://"])
def test_address_of_another_form_is_refused(address):
    with pytest.raises(UsageError, match="--address: expected host:port"):
        clusters.join_cluster(address, {}, 8000, [])


class SlowRay:
    """In place of `ray.init`: fails some times, each time with a process left behind, as Ray does on a busy machine."""

    def __init__(self, failures):
        self.failures = failures
        self.folders = []

    def __call__(self, *, _temp_dir, **_options):
        self.folders.append(Path(_temp_dir))
        assert self.folders[-1].is_dir()
        if len(self.folders) <= self.failures:
            holder = {"raylet": subprocess.Popen(["sleep", "600"])}
            holder["itself"] = holder  # as Ray's node: only a collection drops it
            raise Exception("The current node timed out during startup.")


@pytest.fixture
def slow_ray(monkeypatch):
    def put(failures):
        monkeypatch.setattr(clusters, "_END_TIMEOUT_S", 0.0)
        monkeypatch.setattr("ray.serve.start", lambda **_options: None)
        monkeypatch.setattr("ray.init", init := SlowRay(failures))
        return init

    return put


def test_ray_that_does_not_come_up_in_time_is_started_anew(slow_ray, caplog):
    init = slow_ray(2)
    before = clusters.child_processes()
    cluster = clusters.start_cluster({"slot": 1.0}, 0)
    assert [folder.exists() for folder in init.folders] == [False, False, True]
    assert clusters.child_processes() == before
    assert [line.rpartition("; ")[2] for line in caplog.messages] == ["trying again (2 of 3)", "trying again (3 of 3)"]
    cluster.close("")
    assert not init.folders[-1].exists()


def test_ray_that_never_comes_up_is_said_and_leaves_nothing(slow_ray):
    init = slow_ray(9)
    before = clusters.child_processes()
    with pytest.raises(ClusterError, match="Ray did not start: Exception: The current node timed out"):
        clusters.start_cluster({}, 0)
    assert [folder.exists() for folder in init.folders] == [False] * 3
    assert clusters.child_processes() == before


def test_something_that_is_no_ray_is_refused_within_seconds(listener, monkeypatch):
    monkeypatch.setattr(clusters, "_VERSION_TIMEOUT_S", 0.5)
    before = clusters.child_processes()
    stop = threading.Event()

    def hang_up():
        while not stop.is_set():
            try:
                listener.accept()[0].close()
            except OSError:
                return

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        with pytest.raises(ClusterError, match="does not answer as one"):
            clusters.join_cluster(f"127.0.0.1:{listener.getsockname()[1]}", {}, 8000, [])
        assert clusters.child_processes() == before
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_head_that_starts_is_asked_until_it_tells_its_versions(monkeypatch):
    told = [None, None, b'{"ray_version": "2.60.0", "python_version": "3.11.7"}']

    class Store:
        def __init__(self, address):
            assert address == "127.0.0.1:6379"

        def internal_kv_get(self, key, namespace):
            return told.pop(0)

    monkeypatch.setattr("ray._raylet.GcsClient", Store)
    monkeypatch.setattr(version_probe, "_STEP_S", 0.0)
    assert version_probe.settled_versions("127.0.0.1:6379") == {"ray": "2.60.0", "python": "3.11.7"}
    assert told == []


@pytest.mark.parametrize(("name", "number"), [("ray", "2.51.0"), ("python", "3.9.1")])
def test_cluster_of_another_version_is_refused(name, number):
    import platform

    import ray

    versions = {"ray": ray.__version__, "python": platform.python_version(), name: number}
    with pytest.raises(ClusterError, match=f"expected {name} .* got {number}"):
        clusters._require_versions("h:1", versions)


def test_world_model_of_live_runs_is_shipped_with_all_that_it_imports():
    from experiments.live import WORLD_MODEL

    shipped = {Path(folder).name for folder in clusters.own_code()}
    assert WORLD_MODEL.partition(".")[0] in shipped
    # What the simulator imports of ours is what `tests/test_architecture.py` allows it to.
    assert {"controller", "envs", "traces", "serving"} == shipped
