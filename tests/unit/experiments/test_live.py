from pathlib import Path

import numpy as np
import pytest
import yaml

from controller.config import read_yaml
from controller.errors import ScenarioError, UsageError
from controller.journal import MeasuredSpans
from envs.world import WorldChoice
from experiments.live import MOST_RPS, LiveOptions, live_world, setting_at_speed, speeded
from experiments.show_live import parse_models

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
