import numpy as np
import pytest

from traces.components import Bursts, DayLevel, Diurnal, FlashCrowd, Noise, OnOff, RegimeChange, Timer
from traces.trace import DAY_S


def minutes(days: float) -> np.ndarray:
    """Centres of one-minute bins."""
    return (np.arange(round(days * 1440)) + 0.5) * 60.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cosine_day_peaks_at_its_hour() -> None:
    factor = Diurnal(amplitude=0.5, peak_hour=15.0).factor(minutes(2), 60.0, rng())
    assert factor.max() == pytest.approx(1.5, abs=1e-4)
    assert factor.min() == pytest.approx(0.5, abs=1e-4)
    assert minutes(1)[np.argmax(factor[:1440])] / 3_600 == pytest.approx(15.0, abs=0.02)
    assert np.allclose(factor[:1440], factor[1440:])


def test_hourly_values_are_met_in_the_middle_of_the_hour() -> None:
    hourly = tuple(float(h + 1) for h in range(24))
    factor = Diurnal(hourly=hourly).factor(np.array([3.5, 23.5, 24.0]) * 3_600, 1.0, rng())
    # Mean of 1..24 is 12.5; midnight lies between the values of 23:30 and 00:30.
    assert np.allclose(factor, [4 / 12.5, 24 / 12.5, (24 + 1) / 2 / 12.5])


def test_bursts_rise_hold_and_fall() -> None:
    bursts = Bursts(
        per_day=24, height=3, height_sigma=0, length_s=600, length_sigma=0, rise_s=120, fall_s=240, slot_s=3_600,
        slot_offset_s=600,
    )  # fmt: skip
    # One slot an hour at probability 1: begins at 600, full at 720, falls from 1,200 until 1,440 s.
    at = np.array([590.0, 660.0, 720.0, 1_190.0, 1_320.0, 1_450.0])
    grid = np.arange(0.5, 3_600)
    factor = np.interp(at, grid, bursts.factor(grid, 1.0, rng()))
    assert np.allclose(factor, [1, 2, 3, 3, 2, 1], atol=0.02)


def test_bursts_come_as_often_as_asked_and_only_in_their_slots() -> None:
    at = np.arange(5.0, 100 * DAY_S, 10.0)
    spec = Bursts(per_day=6, height_sigma=0, length_s=60, length_sigma=0, rise_s=1, fall_s=1, slot_s=1_800,
                  slot_offset_s=120, slot_weights=(0.0, 1.0))  # fmt: skip
    factor = spec.factor(at, 10.0, rng(1))
    begins = at[np.flatnonzero(np.diff(np.concatenate([[1.0], factor])) > 0.5)]
    # 600 expected of 2,400 used slots: binomial, five standard errors of 21.
    assert abs(begins.size - 600) < 105
    # Every second slot is never used: begins lie 32 minutes past an hour.
    assert (np.abs(np.mod(begins, 3_600) - 1_920) < 20).all()


def test_bursts_anywhere_and_at_hours_come_as_often_as_asked() -> None:
    at = minutes(200)
    shape = {"height_sigma": 0.0, "length_s": 60.0, "length_sigma": 0.0, "rise_s": 1.0, "fall_s": 1.0}
    for spec in (Bursts(per_day=3, **shape), Bursts(per_day=1.5, hours=(9.0, 15.0), **shape)):
        begins = spec._begins(200 * DAY_S, rng(2))
        expected = 200 * spec.per_day
        assert abs(begins.size - expected) < 5 * np.sqrt(expected)
        assert spec.factor(at, 60.0, rng(2)).max() == pytest.approx(4.0)
    hours = np.mod(Bursts(per_day=1.5, hours=(9.0, 15.0))._begins(200 * DAY_S, rng(2)), DAY_S) / 3_600
    assert (np.minimum(np.abs(hours - 9), np.abs(hours - 15)) <= 0.25).all()


def test_flash_crowd_reaches_its_height_once_in_its_span() -> None:
    factor = FlashCrowd(every_days=2, height=6, rise_s=600, decay_s=1_800).factor(minutes(2), 60.0, rng(3))
    assert factor.max() == pytest.approx(6.0, abs=0.5)
    assert (factor > 3.5).sum() * 60 == pytest.approx(300 + 1_800 * np.log(2), abs=180)


def test_regimes_hold_and_change_about_as_often_as_asked() -> None:
    factor = RegimeChange(mean_days=2.0).factor(minutes(200), 60.0, rng(4))
    changes = np.count_nonzero(np.diff(factor))
    assert abs(changes - 100) < 5 * 10
    assert np.median(factor) == pytest.approx(1.0, abs=0.3)


def test_on_off_takes_two_values_in_the_shares_of_their_lengths() -> None:
    factor = OnOff(mean_on_s=1_800, mean_off_s=5_400, floor=0.2).factor(minutes(100), 60.0, rng(5))
    assert set(np.unique(factor)) == {0.2, 1.0}
    # 1,200 cycles; the share of time on is 1/4 with a standard error below 0.01.
    assert (factor == 1.0).mean() == pytest.approx(0.25, abs=0.04)


def test_day_levels_hold_for_a_day() -> None:
    factor = DayLevel().factor(minutes(3), 60.0, rng(6)).reshape(3, 1440)
    assert (factor == factor[:, :1]).all()
    assert len(np.unique(factor)) == 3


def test_noise_has_mean_one_its_sigma_and_its_memory() -> None:
    factor = Noise(sigma=0.1, tau_s=600).factor(minutes(60), 60.0, rng(7))
    log = np.log(factor)
    assert factor.mean() == pytest.approx(1.0, abs=0.01)
    assert log.std() == pytest.approx(0.1, rel=0.1)
    lagged = np.corrcoef(log[:-10], log[10:])[0, 1]
    # With r = exp(-1/2) between knots, straight lines have, two knots apart,
    # (2/3 r^2 + (r + r^3) / 6) / (2/3 + r/3) = 0.44.
    assert lagged == pytest.approx(0.44, abs=0.06)


def test_timer_brings_its_share_in_its_runs() -> None:
    addition = Timer(share=0.2, period_s=600, width_s=60, phase_s=120).addition(minutes(1), 60.0, rng(8))
    assert addition.mean() == pytest.approx(0.2)
    assert np.flatnonzero(addition)[:2].tolist() == [2, 12]
