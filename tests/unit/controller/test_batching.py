"""What is worked out once for a scenario: who is likely to share a machine, and what accuracy costs."""

import numpy as np
import pytest

from controller.batching import accuracy_usd, near_floor
from tests.tiny import MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, tiny_setting


def test_a_floor_at_a_variants_accuracy_is_met_by_it_alone() -> None:
    setting = tiny_setting()  # floors 0.70 and 0.76, those of small and medium
    near = near_floor(setting.catalog, setting.workload)
    assert near[STRICT].nonzero()[0].tolist() == [SMALL]
    assert near[RELAXED].nonzero()[0].tolist() == [MEDIUM]


def test_a_floor_between_two_variants_is_met_by_both() -> None:
    setting = tiny_setting()
    workload = setting.workload._replace(accuracy_floor=setting.workload.accuracy_floor + 0.02)
    near = near_floor(setting.catalog, workload)
    assert near.tolist() == [[True, True, False], [False, True, True]]


def test_a_variant_that_a_class_may_not_use_is_not_near_its_floor() -> None:
    setting = tiny_setting()
    allowed = setting.workload.allowed.copy()
    allowed[RELAXED, MEDIUM] = False
    near = near_floor(setting.catalog, setting.workload._replace(allowed=allowed))
    assert near[RELAXED].tolist() == [True, False, True]


def test_accuracy_costs_what_the_mix_at_the_floor_costs_more_per_unit_at_usual_prices() -> None:
    setting = tiny_setting()
    usd = np.full(setting.catalog.usable.shape, np.inf)
    usd[:, OD], usd[:, SPOT_A] = [4.0, 8.0, 36.0], [1.0, 2.0, 9.0]  # usually 2, 4 and 18
    # From small (0.70) to medium (0.76) it is 2 $ for 0.06, from medium to large (0.82) 14 $.
    assert accuracy_usd(setting.catalog, setting.workload, usd).tolist() == pytest.approx([2 / 0.06, 14 / 0.06])


def test_accuracy_costs_nothing_where_a_class_has_no_machines() -> None:
    setting = tiny_setting()
    usd = np.full(setting.catalog.usable.shape, np.inf)
    assert accuracy_usd(setting.catalog, setting.workload, usd).tolist() == [0.0, 0.0]
