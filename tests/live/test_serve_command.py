"""`provisor serve` as a user runs it: in a process of its own, ended by signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from controller.errors import ClusterError
from controller.journal import Journal
from controller.replay import replay_journal
from serving.admin_access import find_client
from serving.processes import child_processes, command_line
from tests.live.conftest import free_port
from traces.readers import read_trace

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]


def start(*arguments):
    """Starts the command in a session of its own, so that every process it starts can be found."""
    words = [sys.executable, "-c", "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))", "serve"]
    return subprocess.Popen(
        [*words, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_AUTH_MODE": ""},
    )


def processes_of_session(session):
    """Ids of all processes of a session, zombies left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_replayed_minutes_are_journalled_and_compared_and_nothing_is_left(tmp_path):
    out = tmp_path / "run"
    command = start(
        *("--scenario", "demo", "--policy", "mpc", "--replay", "scenario", "--duration", 10, "--speed", 20),
        *("--start-hour", 9, "--port", free_port(), "--out", out),
    )
    output, _ = command.communicate(timeout=200)
    assert command.returncode == 0, output
    rows = json.loads((out / "results.json").read_text())
    assert [row["policy"] for row in rows] == ["mpc (live)", "mpc (simulated)"]
    # The same requests in both worlds, but for those on the edge of the last tick.
    assert rows[0]["requests"] == pytest.approx(rows[1]["requests"], abs=5)
    assert rows[0]["requests"] > 50
    # A run that serves nothing misses all; how many a slow machine answers in time is not for a test to say.
    assert rows[0]["attainment"] > 0.4
    assert replay_journal(out / "journal.jsonl").is_equal
    journal = Journal(out / "journal.jsonl")
    ticks = len(list(journal.ticks()))
    assert [event.fields["tick"] for event in journal.events("receipt")] == list(range(ticks))
    # Each is predicted, or said not to be; one may still be in work when the run ends.
    predicted = {event.fields["tick"] for event in journal.events("prediction")}
    assert len(predicted) >= ticks - 1
    # The last bin is still open when the router is read for the last time.
    arrived = read_trace(out / "arrivals.npz").counts.sum()
    assert arrived == pytest.approx(rows[0]["requests"], abs=5)
    assert processes_of_session(command.pid) == []


def test_sigterm_drains_and_leaves_no_process_behind(tmp_path):
    port = free_port()
    command = start(
        "--scenario", "demo", "--policy", "static", "--port", port, "--speed", 20, "--dry-run", "--out", tmp_path
    )
    try:
        wait_until_it_answers(port, command)
        wait_until(lambda: (tmp_path / "journal.jsonl").read_text().count('{"n":') >= 3)
        command.send_signal(signal.SIGTERM)
        output, _ = command.communicate(timeout=60)
    finally:
        end(command)
    assert command.returncode == 130, output
    assert "draining" in output
    assert "Traceback" not in output
    assert processes_of_session(command.pid) == []
    # Nothing was applied, everything was journalled.
    ticks = list(Journal(tmp_path / "journal.jsonl").ticks())
    assert len(ticks) >= 2
    assert len({tuple(t.observation.ready.reshape(-1)) for t in ticks}) == 1


def test_operator_changes_mode_and_policy_while_it_serves_and_all_of_it_replays(tmp_path):
    pushed = tmp_path / "three.yaml"
    pushed.write_text("kind: static\nsettings:\n  replicas: {digits-medium@c5-large: 3}\n")
    out = tmp_path / "run"
    command = start("--policy", "mpc", "--port", free_port(), "--speed", 20, "--mode", "shadow", "--out", out)
    try:
        wait_until(lambda: (out / "admin.json").exists() or command.poll() is not None, 150)
        assert command.poll() is None, command.communicate()[0]
        ask = find_client(out, None, None)

        def drives(driver):
            wait_until(lambda: ask.get("/v1/mode")["driver"] == driver)

        wait_until(lambda: ask.get("/v1/status")["ticks"] > 0)  # before its first tick, too, it says "rule"
        drives("rule")
        assert ask.send("PUT", "/v1/mode", {"mode": "canary"})["mode"] == "canary"
        drives("canary")
        ask.send("PUT", "/v1/mode", {"mode": "active"})
        drives("policy")
        assert ask.push(pushed.name, pushed.read_bytes())["current"]["name"] == "three"
        wait_until(lambda: ask.get("/v1/status")["serving"].get("digits-medium@c5-large") == 3)
        kill_controller_of(command)
        wait_until(lambda: asked(ask).get("restarts") == 1)
        assert (ask.get("/v1/mode")["mode"], ask.get("/v1/policy")["current"]["name"]) == ("active", "three")
        assert ask.send("POST", "/v1/policy/rollback", {})["current"]["name"] == "mpc"
        begun = ask.get("/v1/status")["ticks"]
        wait_until(lambda: ask.get("/v1/status")["ticks"] > begun + 10)  # the run has found its controller again
        kill_controller_of(command)
        command.send_signal(signal.SIGTERM)  # it is still away
        output, _ = command.communicate(timeout=120)
    finally:
        end(command)
    assert command.returncode == 130, output
    assert "mode shadow: asked for" in output
    assert ask.token not in output + (out / "journal.jsonl").read_text() + (out / "run.json").read_text()
    again = replay_journal(out / "journal.jsonl")
    assert [str(difference) for difference in again.differences] == []
    assert set(again.by_driver) == {"rule", "canary", "policy"}
    assert json.loads((out / "trust.json").read_text())["mode"] == "active"
    assert processes_of_session(command.pid) == []


def kill_controller_of(command):
    (actor,) = [pid for pid in child_processes(command.pid) if "ServingController" in command_line(pid)[0]]
    os.kill(actor, signal.SIGKILL)


def asked(client):
    """The status; nothing while the controller is away."""
    try:
        return client.get("/v1/status")
    except ClusterError:
        return {}


def end(command):
    """Kills a command that runs on and reads what it printed, so that nothing of it outlives the test that failed."""
    if command.poll() is None:
        os.killpg(command.pid, signal.SIGKILL)
        print(command.communicate()[0])


def wait_until(condition, timeout_s=120):
    # A new process of an actor takes some ten seconds to import what it needs, several times that on a busy machine.
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def wait_until_it_answers(port, command):
    end_s = time.monotonic() + 150
    while time.monotonic() < end_s and command.poll() is None:
        try:
            body = {"input": [0] * 64, "request_class": "relaxed"}
            response = httpx.post(f"http://127.0.0.1:{port}/v1/infer", json=body, timeout=15)
        except httpx.HTTPError:
            time.sleep(0.5)
            continue
        if response.status_code == 200:
            return
        time.sleep(0.5)
    output = command.communicate(timeout=30)[0] if command.poll() is not None else "it runs on"
    pytest.fail(f"no answer: {output}")
