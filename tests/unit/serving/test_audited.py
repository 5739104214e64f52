"""Audits of tiers in the router: what they disturb, what they count and what a broken contract leads to."""

import numpy as np
import pytest

from controller.arrays import AnswerArrays
from serving.auditor import expected_disagreement, same
from serving.demotion import DemotionLedger, best_serving, without_tiers
from serving.requests import Outcome
from serving.rules import Demotion, router_tables
from tests.unit.serving.drivers import RELAXED, STRICT, AuditDriver
from tests.unit.serving.shells import TIER, cascade_of, tiered_setting
from tests.unit.serving.worlds import (
    LARGE,
    LARGE_LAMBDA,
    LARGE_OD,
    LARGE_SPOT,
    SMALL,
    SMALL_OD,
    rules,
    setting,
)

SURE, UNSURE = 0.9, 0.2
ONE_OF_EACH = {SMALL_OD: 1, LARGE_OD: 1}


def audited_world(serving=None, **given):
    world = AuditDriver(tiered_setting(), **given)
    world.use(ONE_OF_EACH if serving is None else serving, **cascade_of(RELAXED))
    return world


def different(variant):
    return variant


def test_answered_request_of_a_tier_is_answered_by_the_best_version_too():
    world = audited_world(says=different)
    world.arrive(RELAXED)
    world.until(2.0)
    ((at_s, reply),) = world.replies
    assert (at_s, reply.output) == (pytest.approx(0.1), SMALL)
    assert [(pytest.approx(at), one.option) for at, one in world.sent] == [(0.0, SMALL_OD), (0.1, LARGE_OD)]
    reading = world.reading()
    assert (reading.audited[RELAXED], reading.differing[RELAXED], reading.dropped.sum()) == (1, 1, 0)


def test_audits_are_counted_apart_from_what_requests_use():
    world = audited_world(says=different)
    world.arrive(RELAXED)
    world.until(2.0)
    stats = world.core.stats(2.0)
    assert stats.audits.seconds[LARGE_OD] == pytest.approx(0.2)
    assert stats.audits.usd == pytest.approx(0.2 * 3.6 / 3600)
    tally = stats.tally
    assert (tally.busy_s[LARGE_OD], tally.batches[LARGE_OD], tally.answers[:, LARGE_OD].sum()) == (0.0, 0, 0)
    assert (tally.answered.sum(), stats.credits_used.sum()) == (1, 0)
    world.check_conserved()


def test_answer_of_the_best_version_itself_needs_no_call():
    world = audited_world()
    world.confidence[SMALL] = UNSURE
    world.arrive(RELAXED)
    world.until(2.0)
    assert [one.option for _, one in world.sent] == [SMALL_OD, LARGE_OD]
    assert (world.reading().audited[RELAXED], world.reading().differing[RELAXED]) == (1, 0)


def test_class_without_a_tier_is_not_audited_and_gets_no_token():
    world = audited_world({SMALL_OD: 1, LARGE_SPOT: 1})
    request = world.arrive(STRICT)
    world.until(2.0)
    assert (world.reading().audited.sum(), request.token) == (0, "")
    assert len(world.sent) == 1


def test_share_of_answers_is_audited():
    world = audited_world(share=0.25)
    for _ in range(400):
        world.arrive(RELAXED)
        world.until(world.now_s + 1.0)
    # Standard error of 400 coins of 0.25: 8.7.
    assert abs(world.reading().audited[RELAXED] - 100) < 35


def test_audit_gives_way_to_a_request_and_is_tried_again():
    world = audited_world()
    world.arrive(RELAXED)
    world.until(0.15)  # answered at 0.1, audited from then on
    world.confidence[SMALL] = UNSURE
    late = world.arrive(RELAXED)
    world.until(0.26)  # small is unsure at 0.25: large is needed
    assert [one.identity for one in world.cancelled] == [-1]
    world.until(2.0)
    # As soon as without the audit: 0.15 + 0.1 + 0.2.
    assert world.replies[1][0] == pytest.approx(0.45)
    assert late.outcome is Outcome.ANSWERED
    reading = world.reading()
    assert (reading.audited[RELAXED], reading.dropped.sum()) == (2, 0)
    assert reading.seconds[LARGE_OD] == pytest.approx(0.15 + 0.2)
    assert all(queue.audits == 0 for queue in world.core.queues)
    world.check_conserved()


