"""The simulated world agrees with the study's draws."""

import numpy as np
import pytest

from experiments.collage.simulated import agreements, simulated_checks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


def test_every_mode_answers_in_the_simulated_world_as_in_the_study() -> None:
    rng = np.random.default_rng(1)
    latency_s = rng.uniform(0.1, 0.2, 5000)
    latency_s[:150] += 0.5
    found = list(agreements(latency_s, cells=4, after_s=0.25, ticks=3))
    names = ["none", "re-send, first withdrawn", "hedge", "replication", "collage", "collage, two workers"]
    assert [one.mode for one in found] == names
    checks = list(simulated_checks(found))
    assert all(check.holds for check in checks), checks
    p99_s = {one.mode: one.simulated[1] for one in found}
    assert p99_s["none"] > 0.55 > 0.45 > p99_s["re-send, first withdrawn"]
    assert max(p99_s["collage"], p99_s["collage, two workers"]) < 0.3
