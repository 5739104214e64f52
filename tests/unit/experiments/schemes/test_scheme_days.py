"""Schemes are compared by what was rented against what was needed, after a warm-up."""

import numpy as np
import pytest

from controller.arrays import COMPUTE, SERVERLESS_USE, empty_observation
from experiments.schemes.courses import APPLICATIONS, FLAT, applications_catalog, scenario_of
from experiments.schemes.scheme_days import SchemeRecorder, machine_rates, needed_machines
from tests.tiny import FN, OD, SMALL, tiny_setting


def test_needed_are_the_whole_machines_that_the_arrivals_keep_busy():
    # In 10 s a machine answers 200 of the first class and 100 of the second: 400 and 101 need 2 + 2, 1 and 0 need 1.
    arrivals = np.array([[400, 101], [1, 0]])
    assert needed_machines(arrivals, np.array([20.0, 10.0]), 10.0).tolist() == [4, 1]


def test_capacity_is_that_of_the_option_a_scheme_fills_first():
    # Strict takes small (0.70) at 20 requests/s, relaxed medium (0.76) at 10.
    assert machine_rates(tiny_setting()) == pytest.approx([20.0, 10.0])


def test_a_recorder_adds_up_facts_after_the_warm_up():
    setting = tiny_setting()
    recorder = SchemeRecorder(setting, warm_up_s=20.0)
    window = empty_observation(2, setting.shape)
    window.arrivals[:] = [[200, 100], [200, 100]]
    window.missed[:] = [[2, 0], [0, 1]]
    window.ready[:, SMALL, OD] = 2
    window.starting[:, SMALL, OD] = 1
    window.ready[:, SMALL, FN] = 7  # warm environments are not rented machines
    window.invocations[:, FN] = 30
    window.cold_starts[:, FN] = 3
    window.spend_usd[:, COMPUTE] = 0.5
    window.spend_usd[:, SERVERLESS_USE] = 0.25
    for _ in range(4):  # two of the four ticks are warm-up
        recorder.observed(window)
    day = recorder.result("course", "scheme")
    assert day.requests == 1200
    assert day.violations == pytest.approx(6 / 1200)
    assert day.strict_violations == pytest.approx(4 / 800)
    assert day.relaxed_violations == pytest.approx(2 / 400)
    # Three machines rented in each env against one of each class needed.
    assert day.over_provisioning == pytest.approx(1.5)
    assert day.serverless_share == pytest.approx(0.1)
    assert day.cold_share == pytest.approx(0.1)
    # 1.5 $ a tick of two envs, two ticks: 3 $ in 40 env-seconds.
    assert day.cost_usd_per_day == pytest.approx(3.0 * 86400 / 40)
    assert day.serverless_usd_per_day == pytest.approx(1.0 * 86400 / 40)


@pytest.mark.parametrize("modern", [False, True])
def test_each_class_is_an_application_with_one_model(modern):
    catalog = applications_catalog(modern)
    assert {variant.operator: variant.name for variant in catalog.variants} == APPLICATIONS
    serverless = {pool.name for pool in catalog.pools if pool.name.startswith("lambda")}
    assert serverless == ({"lambda-modern-3008"} if modern else {"lambda-1769", "lambda-3008", "lambda-10240"})
    assert not [pool for pool in catalog.pools if pool.market.value == "spot"]


def test_classes_of_the_setting_split_the_load_evenly():
    classes = scenario_of(FLAT).workload.classes
    assert [(one.name, one.share, one.slo_s) for one in classes] == [("strict", 0.5, 2.0), ("relaxed", 0.5, 120.0)]
