from controller.trust.config import TrustConfig
from controller.trust.probation import Alarm, Probation

STALE = {Alarm.STALE_METRICS: "x"}


def probation(speed=1.0, **config):
    return Probation(TrustConfig(**config), speed)


def test_fault_asks_for_the_longer_quiet_even_when_another_alarm_follows():
    one = probation(quiet_s=10.0, fault_quiet_s=100.0)
    one.step(0.0, {Alarm.HASH_MISMATCH: "x"}, True)
    one.step(5.0, STALE, True)
    assert one.left_s(5.0) == 100.0
    assert not one.step(104.0, {}, True)
    assert one.step(105.0, {}, True)


def test_alarm_long_after_a_return_asks_for_the_plain_quiet_again():
    one = probation(quiet_s=10.0, settle_s=50.0)
    one.step(0.0, STALE, True)
    assert one.step(10.0, {}, True)
    one.step(70.0, STALE, True)
    assert one.left_s(70.0) == 10.0


def test_quiet_is_control_time_and_shrinks_with_the_speed():
    one = probation(speed=20.0, quiet_s=600.0)
    one.step(0.0, STALE, True)
    assert not one.step(29.0, {}, True)
    assert one.step(30.0, {}, True)


def test_nothing_drives_where_there_is_no_policy():
    one = probation(quiet_s=10.0)
    one.step(0.0, {Alarm.POLICY_ERROR: "x"}, False)
    assert not one.step(10_000.0, {}, False)
    assert one.step(10_010.0, {}, True)


def test_state_is_told_in_ages():
    one, other = probation(quiet_s=10.0), probation(quiet_s=10.0)
    one.step(100.0, STALE, True)
    other.restore(one.state(104.0), 0.0)
    assert not other.step(5.9, {}, True)
    assert other.step(6.0, {}, True)
