"""Every trigger hands back within one tick and says why; quiet gives the policy its place back, flapping does not."""

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compile import compile_scenario
from controller.config import parse_config
from controller.errors import ConfigError, UsageError
from controller.loop import DecisionLoop
from controller.plan import Reason
from controller.policies.policy_file import InputRange
from controller.scenario import Scenario
from controller.trust.mode import Mode
from controller.trust.store import PolicyEntry
from tests.tiny import OD, SMALL, scenario_document, tiny_catalog
from tests.unit.controller.trust.supervised import POLICY, RULE, Fixed, Run

SHORT_PAIR = {"long_s": 20.0, "short_s": 10.0, "rate": 10.0}


class Shown(Fixed):
    """A policy that knows its inputs: `shown` is what it is given, 0..1 what it was trained on."""

    input_range = InputRange(low=(0.0,) * 10, high=(1.0,) * 10, samples=1)
    shown = 0.5

    def features(self, observation):
        return np.full((1, 10), self.shown, np.float32)


class Hanging(Fixed):
    """A policy that does not come back until it is let go."""

    def __init__(self, replicas):
        super().__init__(replicas)
        self.let_go = threading.Event()

    def decide(self, observation):
        self.let_go.wait(30)
        return super().decide(observation)


def budgeted(**limits):
    scenario = parse_config(scenario_document(limits=limits), Scenario, "tiny scenario")
    return compile_scenario(scenario, tiny_catalog())


def test_policy_drives_while_all_is_well():
    run = Run()
    assert run.tick() == "policy"
    assert run.planned == POLICY
    assert not run.is_marked
    assert run.of("drive") == run.of("alarm") == []


def test_first_event_says_with_what_the_run_decides():
    run = Run(Mode.CANARY)
    run.tick()
    (begun,) = run.of("trust")
    assert run.events[0].kind == "trust"
    assert (begun["mode"], begun["driver"], begun["rule"]) == ("canary", "canary", "static")
    assert begun["policy"]["name"] == "fixed"


@pytest.mark.parametrize(
    ("alarm", "setting", "config", "fields"),
    [
        # Twenty misses of twenty requests: a burn rate of 100 at a target of 99 %.
        ("slo_burn", None, {}, {"arrivals": 20, "missed": 20}),
        # Six USD, one of each term, in ten seconds against three an hour, which seven replicas fit in.
        ("budget_burn", budgeted(budget_usd_per_hour=3.0), {}, {"spend_usd": 1.0}),
        ("stale_metrics", None, {}, {"stale_ticks": 1}),
        ("invalid_metrics", None, {}, {"busy_s": np.nan}),
        ("invalid_metrics", None, {}, {"waiting": -1}),
    ],
)
def test_what_is_wrong_with_the_world_hands_back_on_the_same_tick(alarm, setting, config, fields):
    run = Run(setting=setting, **config)
    run.tick()
    assert run.tick(**fields) == "rule"
    assert run.planned == RULE
    assert run.is_marked
    assert [(event["alarm"], event["is_on"]) for event in run.of("alarm")] == [(alarm, True)]
    (drive,) = run.of("drive")
    assert (drive["from"], drive["driver"]) == ("policy", "rule")
    assert drive["reason"].startswith(f"{alarm}: ")


def test_policy_that_raises_hands_back_on_the_same_tick_and_is_not_asked_again():
    run = Run()
    run.tick()
    run.policy.error = ZeroDivisionError("no need")
    assert run.tick() == "rule"
    assert run.supervisor.fault == "ZeroDivisionError: no need"
    (lost,) = run.of("policy")
    assert (lost["why"], lost["reason"], lost["detail"]) == ("lost", "policy_error", "ZeroDivisionError: no need")
    asked = run.policy.asked
    run.policy.error = None
    assert run.tick() == "rule"
    assert run.policy.asked == asked
    assert (run.supervisor.ticks, run.supervisor.rule_ticks) == (3, 2)


