"""Fan-out over a Ray that somebody else started gives what one process gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from controller.errors import RunError
from experiments.day_outcome import DayJob, run_day
from experiments.fanout import in_order, open_workers
from experiments.world_ref import named_days

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

# A Ray of a process of its own, which says where it is and ends with its standard input.
HEAD = """
import sys, patience, ray
found = patience.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
                      object_store_memory=100 << 20)
print("at", found.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def address():
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": paths}
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    line = ""
    while not line.startswith("at "):
        line = head.stdout.readline()
        assert line, "Ray did not start"
    yield line.split()[1]
    head.communicate(timeout=60)


def test_cluster_gives_the_results_of_one_process(address, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with open_workers(None, address) as cluster:
        assert cluster.count == 2
        assert in_order(cluster.run(int.bit_count, range(9))) == [0, 1, 1, 2, 1, 2, 2, 3, 1]
        with pytest.raises(RunError, match="while working on 0"):
            in_order(cluster.run((1).__floordiv__, [1, 0]))


@pytest.mark.timeout(900)  # may be the first to compile the kernels
def test_day_on_a_cluster_is_the_day_of_this_process(address, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    np.savetxt(tmp_path / "flat.txt", np.full(1200, 10), fmt="%d")
    ref = named_days(["tiny"], [str(tmp_path / "flat.txt")], (1, 1))[0]
    jobs = [DayJob("mpc", {"headroom": headroom}, ref) for headroom in (1.0, 1.5, 99.0)]
    with open_workers(2, address) as cluster:
        found = in_order(cluster.run(run_day, jobs))
    for here, there in zip(map(run_day, jobs), found, strict=True):
        assert here.failure == there.failure
        if here.outcome is not None:
            assert there.outcome.cost_usd.tolist() == here.outcome.cost_usd.tolist()
            assert there.outcome.missed.tolist() == here.outcome.missed.tolist()
    assert [bool(one.failure) for one in found] == [False, False, True]
