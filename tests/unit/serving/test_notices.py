"""Notices and rehearsals are taken as they are meant, or refused with the field that is wrong."""

import time

import pytest

from controller.errors import UsageError
from serving.notices import Notice, read_notice
from serving.rehearsals import Rehearsals

POOLS = ("od", "spot")


def test_notice_names_a_node_or_a_pool():
    assert read_notice({"pool": "spot", "left_s": 120}, POOLS) == Notice("", "spot", 120.0)
    assert read_notice({"node_id": "ab12", "left_s": 0}, POOLS) == Notice("ab12", "", 0.0)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"pool": "spot"}, "left_s: expected seconds in 0..86400, got None"),
        ({"pool": "spot", "left_s": -1}, "left_s"),
        ({"pool": "spot", "left_s": True}, "left_s"),
        ({"pool": "spot", "left_s": float("nan")}, "left_s"),
        ({"pool": "gpu", "left_s": 1}, "pool: expected one of od, spot, got 'gpu'"),
        ({"left_s": 1}, "exactly one of them"),
        ({"pool": "spot", "node_id": "a", "left_s": 1}, "exactly one of them"),
        ({"node_id": 7, "left_s": 1}, "node_id: expected a node's id, got 7"),
        ({"pool": "spot", "left_s": 1, "why": "x"}, "body"),
    ],
)
def test_wrong_notice_is_refused(fields, text):
    with pytest.raises(UsageError, match=text):
        read_notice(fields, POOLS)


def test_blindness_ends_by_itself():
    now = [10.0]
    rehearsals = Rehearsals(lambda: now[0])
    assert not rehearsals.is_blind
    rehearsals.begin({"what": "blind_s", "value": 5})
    now[0] = 14.9
    assert rehearsals.is_blind
    now[0] = 15.0
    assert not rehearsals.is_blind


def test_wall_clock_of_the_process_jumps(monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", real)  # put back afterwards
    before = real()
    Rehearsals().begin({"what": "clock_jump_s", "value": 86400})
    assert time.time() - before > 86399


@pytest.mark.parametrize("fields", [{}, {"what": "fire", "value": 1}, {"what": "blind_s", "value": "long"}])
def test_unknown_rehearsal_is_refused(fields):
    with pytest.raises(UsageError, match="what|value"):
        Rehearsals().begin(fields)