def test_rule_that_raises_keeps_what_exists_until_it_decides_again():
    run = Run(Mode.SHADOW)
    run.tick()
    run.rule.error = RuntimeError("no idea")
    run.observation.doomed[0, SMALL, OD] = 1
    run.tick(ready=0)
    assert run.planned == 1
    run.observation.ready[0, SMALL, OD] = 2
    assert run.tick() == "rule"
    assert run.planned == 3
    assert run.is_marked
    assert run.decision.plan.reasons[0] & int(Reason.RULE_FAILED)
    run.rule.error = None
    assert run.tick() == "rule"
    assert run.planned == RULE
    assert [(event["alarm"], event["is_on"]) for event in run.of("alarm")] == [
        ("rule_error", True),
        ("rule_error", False),
    ]
    assert run.of("alarm")[0]["detail"] == "RuntimeError: no idea"


def test_rule_that_raises_takes_nothing_from_the_policy():
    run = Run()
    run.rule.error = RuntimeError("no idea")
    assert run.ticks(2) == ["policy", "policy"]
    assert run.planned == POLICY
    assert "rule_error" in run.supervisor.status()["alarms"]


def test_policy_that_plans_what_cannot_be_served_hands_back():
    def refuse(plan):
        raise UsageError("plan.cascade_variant: expected no cascade")

    run = Run(check=refuse)
    assert run.tick() == "rule"
    assert "expected no cascade" in run.supervisor.fault


def test_policy_whose_output_is_no_number_hands_back():
    run = Run()
    run.policy.raw = np.full((1, 1), np.nan)
    assert run.tick() == "rule"
    assert "expected finite numbers" in run.supervisor.fault


def test_policy_that_ends_the_process_ends_its_own_trust_alone():
    run = Run()
    run.policy.error = SystemExit(1)
    assert run.tick() == "rule"
    assert "SystemExit" in run.supervisor.fault


def test_policy_that_hangs_is_left_behind_within_its_deadline():
    policy = Hanging(POLICY)
    run = Run(policy=policy, decide_timeout_s=0.05)
    assert run.tick() == "rule"
    assert run.planned == RULE
    (lost,) = run.of("policy")
    assert lost["reason"] == "timeout"
    policy.let_go.set()
    assert run.tick() == "rule"  # its late answer is nobody's


def test_inputs_outside_the_training_range_hand_back_after_the_ticks_asked_for():
    policy = Shown(POLICY)
    run = Run(policy=policy, drift={"ticks": 2, "margin": 0.5, "share": 0.5})
    policy.shown = 1.4  # within the margin of half a range
    assert run.ticks(3) == ["policy"] * 3
    policy.shown = 1.6
    assert run.ticks(2) == ["policy", "rule"]
    assert "100% of the policy's inputs are outside" in run.of("drive")[0]["reason"]


def test_changed_policy_file_hands_back_until_it_is_what_it_was(tmp_path):
    path = tmp_path / "policy.provisor"
    path.write_bytes(b"weights")
    run = Run(fault_quiet_s=20.0)
    run.supervisor.watch({path: hashlib.sha256(b"weights").hexdigest()})
    assert run.tick() == "policy"
    path.write_bytes(b"other!!")  # as long as before
    assert run.tick() == "rule"
    assert run.of("alarm")[0]["alarm"] == "hash_mismatch"
    path.write_bytes(b"weights")
    assert run.ticks(3) == ["rule", "policy", "policy"]
    path.unlink()
    assert run.tick() == "rule"


def test_policy_drives_again_after_the_quiet_time_and_not_before():
    run = Run(quiet_s=60.0)
    run.tick()
    run.tick(stale_ticks=1)
    run.tick(stale_ticks=2)
    # The last alarm was on tick 3, so tick 9 is the first that is 60 s later.
    assert run.ticks(6) == ["rule"] * 5 + ["policy"]
    last = run.of("drive")[-1]
    assert (last["driver"], last["reason"]) == ("policy", "quiet for 60 s")
    assert [(event["alarm"], event["is_on"]) for event in run.of("alarm")] == [
        ("stale_metrics", True),
        ("stale_metrics", False),
    ]


