"""What a controller decides with, opened on a real loopback port."""

import asyncio
import socket

import httpx
import pytest

from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.replay import make_header
from serving.admin import token_digest
from serving.trusted import AdminSpec, Trusted, TrustSpec
from tests.tiny import tiny_setting

TOKEN = "a-token-of-some-length"


def trusted(folder, port):
    admin = AdminSpec("127.0.0.1", port, token_digest(TOKEN))
    return Trusted(tiny_setting(), folder, "mpc", None, "static", TrustSpec(admin=admin))


def journal_of_nothing(folder):
    path = folder / "journal.jsonl"
    JournalWriter(path, make_header(tiny_setting(), "mpc", "mpc", (0,), "live")).close()
    return Journal(path)


def serve(controller):
    controller.serve_admin(lambda: {"restarts": 1})


def restarts(port):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(f"http://127.0.0.1:{port}/v1/status", headers=headers).json()["restarts"]


def test_admin_api_of_a_new_life_waits_for_the_port_of_the_old_one_and_then_answers_there(tmp_path):
    async def run(taken, controller):
        served = asyncio.Event()
        controller.serve_admin_again(lambda: attempt(taken, controller, served), again_s=0.0)
        await asyncio.wait_for(served.wait(), 30)

    attempts = []

    def attempt(taken, controller, served):
        attempts.append(True)
        if len(attempts) == 3:
            taken.close()
        serve(controller)
        served.set()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        controller = trusted(tmp_path, port=0)
        controller.resume(journal_of_nothing(tmp_path), None, None, port)
        try:
            asyncio.run(run(taken, controller))
            assert len(attempts) == 3
            assert controller.admin_port == port
            assert restarts(port) == 1
        finally:
            controller.close()


def test_controller_that_ends_waits_for_no_port(tmp_path):
    attempts = []

    def attempt():
        attempts.append(True)
        raise OSError("in use")

    async def run(controller):
        controller.serve_admin_again(attempt, again_s=0.0)
        await asyncio.sleep(0)
        controller.close()
        (waiting,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait({waiting}, timeout=30)
        return waiting.cancelled()

    assert asyncio.run(run(trusted(tmp_path, 0)))
    assert attempts


def test_port_that_is_taken_when_a_run_begins_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        controller = trusted(tmp_path, taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            serve(controller)
