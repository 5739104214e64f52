from controller.compile import compile_scenario
from controller.scenario import load_scenario
from experiments.live_spans import measured_on
from serving.app import layout_of


def test_spans_are_measured_where_a_replica_may_run():
    setting = compile_scenario(load_scenario("demo"))
    layout, pools = layout_of(setting), setting.pool_names
    assert [pools[o % len(pools)] for o in measured_on(layout, setting)] == ["c5-large", "c5-large-spot"]
    setting.limits.pool_max[pools.index("c5-large-spot")] = 0
    assert [pools[o % len(pools)] for o in measured_on(layout, setting)] == ["c5-large", "c5-xlarge"]
    setting.limits.pool_max[:] = 0
    assert measured_on(layout, setting) == []
