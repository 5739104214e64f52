"""`provisor serve --attach` in front of an application that another process deployed on a Ray of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import yaml

from controller.catalog import load_catalog
from controller.journal import Journal
from controller.replay import replay_journal
from serving.mapping import load_mapping
from tests.live.conftest import free_port
from tests.unit.serving import worlds

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]  # may be the first to compile the kernels

HERE = Path(__file__).resolve().parent
RUN = "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"
MAPPING = {
    "app": "theirs",
    "scenario": "scenario.yaml",
    "deployments": {
        "small": {"variant": "small", "pool": "od", "method": "predict", "input": "batch"},
        "large": {"variant": "large", "pool": "od"},
    },
    "pools": {"od": {"labels": {"market": "on-demand"}}},
    "control": {"market": "on-demand"},
}


class Foreign:
    """The other process."""

    def __init__(self, port, folder):
        root = str(HERE.parents[1])
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": root}
        self.said = []
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "foreign_cluster.py"), str(port), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.address = self.read()["address"]

    def read(self):
        while True:
            line = self.process.stdout.readline()
            assert line, "the foreign cluster ended: " + "".join(self.said[-20:])
            if line.startswith(("{", '["', "[]", '"')):
                return json.loads(line)
            self.said.append(line)

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()

    def targets(self):
        found = self.tell("state").get("theirs", {"targets": {}})["targets"]
        return {name: found.get(name) for name in ("small", "large")}


@pytest.fixture(scope="module")
def foreign():
    with tempfile.TemporaryDirectory(prefix="pvf-", dir="/tmp") as folder:
        made = Foreign(free_port(), folder)
        yield made
        try:
            made.process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attach")
    catalog = worlds.catalog().model_dump(mode="json", exclude_unset=True)
    scenario = worlds.scenario().model_dump(mode="json", exclude_unset=True) | {"catalog": "./catalog.yaml"}
    policy = {"kind": "static", "settings": {"replicas": {"small@od": 2}}}
    for name, value in (
        ("catalog", catalog),
        ("scenario", scenario),
        ("mapping", MAPPING),
        ("policy", policy),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    return folder


def serve(foreign, files, out, *more):
    words = [sys.executable, "-c", RUN, "serve", "--attach", files / "mapping.yaml", "--address", foreign.address]
    words += ["--policy", files / "policy.yaml", "--rule", "static", "--out", out, *more]
    return subprocess.Popen(
        list(map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )


def until(condition, timeout_s=60):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def wait_until(condition, command, timeout_s=60):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert command.poll() is None, command.communicate()[0]
        if time.monotonic() > end_s:
            pytest.fail(f"it did not come about: {ended(command)}")
        time.sleep(0.1)


def run(words):
    """Exit code and error of a command; in a process of its own, since Ray changes its classes where it is joined."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, env=environment)
    return done.returncode, done.stderr[done.stderr.find("error:") :] if done.returncode else ""


def infer(foreign, value):
    try:
        body = {"input": value, "request_class": "relaxed"}
        return httpx.post(f"{foreign.url}/provisor/v1/infer", json=body, timeout=15)
    except httpx.HTTPError:
        return None


def is_answered(foreign):
    response = infer(foreign, "ours")
    return response is not None and response.status_code == 200


def ended(command, with_signal=signal.SIGTERM):
    command.send_signal(with_signal)
    try:
        return command.communicate(timeout=90)[0]
    finally:
        command.kill()


