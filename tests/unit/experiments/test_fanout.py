"""Workers change who computes a result and never the result; whatever happens, none of them stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import ClusterError, ConfigError, RunError, UsageError
from experiments.fanout import in_order, open_workers
from experiments.ray_workers import require_equal_versions, shipped_code
from experiments.worker import Workers
from tests import fanout_jobs

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    """Two processes, started once for the tests that leave them alive."""
    with open_workers(2) as workers:
        yield workers


def test_results_in_order_are_those_of_one_process(pair: Workers) -> None:
    numbers = list(range(7))
    with open_workers(1) as one:
        assert one.count == 1
        assert in_order(one.run(fanout_jobs.square, numbers)) == [0, 1, 4, 9, 16, 25, 36]
    assert in_order(pair.run(fanout_jobs.square, numbers)) == [0, 1, 4, 9, 16, 25, 36]


def test_no_items_give_no_results(pair: Workers) -> None:
    assert in_order(pair.run(fanout_jobs.square, [])) == []


def test_workers_are_other_processes_with_one_thread_each(pair: Workers) -> None:
    found = in_order(pair.run(fanout_jobs.process_and_threads, range(4)))
    assert os.getpid() not in {process for process, _, _ in found}
    assert {rest for _, *rest in map(tuple, found) for rest in [tuple(rest)]} == {(1, "1")}


@pytest.mark.parametrize("count", [1, 2])
def test_error_of_an_item_keeps_its_kind_and_names_the_item(pair: Workers, count: int) -> None:
    with open_workers(1) as one:
        workers = one if count == 1 else pair
        with pytest.raises(ConfigError, match="expected another one, got 3\nwhile working on 3"):
            in_order(workers.run(fanout_jobs.refuse_three, [1, 2, 3]))


def test_error_that_cannot_travel_arrives_as_text(pair: Workers) -> None:
    with pytest.raises(RunError, match="PickyError: 5: no\nwhile working on 5") as raised:
        in_order(pair.run(fanout_jobs.fail_pickily, [5]))
    assert "fail_pickily" in "".join(raised.value.__notes__)  # where it was raised, for --debug


def test_result_or_item_that_is_no_plain_data_is_named(pair: Workers) -> None:
    with pytest.raises(RunError, match="expected plain data in and out"):
        in_order(pair.run(fanout_jobs.make_lock, [1]))
    with pytest.raises(RunError, match="expected plain data in and out"):
        in_order(pair.run(fanout_jobs.square, [lambda: 1]))  # type: ignore[list-item]


def test_workers_serve_after_an_error(pair: Workers) -> None:
    with pytest.raises(ConfigError):
        in_order(pair.run(fanout_jobs.refuse_three, [3, 1, 2]))
    assert in_order(pair.run(fanout_jobs.square, [2])) == [4]


def test_worker_that_dies_is_an_error_that_names_the_item() -> None:
    with (
        pytest.raises(RunError, match="a worker process ended by itself .* while working on 1"),
        open_workers(2) as two,
    ):
        in_order(two.run(fanout_jobs.end_process, [1]))


@pytest.mark.parametrize("count", [0, -1])
def test_no_workers_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"--workers: expected a number >= 1, got {count}"), open_workers(count):
        pass


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--address: expected host:port"), open_workers(2, "nowhere"):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_parent_that_is_stopped_takes_its_workers_along(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from experiments.fanout import in_order, open_workers\n"
        "from tests.fanout_jobs import note_and_hang\n"
        "if __name__ == '__main__':\n"
        "    with open_workers(2) as workers:\n"
        f"        in_order(workers.run(note_and_hang, [{str(tmp_path)!r}] * 6))\n"
    )
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path.parent, env=environment) as parent:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        parent.send_signal(number)
        _, output = parent.communicate(timeout=20)
    if number == signal.SIGINT:
        assert output.rstrip().endswith("KeyboardInterrupt"), output
    wait_until(lambda: not any(is_alive(int(path.name)) for path in tmp_path.iterdir()))
    assert len(list(tmp_path.iterdir())) == 2, "what had not begun was begun after the stop"


def test_node_with_another_version_is_refused() -> None:
    own = {"numba": "1.0", "numpy": "2.0", "scipy": "3.0", "torch": None, "ray": "1"}
    require_equal_versions(own, {**own, "ray": "2"}, "node a")  # compared before joining
    with pytest.raises(ClusterError, match="node a: expected numpy 2.0 .as here., got 2.1"):
        require_equal_versions(own, {**own, "numpy": "2.1"}, "node a")
    with pytest.raises(ClusterError, match="node a: expected torch not installed .as here., got 5"):
        require_equal_versions(own, {**own, "torch": "5"}, "node a")


def test_every_package_of_ours_is_shipped() -> None:
    assert {Path(path).name for path in shipped_code()} == {"controller", "envs", "experiments", "serving", "traces"}
    assert all((Path(path) / "__init__.py").is_file() for path in shipped_code())


def is_alive(process: int) -> bool:
    try:
        state = (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition, timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)
