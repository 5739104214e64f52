"""Node demand against Ray's own autoscaler, whose provider starts processes of this machine as nodes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.live.conftest import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

HERE = Path(__file__).resolve().parent
HEAD = "f" * 51 + "00000"  # what Ray's provider expects


def autoscaling(port):
    def type_of(most, **node):
        return {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": most, **node}

    return {
        "cluster_name": "provisor",
        "max_workers": 4,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            "ray.head.default": type_of(0, resources={"CPU": 0}),  # named so by the provider
            "spot": type_of(2, labels={"pool": "spot"}),
            "od": type_of(2, labels={"pool": "od"}),
        },
        "head_node_type": "ray.head.default",
        "docker": {},
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@pytest.fixture
def asks():
    """Sends one request for nodes and returns the pools of the nodes that come of it."""
    with tempfile.TemporaryDirectory(prefix="pvn-", dir="/tmp") as folder:
        port = free_port()
        config = Path(folder) / "autoscaling.json"
        config.write_text(json.dumps(autoscaling(port)))
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parents[1]),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        }
        bin_dir = Path(sys.executable).parent
        head = subprocess.Popen(
            [
                str(bin_dir / "ray"), "start", "--head", "--block", "--num-cpus=0", "--include-dashboard=false",
                "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}/ray",
                f"--autoscaling-config={config}", "--disable-usage-stats",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True,
        )  # fmt: skip
        script = None
        try:
            script = subprocess.Popen(
                [sys.executable, str(HERE / "autoscaled_nodes.py"), f"127.0.0.1:{port}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
                start_new_session=True,
            )  # fmt: skip

            def ask(*bundles):
                script.stdin.write(json.dumps(bundles) + "\n")
                script.stdin.flush()
                return json.loads(script.stdout.readline())

            assert json.loads(script.stdout.readline()) == {"has_autoscaler": True}
            yield ask
        finally:
            for process in (script, head):
                if process is not None:
                    for pipe in (process.stdin, process.stdout):
                        if pipe is not None:
                            pipe.close()
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def test_ray_brings_nodes_of_the_pools_asked_for_and_lets_them_go(asks):
    replica = {"CPU": 2.0}
    assert asks([replica, {"pool": "spot"}], [replica, {"pool": "od"}]) == ["od", "spot"]
    assert asks([replica, {"pool": "od"}]) == ["od"]
    assert asks() == []
