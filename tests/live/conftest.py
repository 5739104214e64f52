"""One private Ray for the tests of a module; nothing of it is left behind."""

import asyncio
import socket

import pytest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def run():
    """Runs coroutines on one loop: a Serve handle belongs to the loop it was first used on."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()