def test_metrics_that_come_and_go_do_not_move_the_mode():
    run = Run(quiet_s=60.0)
    for _ in range(50):
        run.tick(stale_ticks=1)
        run.ticks(4)
    # Every alarm comes before the quiet time is over.
    assert len(run.of("drive")) == 1


def test_alarms_just_after_each_return_ask_for_twice_the_quiet_each_time():
    run = Run(quiet_s=60.0, settle_s=600.0, max_backoff=4)
    waits = []
    for _ in range(4):
        assert run.tick(stale_ticks=1) == "rule"
        waits.append(0)
        while run.tick() == "rule":
            waits[-1] += 1
    assert waits == [5, 11, 23, 23]


def test_policy_that_failed_waits_the_longer_time_for_a_fresh_one():
    run = Run(quiet_s=20.0, fault_quiet_s=60.0)
    run.policy.error = ValueError("x")
    run.tick()
    run.ticks(5)
    assert not run.supervisor.is_retry_due
    run.tick()
    assert run.supervisor.is_retry_due
    run.supervisor.retry_failed("still broken")
    assert not run.supervisor.is_retry_due
    run.ticks(12)  # twice the time
    assert run.supervisor.is_retry_due
    fresh = DecisionLoop(run.setting, Fixed(POLICY))
    run.supervisor.install(fresh, PolicyEntry("fixed", "fixed"), "retry", {})
    assert run.tick() == "policy"
    assert run.supervisor.fault == ""


def test_shadow_is_the_rules_and_journals_the_policys_decision_beside():
    run = Run(Mode.SHADOW)
    assert run.tick() == "rule"
    assert run.planned == RULE
    assert run.is_marked
    (beside,) = run.of("beside")
    assert beside["by"] == "policy"
    assert beside["plan"]["replicas"][1] == [POLICY]


def test_replay_is_the_policys_with_the_rules_beside_whatever_the_alarms_say():
    run = Run(Mode.REPLAY)
    assert run.tick(stale_ticks=1) == "policy"
    assert run.planned == POLICY
    assert run.of("alarm")[0]["alarm"] == "stale_metrics"
    (beside,) = run.of("beside")
    assert (beside["by"], beside["plan"]["replicas"][1]) == ("rule", [RULE])


def test_canary_is_held_near_the_rule():
    run = Run(Mode.CANARY, canary_share=0.2, canary_least=1)
    assert run.tick() == "canary"
    # A fifth of 7 is 1: within 6 to 8.
    assert run.planned == RULE - 1
    assert not run.is_marked
    assert run.tick(stale_ticks=1) == "rule"


def test_rule_sees_every_tick_whoever_drives():
    run = Run()
    run.ticks(3)
    run.tick(stale_ticks=1)
    assert run.rule.asked == 4


def test_mode_set_by_hand_acts_from_the_next_tick_and_ends_a_probation():
    run = Run(quiet_s=6000.0)
    run.tick(stale_ticks=1)
    assert run.tick() == "rule"
    run.supervisor.set_mode(Mode.CANARY)
    assert run.tick() == "canary"
    assert run.of("mode") == [{"mode": "canary", "from": "active", "by": "operator"}]
    run.supervisor.set_mode(Mode.ACTIVE)
    assert run.tick(stale_ticks=1) == "rule"  # no hand is above an alarm


class Adjustable(Fixed):
    """A policy with a dial: it plans as many replicas as latency weighs."""

    def set_preferences(self, preferences):
        self.replicas = int(preferences.weight_latency)


