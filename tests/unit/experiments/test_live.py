import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from controller.config import read_yaml
from controller.errors import ScenarioError, UsageError
from controller.policies.policy_file import save_policy_file
from controller.policies.registry import SHIPPED
from controller.scenario import MeasuredSpans
from controller.trust.mode import Mode
from envs.world import WorldChoice
from experiments.compared_run import Stretch
from experiments.live import MOST_RPS, LiveOptions, live_world, setting_at_speed, speeded, who_drove
from experiments.live_trust import trust_spec
from experiments.serve_commands import _mode
from experiments.show_live import parse_models
from tests.networks import make_content

TINY = Path(__file__).resolve().parents[3] / "controller" / "scenarios" / "tiny.yaml"


def options(**changes):
    return LiveOptions(**{"scenario": "tiny", "speed": 20.0, **changes})


def test_control_time_shrinks_and_service_times_stay():
    slow, fast = (setting_at_speed(speeded(options(speed=s)), MeasuredSpans(start_s=2, swap_s=3)) for s in (1.0, 20.0))
    assert fast.control.tick_s == slow.control.tick_s / 20
    assert fast.catalog.launch_s == pytest.approx(slow.catalog.launch_s / 20)
    assert fast.catalog.price_usd_per_s == pytest.approx(slow.catalog.price_usd_per_s * 20)
    assert np.array_equal(fast.catalog.service_s, slow.catalog.service_s)
    assert fast.catalog.load_s[fast.catalog.usable].tolist() == slow.catalog.load_s[slow.catalog.usable].tolist()
    assert set(fast.catalog.swap_s[fast.catalog.usable]) == {3.0}


def test_live_run_measures_anew_what_its_scenario_says_was_measured():
    scenario = speeded(options()).model_copy(update={"measured": MeasuredSpans(start_s=7.0, swap_s=7.0)})
    before, after = (setting_at_speed(scenario, spans) for spans in (None, MeasuredSpans(start_s=2.0, swap_s=3.0)))
    assert set(before.catalog.load_s[before.catalog.usable]) == {0.0}
    assert set(after.catalog.load_s[after.catalog.usable]) == {2.0}
    assert after.catalog.launch_s == pytest.approx(setting_at_speed(speeded(options()), None).catalog.launch_s)


@pytest.mark.parametrize(
    ("text", "is_dry_run", "mode"),
    [(None, False, None), ("canary", False, Mode.CANARY), (None, True, Mode.REPLAY), ("replay", True, Mode.REPLAY)],
)
def test_dry_run_is_the_replay_mode(text, is_dry_run, mode):
    assert _mode(text, is_dry_run) is mode


@pytest.mark.parametrize(("text", "is_dry_run"), [("on", False), ("active", True)])
def test_mode_that_does_not_exist_or_contradicts_is_refused(text, is_dry_run):
    with pytest.raises(UsageError, match="--mode: expected"):
        _mode(text, is_dry_run)


def test_run_begins_in_the_mode_of_the_last_one_and_keeps_its_token(tmp_path):
    asked = options(out=tmp_path, policy="mpc", mode=Mode.CANARY)
    setting = setting_at_speed(speeded(asked), None)
    said = []
    spec, token = trust_spec(asked, setting, True, said.append)
    assert (spec.mode, spec.original, spec.admin.host) == (Mode.CANARY, "", "127.0.0.1")
    assert spec.admin.token_sha256 == hashlib.sha256(token.read_text().strip().encode()).hexdigest()
    kept = {"mode": "shadow", "identity": ["mpc"]}
    (tmp_path / "trust.json").write_text(json.dumps(kept))
    again, _ = trust_spec(options(out=tmp_path, policy="mpc"), setting, True, said.append)
    assert (again.mode, again.admin) == (Mode.SHADOW, spec.admin)
    assert said == ["mode canary: asked for", "mode shadow: kept from the last run"]
    assert trust_spec(options(out=tmp_path, has_admin=False), setting, True, said.append)[0].admin is None


def test_policy_that_never_saw_such_a_catalog_begins_in_shadow(tmp_path):
    asked = options(out=tmp_path / "run", policy=str(tmp_path / "new.provisor"))
    setting = setting_at_speed(speeded(asked), None)
    save_policy_file(asked.policy, make_content(setting, catalog="any", catalog_sha256="0" * 64))
    spec, _ = trust_spec(asked, setting, True, lambda line: None)
    assert (spec.mode, spec.original) == (Mode.SHADOW, asked.policy)
    save_policy_file(asked.policy, make_content(setting, catalog="any"))
    assert trust_spec(asked, setting, True, lambda line: None)[0].mode is Mode.ACTIVE


