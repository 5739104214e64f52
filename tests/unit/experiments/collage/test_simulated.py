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
    assert [one.mode for one in found] == ["none", "hedge", "replication", "collage"]
    checks = list(simulated_checks(found))
    assert all(check.holds for check in checks), checks
    none, _, _, collage = found
    assert none.simulated[1] > 0.55 > 0.3 > collage.simulated[1]