def test_audit_waits_while_the_best_version_is_busy_and_the_oldest_is_dropped_beyond_the_backlog():
    world = audited_world(backlog=1)
    taken, effects = world.core.arrive(STRICT, "x", 0.0, identity=3)
    assert effects
    world.take(effects)
    for _ in range(3):
        world.arrive(RELAXED)
        world.until(world.now_s + 0.11)
    assert world.reading().audited.sum() + world.reading().dropped.sum() <= 3
    world.until(3.0)
    reading = world.reading()
    assert reading.audited[RELAXED] + reading.dropped[RELAXED] == 3
    assert taken.outcome is Outcome.ANSWERED


def test_audit_whose_replica_goes_away_is_dropped():
    world = audited_world()
    world.arrive(RELAXED)
    world.until(0.15)
    world.lose(world.sent[-1][1])
    assert (world.reading().dropped[RELAXED], world.core.queues[LARGE_OD].audits) == (1, 0)


def test_audit_ends_where_the_last_replica_of_the_best_version_goes():
    world = audited_world()
    world.arrive(RELAXED)
    world.until(0.15)
    world.use({SMALL_OD: 1}, sequence=1, **cascade_of(RELAXED))
    assert [one.identity for one in world.cancelled] == [-1]
    assert world.core.queues[LARGE_OD].audits == 0


def broken(says=different, count=60, **given):
    world = audited_world(says=says, **given)
    for _ in range(count):
        world.arrive(RELAXED)
        world.until(world.now_s + 1.0)
    return world


def test_broken_contract_demotes_the_tier_and_the_best_version_answers_alone():
    world = broken()
    (demotion,) = world.reading().demotions
    assert demotion.request_class == RELAXED
    assert "audited answers differ from the best version's; expected at most 0.11 of them" in demotion.reason
    world.sent.clear()
    world.arrive(RELAXED)
    world.until(world.now_s + 1.0)
    assert [one.option for _, one in world.sent] == [LARGE_OD]
    world.arrive(STRICT)
    assert world.core.rules.shares[STRICT, SMALL_OD] == 0.5


def test_kept_contract_demotes_nothing():
    world = broken(says=lambda variant: "same", count=300)
    assert world.reading().audited[RELAXED] == 300
    assert world.reading().demotions == ()


def test_demotion_outlives_new_rules_and_comes_back_with_them_after_a_restart():
    world = broken()
    (demotion,) = world.reading().demotions
    world.use(ONE_OF_EACH, sequence=1, **cascade_of(RELAXED))
    assert world.core.rules.cascade_variant[RELAXED].tolist() == [-1, -1, -1]
    again = audited_world(says=different)
    again.use(ONE_OF_EACH, sequence=2, demotions=(demotion,), **cascade_of(RELAXED))
    assert again.core.rules.shares[RELAXED].tolist() == [0, 0, 0, 1, 0, 0]
    assert again.reading().demotions == (demotion,)


def test_right_answers_that_callers_tell_test_the_degradation():
    # Without an expected disagreement nothing is tested but labels; no measured answers either.
    of = tiered_setting(disagreement=None)
    world = AuditDriver(of, says=different)
    world.use(ONE_OF_EACH, **cascade_of(RELAXED))
    for _ in range(60):
        request = world.arrive(RELAXED)
        world.until(world.now_s + 1.0)
        is_used, effects = world.core.told(request.token, LARGE, world.now_s)
        world.take(effects)
        if world.reading().demotions:
            break
        assert is_used
        assert world.core.told(request.token, LARGE, world.now_s) == (False, [])
    (demotion,) = world.reading().demotions
    assert "degradation is 1 over" in demotion.reason
    assert world.core.rules.cascade_variant[RELAXED, 0] == -1


