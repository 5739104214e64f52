"""A live run as a process: how it ended is told."""

import pytest

from controller.errors import EXIT_WRONG_INPUT, RunError
from experiments.live_process import ServeProcess


def test_exit_status_of_a_run_that_fails_is_its_own(tmp_path):
    process = ServeProcess(["--scenario", "no-such-scenario"], tmp_path / "serve", print)
    with pytest.raises(RunError, match="no-such-scenario"):
        process.start(60.0)
    assert process.stop() == EXIT_WRONG_INPUT
    with pytest.raises(RunError, match=f"expected exit code 0, got {EXIT_WRONG_INPUT}"):
        process.wait(1.0)
