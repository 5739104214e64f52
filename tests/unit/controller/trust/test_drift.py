import numpy as np
import pytest

from controller.observation import FIELDS, OBSERVATION_SIZE
from controller.policies.policy_file import InputRange
from controller.trust.config import DriftConfig
from controller.trust.drift import LEAST_WIDTH, DriftTest, input_name


def drift(low, high, **config):
    return DriftTest(DriftConfig(**config), InputRange(low=low, high=high, samples=1))


def shown(*values):
    return np.array(values, np.float32)


def test_margin_is_a_share_of_each_inputs_own_range():
    test = drift((0.0, 0.0), (1.0, 4.0), margin=0.5, share=0.5, ticks=1)
    assert test.update(shown(1.4, 5.9)) is None
    assert test.update(shown(1.4, 6.1)) is not None
    assert test.outside_share == 0.5


def test_input_that_never_moved_has_a_little_room():
    test = drift((2.0,), (2.0,), margin=0.5, share=1.0, ticks=1)
    assert test.update(shown(2.0 + 0.49 * LEAST_WIDTH)) is None
    assert test.update(shown(2.0 - 0.51 * LEAST_WIDTH)) is not None


def test_one_tick_inside_starts_the_count_anew():
    test = drift((0.0,), (1.0,), margin=0.0, share=1.0, ticks=3)
    found = [test.update(shown(x)) is not None for x in (2.0, 2.0, 0.5, 2.0, 2.0, 2.0, 2.0)]
    assert found == [False] * 5 + [True, True]


def test_message_names_what_is_farthest_outside():
    low, high = [0.0] * OBSERVATION_SIZE, [1.0] * OBSERVATION_SIZE
    test = drift(tuple(low), tuple(high), margin=0.0, share=0.01, ticks=1)
    values = np.full(OBSERVATION_SIZE, 0.5, np.float32)
    values[-1] = 4.25
    text = test.update(values)
    assert text is not None
    assert f"{FIELDS[-1].name} 4.25" in text


@pytest.mark.parametrize("known", [None, InputRange(low=(0.0,), high=(1.0,), samples=1)])
def test_nothing_is_tested_where_nothing_is_known_or_asked(known):
    test = DriftTest(DriftConfig(is_on=known is None, margin=0.0, ticks=1), known)
    assert not test.is_on
    assert test.update(shown(9.0)) is None


def test_every_input_has_a_name():
    names = [input_name(index) for index in range(OBSERVATION_SIZE)]
    assert len(set(names)) == OBSERVATION_SIZE
    assert names[0] == "arrivals[0]"
