"""The latency study: draws, modes worked by hand, the replay under the rules' code, and the formulas of the choice."""

import numpy as np
import pytest

from controller.errors import InputError
from controller.redundancy_choice import CollageOffer, Mode, Stakes, survival, ways
from experiments.collage.draws import BLOCK_GROUPS, Draws, Kind, draw, read_latency_s
from experiments.collage.modes import collage, resend, unaided
from experiments.collage.replay import Rules, replay
from experiments.collage.study import (
    COLLAGE,
    COLLAGE_TWO,
    NONE,
    RESEND_TUNED,
    Extent,
    agreement,
    bad_stretch,
    drawn,
    figures,
    find,
    run_study,
    sparse,
    tuned_after_s,
)

TINY = Extent(groups=400, sizes=(4,), ratios=(1.0, 2.0), replayed=40)


def straggling(count: int = 5000) -> np.ndarray:
    """Latencies in runs: 3 % of them slow."""
    rng = np.random.default_rng(1)
    latency_s = rng.uniform(0.1, 0.2, count)
    latency_s[: count * 3 // 100] += 0.5
    return latency_s


def test_file_of_latencies_is_as_its_readme_says(data_dir) -> None:
    latency_s = read_latency_s(data_dir)
    assert len(latency_s) == 137_594
    assert np.quantile(latency_s, [0.5, 0.99]) == pytest.approx([0.138, 0.702], abs=5e-4)
    assert (latency_s > 0.25).mean() == pytest.approx(0.029, abs=5e-4)


def test_missing_file_of_latencies_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="worker_latency_s.npz: expected the workers' latencies"):
        read_latency_s(tmp_path)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_draws_has_the_files_latencies_in_equal_shares(kind) -> None:
    latency_s = straggling()
    shares = [
        (part > 0.5).mean()
        for seed in range(20)
        for part in draw(latency_s, kind, 4, 1000, np.random.default_rng(seed))
    ]
    # Blocks of 200 groups make 5 stretches of a worker: 20 seeds x 10 workers x 5 of them, 0.17 / sqrt(1000) = 0.005.
    assert np.mean(shares) == pytest.approx(0.03, abs=0.015)
    assert np.isin(draw(latency_s, kind, 4, 10, np.random.default_rng(0)).own, latency_s).all()


def test_blocks_in_time_keep_a_worker_slow_for_many_groups() -> None:
    found = draw(np.arange(10_000.0), Kind.TIME, 4, 3 * BLOCK_GROUPS, np.random.default_rng(0)).own
    follows = (np.diff(found, axis=0) % 10_000) == 1
    assert follows.mean() == pytest.approx(1.0 - 1.0 / BLOCK_GROUPS, abs=0.002)


def test_rotation_in_time_gives_a_worker_another_role_in_the_next_group() -> None:
    rng = [np.random.default_rng(0) for _ in range(2)]
    still = np.hstack(draw(np.arange(10_000.0), Kind.TIME, 2, 5, rng[0]))
    moved = np.hstack(draw(np.arange(10_000.0), Kind.TIME_ROTATED, 2, 5, rng[1]))
    # Roles stand as own, copies, passes; workers as own, passes, copies.
    assert moved[0].tolist() == still[0].tolist()
    assert moved[1].tolist() == [still[1][i] for i in (1, 4, 3, 0, 5, 2)]


def test_blocks_in_a_group_are_one_stretch_unless_rotated() -> None:
    near, far = (
        draw(np.arange(1e6), kind, 3, 50, np.random.default_rng(0)) for kind in (Kind.GROUP, Kind.GROUP_ROTATED)
    )
    assert (np.diff(near.own, axis=1) == 1).all()
    assert (near.passes[:, 0] - near.own[:, -1] == 1).all()
    assert (np.abs(far.passes[:, 0] - far.own[:, -1]) > 100).all()