def test_right_answer_may_come_before_the_audit_is_over():
    world = audited_world()
    request = world.arrive(RELAXED)
    world.until(0.15)
    assert world.core.told(request.token, "same", 0.15) == (True, [])
    assert world.reading().labelled[RELAXED] == 0
    world.until(1.0)
    assert world.reading().labelled[RELAXED] == 1


def test_right_answer_of_an_unknown_request_is_of_no_use():
    assert audited_world().core.told("gone-1", 3, 0.0) == (False, [])


def test_answers_are_compared_as_values():
    assert same(np.array([1, 2]), [1, 2])
    assert not same([1, 2], [2, 1])
    assert not same(1, "1")


def test_measured_answers_bound_the_disagreement_of_a_tier_that_states_none():
    tables = router_tables(tiered_setting(disagreement=None))
    tier = tables.tiers[RELAXED]
    assert expected_disagreement(tier, RELAXED, tables, 0.01) is None
    # Of 100 requests the sure answer of small is wrong 5 times; bound by Chernoff, log(100) / 100 = kl(0.05, p).
    right = np.ones((100, 2))
    right[:5, SMALL] = 0.0
    measured = tables.__class__(**{**vars(tables), "answers": AnswerArrays(np.ones((100, 2)), right)})
    expected = expected_disagreement(tier, RELAXED, measured, 0.01)
    assert 0.05 * np.log(0.05 / expected) + 0.95 * np.log(0.95 / (1 - expected)) == pytest.approx(np.log(100) / 100)


def test_best_version_that_serves_takes_all_of_a_demoted_class():
    of = setting()
    tables = router_tables(of)
    given = rules(of, {SMALL_OD: 1, LARGE_OD: 1, LARGE_SPOT: 3})
    assert best_serving(given, tables, RELAXED) == LARGE
    assert without_tiers(given, tables, {RELAXED}).shares[RELAXED].tolist() == [0, 0, 0, 0.5, 0.5, 0]
    given.shares[RELAXED] = np.eye(6)[SMALL_OD]
    assert without_tiers(given, tables, {RELAXED}).shares[RELAXED].tolist() == [0, 0, 0, 0.25, 0.75, 0]
    only_small = rules(of, {SMALL_OD: 1})
    assert without_tiers(only_small, tables, {RELAXED}).shares[RELAXED].tolist() == [1, 0, 0, 0, 0, 0]
    nothing = rules(of, {})
    assert best_serving(nothing, tables, RELAXED) == -1
    assert without_tiers(nothing, tables, {RELAXED}).shares.sum() == 0
    given.shares[RELAXED] = np.eye(6)[LARGE_LAMBDA]
    assert best_serving(rules(of, {SMALL_OD: 1}), tables, RELAXED, has_machines=True) == SMALL


def test_tier_of_one_version_is_audited_by_a_better_one_that_is_no_step_of_it():
    of = setting(relaxed={"tier": TIER | {"variants": ["small"], "thresholds": []}, "accuracy_floor": 0.8})
    world = AuditDriver(of, says=different)
    world.use(ONE_OF_EACH, shares=np.eye(6)[[SMALL_OD, SMALL_OD]])
    assert router_tables(of).allowed[RELAXED].tolist() == [True, True, True, False, False, False]
    world.arrive(RELAXED)
    world.until(2.0)
    assert world.replies[0][1].output == SMALL
    assert world.reading().differing[RELAXED] == 1
    given = rules(of, ONE_OF_EACH)
    assert without_tiers(given, router_tables(of), {RELAXED}).shares[RELAXED].tolist() == [0, 0, 0, 1, 0, 0]


def test_controller_journals_each_demotion_once_and_remembers_it():
    ledger = DemotionLedger(("strict", "relaxed"))
    for at_s in (3.0, 4.0):
        ledger.hear([Demotion(RELAXED, "why")], at_s)
    assert ledger.news() == [("tier_demoted", {"at_s": 3.0, "request_class": "relaxed", "reason": "why"})]
    assert ledger.news() == []
    again = DemotionLedger(("strict", "relaxed"))
    again.restore(ledger.snapshot())
    assert (again.all, again.reasons, again.news()) == ((Demotion(RELAXED, "why"),), {"relaxed": "why"}, [])
