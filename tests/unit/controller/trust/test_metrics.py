import numpy as np

from controller.trust.metrics import Repair
from tests.tiny import steady_observation, tiny_setting


def seen():
    return steady_observation(tiny_setting(), 50.0)


def test_possible_numbers_stay_as_they_are():
    observation = seen()
    observation.spend_usd[0, 1] = -0.5  # idle time that turned out to have been use
    before = [array.copy() for array in observation]
    assert Repair().mend(observation) == []
    for array, kept in zip(observation, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_each_impossible_number_is_what_it_was_last_and_the_others_stay():
    repair, observation = Repair(), seen()
    observation.busy_s[0, 0, 0], observation.ready[0, 1, 1] = 7.0, 4
    repair.mend(observation)
    observation.busy_s[0, 0, 0], observation.busy_s[0, 0, 1] = np.nan, 9.0
    observation.history[0, 1, 3] = np.inf
    observation.ready[0, 1, 1] = -1
    assert sorted(repair.mend(observation)) == ["busy_s", "history", "ready"]
    assert observation.busy_s[0, 0, :2].tolist() == [7.0, 9.0]
    assert observation.history[0, 1, 3] == 250.0  # 25 requests/s for ten seconds
    assert observation.ready[0, 1, 1] == 4


def test_first_impossible_number_is_nothing():
    observation = seen()
    observation.day_spend_usd[0, 2] = np.nan
    assert Repair().mend(observation) == ["day_spend_usd"]
    assert observation.day_spend_usd[0, 2] == 0.0