# One group of two: the second straggles at 0.3 s, its copy takes 0.2 s; the passes 0.35 s and 0.5 s.
BY_HAND = Draws(np.array([[0.1, 0.9]]), np.array([[0.1, 0.2]]), np.array([[0.35, 0.5]]))


@pytest.mark.parametrize(
    ("done", "answers_s", "extra", "servers", "busy_s"),
    [
        (unaided(BY_HAND), [0.1, 0.9], 0.0, 1.0, 0.5),
        (resend(BY_HAND, 0.3), [0.1, 0.5], 0.5, 1.5, (0.1 + 0.5 + 0.2) / 2),
        (resend(BY_HAND, 0.3, is_withdrawn=True), [0.1, 0.5], 0.5, 1.5, (0.1 + 0.3 + 0.2) / 2),
        (resend(BY_HAND, 0.0), [0.1, 0.2], 1.0, 2.0, (0.1 + 0.2) * 2 / 2),
        (collage(BY_HAND, 0.3, 1.0), [0.1, 0.35], 0.5, 1.5, (0.1 + 0.35 + 0.35) / 2),
        (collage(BY_HAND, 0.4, 1.0), [0.1, 0.4], 0.5, 1.5, (0.1 + 0.4 + 0.35) / 2),
        (collage(BY_HAND, 0.3, 3.0), [0.1, 0.9], 0.5, 1.5, (0.1 + 0.9 + 0.9) / 2),
        (collage(BY_HAND, 0.3, 1.0, passes=2), [0.1, 0.35], 1.0, 2.0, (0.1 + 0.35 + 2 * 0.35) / 2),
        (collage(BY_HAND, 0.3, 3.0, is_resent=True), [0.1, 0.5], 1.0, 2.0, (0.1 + 0.5 + 0.2 + 0.5) / 2),
    ],
)
def test_modes_are_those_worked_by_hand(done, answers_s, extra, servers, busy_s) -> None:
    assert done.answer_s[0] == pytest.approx(answers_s)
    assert (done.extra, done.servers, done.busy_s) == pytest.approx((extra, servers, busy_s))


def test_an_own_answer_at_the_same_moment_as_the_collages_counts() -> None:
    even = Draws(np.array([[0.1, 0.35]]), BY_HAND.copies, BY_HAND.passes)
    assert not collage(even, 0.3, 1.0).by_collage.any()
    assert not any(replay([0.0, 0.0], [0.1, 0.35], [0.0, 0.0], iter([0.35]), Rules(2, 0.3)).by_collage)


def test_array_formulas_are_the_rules_replayed() -> None:
    found = agreement(straggling(), TINY)
    assert found.groups == 40 * 2 * 3
    assert found.most_s < 1e-12
    assert found.busy < 1e-12
    assert (found.differently, found.extra) == (0, 0)


def test_a_lone_request_is_answered_as_if_there_were_no_groups() -> None:
    quick = replay([5.0], [0.1], [0.0], iter([0.2]), Rules(9, 0.3))
    assert (quick.answer_s, quick.collages) == (pytest.approx([0.1]), 0)
    slow = replay([5.0], [0.9], [0.0], iter([0.2]), Rules(9, 0.3))
    assert (slow.answer_s, slow.collages, slow.by_collage) == (pytest.approx([0.5]), 1, [True])
    assert slow.busy_s == pytest.approx(0.5 + 0.2)


def test_a_group_is_sent_when_its_last_cell_is_filled() -> None:
    done = replay([0.0, 0.2], [0.9, 0.9], [0.0, 0.0], iter([0.05, 0.05]), Rules(2, 0.3))
    # The pass is there at 0.25 s, and each waits until it straggles.
    assert (done.answer_s, done.collages) == (pytest.approx([0.3, 0.3]), 1)