def test_run_that_names_no_policy_begins_with_the_shipped_one_in_shadow(tmp_path):
    asked = options(out=tmp_path)
    said = []
    spec, _ = trust_spec(asked, setting_at_speed(speeded(asked), None), True, said.append)
    assert (asked.policy, spec.original) == ("generalist", str(SHIPPED))
    assert said == ["mode shadow: the policy never saw a catalog of this structure"]


def test_run_in_which_the_rule_drove_is_held_beside_the_simulated_rule():
    asked = options(policy="generalist", rule="reactive")
    assert who_drove(asked, 0.99) == ("generalist", "generalist")
    assert who_drove(asked, 1.0) == ("reactive", "reactive in place of generalist")


def test_run_that_names_no_rule_hands_back_to_the_one_behind_its_policy():
    assert who_drove(options(), 1.0)[1] == "rule of generalist in place of generalist"
    assert options(policy="static").named_rule == "mpc"
    assert options(rule="reactive").named_rule == "reactive"


def test_rate_is_thinned_to_the_live_budget_and_the_scale_says_so():
    asked = options(is_replaying=True, duration_s=60.0, choice=WorldChoice(scale=1e-9), start_hour=9.0)
    scenario = speeded(asked)
    setting = setting_at_speed(scenario, None)
    quiet = live_world(scenario, asked, setting)
    busy_scale = 1e-9 * 1000 / quiet.rate_rps[0, :1000].max()
    busy = live_world(
        scenario, options(is_replaying=True, duration_s=60.0, choice=WorldChoice(scale=busy_scale)), setting
    )
    assert quiet.scale == 1e-9
    assert busy.scale < busy_scale
    begin = int(busy.start_s(busy.cells([0]))[0] / busy.bin_s)
    served = busy.rate_rps[0, begin : begin + int(60 / busy.bin_s) + 1]
    assert served.max() == pytest.approx(MOST_RPS)


def test_start_hour_cuts_the_trace():
    scenario = speeded(options())
    setting = setting_at_speed(scenario, None)
    whole = live_world(scenario, options(), setting)
    cut = live_world(scenario, options(start_hour=6.0), setting)
    skipped = round(6 * 3600 / 20 / whole.bin_s)
    length = cut.rate_rps.shape[1]
    assert cut.rate_rps[0] / cut.scale == pytest.approx((whole.rate_rps[0] / whole.scale)[skipped : skipped + length])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"speed": 0.0}, "--speed"),
        ({"speed": float("nan")}, "--speed"),
        ({"duration_s": -1.0}, "--duration"),
        ({"is_replaying": True}, "--duration"),
        ({"start_hour": 24.0}, "--start-hour"),
    ],
)
def test_options_out_of_range_are_named(changes, text):
    with pytest.raises(UsageError, match=text):
        speeded(options(**changes))


@pytest.mark.parametrize("terms", ["node_terms", "function_terms"])
def test_what_is_bought_takes_the_time_it_takes_whoever_names_the_speed(terms):
    with pytest.raises(ScenarioError, match="speed: expected 1 with aws.*, got 20"):
        speeded(options(scenario=Stretch().scenario, speed=1.0, **{terms: object()}))


def test_several_routers_are_not_served_live(tmp_path):
    document = read_yaml(TINY)
    document["control"] = {"routers": 2}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ScenarioError, match=r"^control\.routers: expected 1 for a live run, which has one, got 2$"):
        speeded(options(scenario=str(path)))


def test_duration_beyond_the_trace_is_refused():
    asked = options(is_replaying=True, duration_s=1e6)
    scenario = speeded(asked)
    with pytest.raises(UsageError, match="expected at most"):
        live_world(scenario, asked, setting_at_speed(scenario, None))


def test_models_are_read_from_options():
    assert parse_models(["a=m:f", "b=m.n:g"]) == {"a": "m:f", "b": "m.n:g"}
    for wrong in (["a"], ["a=m"], ["=m:f"], ["a=m:f", "a=m:g"]):
        with pytest.raises(UsageError, match="--model"):
            parse_models(wrong)
