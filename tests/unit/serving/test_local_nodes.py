"""An owner of local nodes starts one at a time, takes over what it finds, and reports what it lost; no process runs."""

import asyncio

import pytest

from serving import local_nodes
from serving.local_nodes import MARK_LABEL, LocalNodes
from serving.nodes import POOL_LABEL


class Machine:
    """Processes by id with their words, and what Ray says of its nodes."""

    def __init__(self, monkeypatch):
        self.words, self.children, self.nodes, self.killed = {}, {}, [], []
        monkeypatch.setattr("ray.nodes", lambda: self.nodes)  # first: importing Ray needs the real processes
        monkeypatch.setattr(local_nodes, "command_lines", lambda: list(self.words.items()))
        monkeypatch.setattr(local_nodes, "command_line", lambda pid: self.words.get(pid, []))
        monkeypatch.setattr(local_nodes, "child_processes", lambda root: self.children.get(root, set()))
        monkeypatch.setattr(local_nodes, "kill_tree", self.kill)
        monkeypatch.setattr(local_nodes.subprocess, "Popen", self.start)

    def start(self, words, **_):
        pid = 100 + len(self.words)
        self.words[pid] = words
        return type("Process", (), {"pid": pid, "poll": lambda _: None})()

    def kill(self, pid):
        self.killed.append(pid)
        self.words.pop(pid, None)

    def join(self, pid):
        """A node whose process runs becomes one of Ray's; returns its id."""
        (labels,) = [word.removeprefix("--labels=") for word in self.words[pid] if word.startswith("--labels=")]
        named = dict(label.split("=") for label in labels.split(","))
        self.nodes.append({"NodeID": f"n{pid}", "Alive": True, "Labels": named})
        return f"n{pid}"


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def owner(tmp_path):
    return LocalNodes("127.0.0.1:1", "run", tmp_path)


def follow(nodes, occupied=(), **wanted):
    return asyncio.run(nodes.follow(wanted, frozenset(occupied)))


def test_next_node_is_started_when_the_one_before_has_chosen_its_sockets(machine, tmp_path):
    nodes = owner(tmp_path)
    follow(nodes, spot=2, od=1)
    follow(nodes, spot=2, od=1)
    assert len(machine.words) == 1
    machine.children[100] = {900, 901}
    machine.words[900] = ["/ray/raylet", "--x"]  # 901 is gone already, and has no words
    follow(nodes, spot=2, od=1)
    assert len(machine.words) == 3
    assert f"{POOL_LABEL}=spot" in str(machine.words[102])


def test_owner_that_takes_over_starts_no_node_twice(machine, tmp_path):
    follow(owner(tmp_path), spot=1)
    machine.join(100)
    second = owner(tmp_path)
    report = follow(second, spot=1)
    assert report.alive == {"spot": frozenset({"n100"})}
    assert len(machine.words) == 1
    follow(owner(tmp_path), spot=1, od=0)
    assert len(machine.words) == 1


def test_node_that_is_coming_up_is_taken_over_too(machine, tmp_path):
    follow(owner(tmp_path), spot=1)
    follow(owner(tmp_path), spot=1)
    assert len(machine.words) == 1


def test_node_that_vanishes_is_lost_once_and_its_remains_are_ended(machine, tmp_path):
    nodes = owner(tmp_path)
    follow(nodes, spot=1)
    machine.join(100)
    follow(nodes, spot=1)
    machine.nodes.clear()
    assert follow(nodes, spot=0).lost == {"n100": "spot"}
    assert machine.killed == [100]
    assert follow(nodes, spot=0).lost == {}


def test_node_that_was_given_back_is_not_lost(machine, tmp_path):
    nodes = owner(tmp_path)
    follow(nodes, spot=1)
    machine.join(100)
    report = follow(nodes, spot=0)
    assert machine.killed == [100]
    assert report.alive == {"spot": frozenset()}
    machine.nodes.clear()
    assert follow(nodes, spot=0).lost == {}


def test_occupied_node_is_never_given_back(machine, tmp_path):
    nodes = owner(tmp_path)
    follow(nodes, spot=1)
    machine.join(100)
    follow(nodes, occupied=["n100"], spot=0)
    assert machine.killed == []


def test_process_that_ends_before_it_joins_is_a_failed_launch(machine, tmp_path, monkeypatch):
    nodes = owner(tmp_path)
    follow(nodes, spot=1)
    nodes._starting[next(iter(nodes._starting))].process.poll = lambda: 1
    assert follow(nodes, spot=0).failed == {"spot": 1}


def test_nodes_of_another_run_are_left_alone(machine, tmp_path):
    machine.words[7] = ["ray", "start", f"--labels={MARK_LABEL}=other.spot-0-abc"]
    nodes = owner(tmp_path)
    follow(nodes, spot=0)
    asyncio.run(nodes.close())
    assert machine.killed == []