def test_preferences_turn_the_dial_from_the_next_tick_on_and_of_every_policy_after():
    run = Run(policy=Adjustable(POLICY))
    run.tick()
    with pytest.raises(ConfigError, match="weight_latency"):
        run.supervisor.set_preferences({"weight_latency": -1})
    wanted = {"target_attainment": None, "weight_cost": 1.0, "weight_latency": 6.0, "weight_accuracy": 1.0}
    assert run.supervisor.set_preferences({"weight_latency": 6.0}) == wanted
    run.tick()
    assert run.planned == 6
    assert run.of("preferences") == [wanted]
    run.supervisor.install(DecisionLoop(run.setting, Adjustable(POLICY)), PolicyEntry("new", "new"), "push", {})
    run.tick()
    assert run.planned == 6
    run.supervisor.install(DecisionLoop(run.setting, Fixed(POLICY)), PolicyEntry("old", "old"), "push", {})
    run.tick()
    assert run.planned == POLICY
    with pytest.raises(UsageError, match="preferences: expected a policy with a preference dial .*, got 'fixed'"):
        run.supervisor.set_preferences({"weight_latency": 6.0})


def test_policy_that_was_pushed_decides_from_the_next_tick():
    run = Run()
    run.tick()
    run.policy.error = ValueError("x")
    run.tick()
    run.supervisor.install(DecisionLoop(run.setting, Fixed(2)), PolicyEntry("new", sha256="0" * 64), "push", {})
    assert run.tick() == "policy"
    assert run.planned == 2
    pushed = run.of("policy")[-1]
    assert (pushed["why"], pushed["name"], pushed["sha256"]) == ("push", "new", "0" * 64)


def test_impossible_numbers_never_reach_a_decision_and_heal_at_their_source():
    run = Run()
    run.tick(day_spend_usd=3.0)
    run.tick(day_spend_usd=np.nan)
    assert run.observation.day_spend_usd[0].tolist() == [3.0] * 6


def test_state_survives_a_restart_whose_clock_begins_anew():
    run = Run(quiet_s=60.0)
    run.tick()
    run.tick(stale_ticks=1)
    run.ticks(2)
    again = Run(quiet_s=60.0)
    again.supervisor.restore(run.supervisor.state())
    # 20 s of 60 had passed when the state was taken; the new clock stands at 0 then.
    assert again.ticks(4) == ["rule", "rule", "rule", "policy"]
    assert again.of("trust")[0]["driver"] == "rule"


def test_misses_before_a_restart_still_count_after_it():
    run = Run()
    run.ticks(3, arrivals=100, missed=4)  # four times what is allowed: no alarm yet
    again = Run()
    again.supervisor.restore(run.supervisor.state())
    assert again.supervisor.state()["windows"]["slo"][-1] == run.supervisor.state()["windows"]["slo"][-1]


@settings(max_examples=60)
@given(
    faults=st.lists(st.sampled_from(["", "", "", "stale", "nan", "burst", "drift"]), min_size=1, max_size=80),
    quiet_ticks=st.integers(1, 12),
)
def test_whatever_comes_the_rule_drives_every_alarm_and_hands_back_after_quiet_alone(faults, quiet_ticks):
    policy = Shown(POLICY)
    run = Run(policy=policy, quiet_s=10.0 * quiet_ticks, drift={"ticks": 1}, slo_burn={"pairs": (SHORT_PAIR,)})
    quiet = quiet_ticks  # ticks since the last alarm; the run begins trusted
    for fault in faults:
        policy.shown = 9.0 if fault == "drift" else 0.5
        fields = {"nan": {"spend_usd": np.nan}, "burst": {"arrivals": 50, "missed": 50}}.get(fault, {})
        driver = run.tick(stale_ticks=int(fault == "stale"), **fields)
        quiet = 0 if run.supervisor.alarms else quiet + 1
        if fault:
            assert run.supervisor.alarms
        if driver == "policy":
            assert quiet >= quiet_ticks
        else:
            assert quiet <= 8 * quiet_ticks  # the largest back-off
        assert run.is_marked == (driver == "rule")
    # The events alone say who drove: each change is told once.
    assert len(run.of("drive")) == sum(a != b for a, b in zip(["policy", *run.drivers], run.drivers, strict=False))