def test_attached_application_is_served_scaled_and_left_as_it_was(foreign, files, tmp_path):
    before = foreign.tell("state")
    assert foreign.targets() == {"small": 1, "large": 1}
    command = serve(foreign, files, tmp_path)
    try:
        wait_until(lambda: is_answered(foreign), command, 400)
        # The policy holds two small ones and no large one.
        wait_until(lambda: foreign.targets() == {"small": 2, "large": 0}, command)
        answer = infer(foreign, [1, 2]).json()
        assert answer["output"] == {"model": "small", "got": [1, 2]}
        assert (answer["variant"], answer["pool"]) == ("small", "od")
        # What their model raises is told at once, and is not tried again.
        assert infer(foreign, "raise").status_code == 500
        during = foreign.tell("state")
        assert during["provisor"]["route"] == "/provisor"
        assert during["bystander"] == before["bystander"]
        assert during["theirs"]["pids"]["gate"] == before["theirs"]["pids"]["gate"]
        assert httpx.get(f"{foreign.url}/theirs", timeout=15).json() == {"model": "small", "got": "theirs"}
        # Somebody resets a target: it is mended.
        foreign.tell("set small 1")
        wait_until(lambda: foreign.targets()["small"] == 2, command)
        # Their application goes away and comes back with the counts of its code: so is that.
        foreign.tell("delete")
        foreign.tell("deploy")
        wait_until(lambda: foreign.targets() == {"small": 2, "large": 0}, command)
        wait_until(lambda: is_answered(foreign), command)
    finally:
        output = ended(command)
    assert command.returncode == 130, output
    assert "restoring replica targets" in output
    assert "Traceback" not in output
    after = foreign.tell("state")
    assert set(after) == {"theirs", "bystander"}
    assert foreign.targets() == {"small": 1, "large": 1}
    assert after["bystander"] == before["bystander"]
    assert not [actor for actor in foreign.tell("actors") if actor == "ServingController"]
    ticks = list(Journal(tmp_path / "journal.jsonl").ticks())
    assert len(ticks) > 5
    assert replay_journal(tmp_path / "journal.jsonl").is_equal


def test_first_files_are_read_from_the_cluster_and_filled_by_measuring(foreign, tmp_path):
    before, folder = foreign.tell("state"), tmp_path / "theirs"
    words = ["init", "--from-serve", "--address", foreign.address, "--app", "theirs", "--out", str(folder)]
    assert run(words) == (0, "")
    mapping = load_mapping(folder / "mapping.yaml")
    assert set(mapping.deployments) == {"small", "large"}
    assert [pool.labels["market"] for pool in mapping.pools.values()] == ["on-demand"]
    mapped = mapping.model_dump(mode="json")
    mapped["deployments"]["small"] |= {"method": "predict", "input": "batch"}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapped | {"scenario": "scenario.yaml"}))
    (tmp_path / "inputs.json").write_text(json.dumps(["a", "b", "c"]))
    words = ["profile", "--attach", str(folder / "mapping.yaml"), "--address", foreign.address, "--deployment", "small"]
    words += ["--input", str(tmp_path / "inputs.json"), "--batches", "1,4", "--concurrency", "2", "--force"]
    assert run([*words, "--repeats", "8", "--warmup", "1", "--loads", "1"]) == (0, "")
    profiles = {profile.variant: profile for profile in load_catalog(folder / "catalog.yaml").profiles}
    # 20 ms an item, and what Serve and a busy machine add.
    assert 0.02 <= profiles["small"].service_by_batch_s[1].value < 1.0
    assert 0.08 <= profiles["small"].service_by_batch_s[4].value < 1.0
    assert "Ray 2." in profiles["small"].load_s.measured
    assert profiles["large"].load_s.derived.startswith("placeholder")
    # With prices and most figures unknown, decisions are made and journalled, and do not act.
    scenario = (folder / "scenario.yaml").read_text()
    (folder / "scenario.yaml").write_text(scenario.replace("tick_s: 10.0", "tick_s: 1.0"))
    words = ["serve", "--attach", str(folder / "mapping.yaml"), "--address", foreign.address, "--policy", "static"]
    words += ["--duration", "3", "--out", str(tmp_path / "watched")]
    code, refusal = run(words)
    assert code == 2
    assert "placeholders" in refusal
    assert run([*words, "--dry-run"]) == (0, "")
    ticks = list(Journal(tmp_path / "watched" / "journal.jsonl").ticks())
    assert len(ticks) >= 4
    assert [tick.observation.ready.tolist() for tick in ticks] == [[[[1], [1]]]] * len(ticks)
    after = foreign.tell("state")
    assert after["bystander"] == before["bystander"]
    assert foreign.targets() == {"small": 1, "large": 1}


def test_serves_own_yaml_follows_the_decisions_of_a_named_controller(foreign):
    def held():
        return foreign.tell("state")["shimmed"]["targets"]["model"]

    foreign.tell("shim")
    until(lambda: held() == 2)
    foreign.tell("decide 0 0")
    until(lambda: held() == 0)
    # A decision as old as this is none: what stands, stands.
    foreign.tell("decide 3 60")
    end_s = time.monotonic() + 2
    while time.monotonic() < end_s:
        assert held() == 0
    foreign.tell("decide 1 0")
    until(lambda: held() == 1)