def test_answers_as_expected_by_the_formulas_of_the_choice() -> None:
    latency_s, k, after_s, late_s = straggling(), 4, 0.25, 0.3
    found = draw(latency_s, Kind.INDEPENDENT, k, 20_000, np.random.default_rng(2))
    expected = {
        (way.mode, way.passes): way
        for way in ways(latency_s, Stakes(late_s, 1.0, 1.0), [CollageOffer(k, 1.5, 0.0)], [after_s])
    }
    for mode, passes, done in (
        (Mode.NONE, 1, unaided(found)),
        (Mode.RESEND, 1, resend(found, after_s, is_withdrawn=True)),
        (Mode.HEDGE, 1, resend(found, after_s)),
        (Mode.REPLICATE, 1, resend(found, 0.0)),
        (Mode.COLLAGE, 1, collage(found, after_s, 1.5)),
        (Mode.COLLAGE, 2, collage(found, after_s, 1.5, passes=2)),
    ):
        way = expected[mode, passes]
        # Groups are independent, so 4 standard errors of the mean over groups bound what is seen.
        for seen, told in ((done.answer_s > late_s, way.missed), (done.by_collage, way.by_collage)):
            error = 4.0 * seen.mean(axis=1).std() / 20_000**0.5 + 1e-9
            assert seen.mean() == pytest.approx(told, abs=error)
        assert done.busy_s == pytest.approx(way.busy_s, rel=0.02)


def test_groups_without_an_answer_are_as_many_as_survival_says() -> None:
    latency_s, k, at_s = straggling(), 4, 0.3
    found = draw(latency_s, Kind.INDEPENDENT, k, 20_000, np.random.default_rng(4))
    own = float(survival(np.sort(latency_s), np.array(at_s)))
    for done, share in (
        (unaided(found), 1.0 - (1.0 - own) ** k),
        (collage(found, 0.25, 1.0), own * (1.0 - (1.0 - own) ** k)),
    ):
        seen = float((done.answer_s.max(axis=1) > at_s).mean())
        assert seen == pytest.approx(share, abs=4.0 * (share / 20_000) ** 0.5)


def test_tuned_resending_stays_within_its_requests() -> None:
    tuning, _ = drawn(straggling(), Kind.INDEPENDENT, 4, TINY)
    after_s = tuned_after_s(tuning, 0.25)
    assert resend(tuning, after_s).extra <= 0.25
    p99_s = [
        figures(resend(tuning, x).answer_s.max(axis=1)).p99_s
        for x in (after_s, *np.quantile(tuning.own, [0.76, 0.9, 0.97]))
    ]
    assert p99_s[0] <= min(p99_s[1:]) + 1e-9


def test_tuning_and_reporting_see_different_draws() -> None:
    tuning, reported = drawn(straggling(), Kind.INDEPENDENT, 4, TINY)
    assert not np.array_equal(tuning.own, reported.own)


def test_study_has_every_mode_of_every_kind_and_repeats_itself() -> None:
    rows, again = (run_study(straggling(), TINY, lambda _: None) for _ in range(2))
    assert rows == again
    assert len(rows) == len(Kind) * (6 + 2 * 3)
    own, two, none = (find(rows, 4, mode) for mode in (COLLAGE, COLLAGE_TWO, NONE))
    assert own.group.p99_s == pytest.approx(0.25)
    assert (own.servers, two.servers, none.servers) == (1.25, 1.5, 1.0)
    assert find(rows, 4, RESEND_TUNED).extra < 0.3
    assert none.after_s is None


def test_bad_stretch_is_that_of_one_in_a_hundred() -> None:
    is_late = np.zeros(100 * BLOCK_GROUPS, bool)
    is_late[: 2 * BLOCK_GROUPS : 2] = True
    assert bad_stretch(is_late) == pytest.approx(0.5)
    assert bad_stretch(is_late[:10]) == 0.5


def test_sparse_arrivals_are_sent_in_groups_that_are_not_full() -> None:
    rare, often = (sparse(straggling(), 4, rate_rps, TINY) for rate_rps in (0.2, 500.0))
    assert rare.extra < often.extra
    assert often.per_pass == pytest.approx(4.0, abs=0.3)
    assert often.by_collage > 0.0
