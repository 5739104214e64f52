"""What is worked out once for a scenario: who is likely to share a machine."""

from controller.batching import near_floor
from tests.tiny import MEDIUM, RELAXED, SMALL, STRICT, tiny_setting


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
