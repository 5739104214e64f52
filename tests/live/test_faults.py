"""A live run on nodes of this machine, broken from outside: no request with time left is lost, and all is mended.

The whole list, with the loss that cannot be avoided, is in `provisor experiment live`.
"""

import pytest

from controller.replay import replay_journal
from experiments.live_faults import FAULTS
from experiments.live_study import rehearse_all

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

REHEARSED = (
    "our controller is killed",
    "a node goes with notice",
    "the router cannot be read",
    "the policy file is spoilt",
)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    faults = [fault for fault in FAULTS if fault.name in REHEARSED]
    assert len(faults) == len(REHEARSED)
    rows, journal = rehearse_all(tmp_path_factory.mktemp("faults"), print, faults)
    return {row.fault: row for row in rows}, journal


@pytest.mark.parametrize("name", REHEARSED)
def test_no_request_with_time_left_is_lost(rehearsed, name):
    row = rehearsed[0][name]
    assert row.requests > 20
    assert row.lost == 0


@pytest.mark.parametrize("name", REHEARSED)
def test_all_is_as_it_should_be_again(rehearsed, name):
    assert rehearsed[0][name].mended_s is not None


@pytest.mark.parametrize("name", ["the router cannot be read", "the policy file is spoilt"])
def test_rule_drives_within_a_tick_of_the_alarm(rehearsed, name):
    ticks = rehearsed[0][name].hand_back_ticks
    assert ticks is not None
    assert ticks <= 1
    assert rehearsed[0][name].rule_ticks > 0


def test_journal_of_all_that_is_decided_again_without_a_difference(rehearsed):
    replayed = replay_journal(rehearsed[1])
    assert replayed.ticks > 30
    assert replayed.is_equal
