"""What is asked of Serve and of the router for an application that is attached to, without either."""

import asyncio

import numpy as np
import pytest

from controller.arrays import empty_actions, empty_plan
from serving import ray_compat
from serving.actuator import RayServe
from serving.app import Layout
from serving.attached_fleet import attached_fleet
from serving.fleet import Phase
from serving.metrics import ObservationBuilder
from tests.unit.serving.drivers import RELAXED, AuditDriver
from tests.unit.serving.shells import cascade_of, tiered_setting
from tests.unit.serving.worlds import LARGE_OD, LARGE_SPOT, SMALL_OD, setting

NAMES = {SMALL_OD: "resnet-small", LARGE_SPOT: "resnet-large"}
SHAPE = (2, 3, 2)


class Method:
    """An actor's method: `remote` gives what can be awaited."""

    def __init__(self, function):
        self.function = function

    def remote(self, *arguments):
        async def call():
            return self.function(*arguments)

        return call()


class Serve:
    """Serve's controller and the router, as far as they are called."""

    def __init__(self):
        self.targets = {"resnet-small": 1, "resnet-large": 0, "gate": 1}
        self.asked, self.rules, self.gone = [], [], set()
        self.get_serve_instance_details = Method(self._details)
        self.update_deployment_replicas = Method(self._update)
        self.set_rules = Method(self.rules.append)

    def _details(self):
        def replicas(name, count):
            return [{"actor_name": f"{name}-{i}", "state": "RUNNING", "start_time_s": 0.0} for i in range(count)]

        found = {n: {"replicas": replicas(n, c)} for n, c in self.targets.items() if n not in self.gone}
        return {"applications": {"theirs": {"deployments": found}, "provisor": {"deployments": {}}}}

    def _update(self, identity, count):
        assert identity.app_name == "theirs"
        if identity.name in self.gone:
            raise ValueError(f"Deployment {identity.name} not found")
        self.asked.append((identity.name, count))
        self.targets[identity.name] = count


class World:
    def __init__(self, monkeypatch, is_holding):
        self.serve, self.now_s = Serve(), 0.0
        monkeypatch.setattr(ray_compat, "deployment_handle", lambda name, app: self.serve)
        monkeypatch.setattr(ray_compat, "serve_controller", lambda: self.serve)
        made = setting()
        self.fleet = attached_fleet(made, 0, is_holding=is_holding)
        layout = Layout(NAMES, {}, app="theirs")
        builder, clock = ObservationBuilder(made), lambda: self.now_s
        self.world = RayServe(made, layout, "provisor", self.fleet, builder, clock)
        self.world.is_holding = is_holding
        replicas = np.zeros(SHAPE[:2], np.int64)
        replicas[0, 0] = 1
        self.fleet.begin(replicas, 0.0)

    def follow(self, **how):
        return asyncio.run(self.world.follow(**how))

    def apply(self, **counts):
        actions = empty_actions(1, SHAPE)
        for name, entries in counts.items():
            for at, count in entries.items():
                getattr(actions, name)[(0, *at)] = count
        self.world.apply(actions, empty_plan(1, SHAPE), np.zeros((1, 2, 2, 3)))


@pytest.fixture
def acting(monkeypatch):
    return World(monkeypatch, is_holding=False)


@pytest.fixture
def watching(monkeypatch):
    return World(monkeypatch, is_holding=True)


def test_demotion_that_a_router_tells_is_in_the_rules_of_one_that_starts_anew(acting):
    driver = AuditDriver(tiered_setting(), says=lambda variant: variant)
    driver.use({SMALL_OD: 1, LARGE_OD: 1}, **cascade_of(RELAXED))
    while not driver.reading().demotions:
        driver.arrive(RELAXED)
        driver.until(driver.now_s + 1.0)
    acting.serve.stats = Method(lambda: driver.core.stats(driver.now_s))
    acting.apply()
    assert acting.world.rules().demotions == ()
    assert asyncio.run(acting.world.read())
    (demotion,) = acting.world.rules().demotions
    assert demotion.request_class == RELAXED
    ((kind, fields),) = acting.world.demotions.news()
    assert (kind, fields["request_class"], fields["reason"]) == ("tier_demoted", "relaxed", demotion.reason)
    again = RayServe(setting(), Layout(NAMES, {}), "provisor", acting.fleet, ObservationBuilder(setting()), float)
    again.restore(acting.world.snapshot(), np.zeros((2, 360)))
    assert again.demotions.all == (demotion,)


def test_first_targets_are_those_that_stand(acting):
    assert acting.follow(is_first=True)
    assert acting.serve.targets == {"resnet-small": 1, "resnet-large": 0, "gate": 1}
    assert acting.world.is_settled()


def test_targets_of_mapped_deployments_alone_are_set(acting):
    acting.follow(is_first=True)
    acting.apply(launch={(0, 0): 1, (1, 1): 2})
    acting.now_s = 1.0
    acting.follow()
    assert acting.serve.targets == {"resnet-small": 2, "resnet-large": 2, "gate": 1}
    assert {name for name, _ in acting.serve.asked} == set(NAMES.values())


def test_the_cluster_is_asked_for_the_nodes_of_the_targets_and_released_while_decisions_are_held(acting):
    asked = []

    class Demand:
        async def follow(self, targets):
            asked.append(dict(targets))

    acting.world._demand = Demand()
    acting.follow(is_first=True)
    acting.apply(launch={(1, 1): 2})
    acting.now_s = 1.0
    acting.follow()
    acting.world.is_holding = True
    acting.follow()
    assert asked == [
        {"resnet-small": 1, "resnet-large": 0},
        {"resnet-small": 1, "resnet-large": 2},
        {},
    ]


def test_target_that_somebody_resets_is_set_again_within_seconds(acting):
    acting.follow(is_first=True)
    acting.apply(launch={(0, 0): 1})
    acting.follow()
    acting.serve.targets["resnet-small"] = 1  # a redeploy
    for second in range(1, 6):
        acting.now_s = float(second)
        acting.follow()
    assert acting.serve.targets["resnet-small"] == 2


def test_deployment_that_is_gone_for_a_while_keeps_no_other_from_its_target(acting):
    acting.follow(is_first=True)
    acting.serve.gone.add("resnet-small")
    acting.apply(launch={(1, 1): 1})
    acting.now_s = 6.0  # all targets are due
    assert not acting.follow()
    assert acting.serve.targets["resnet-large"] == 1
    acting.serve.gone.clear()
    acting.serve.targets["resnet-small"] = 3
    acting.now_s = 6.2  # they are tried again at once
    assert acting.follow()
    assert acting.serve.targets["resnet-small"] == 1


def test_application_that_is_gone_does_not_stop_the_following(acting):
    acting.follow(is_first=True)
    acting.serve.gone |= set(acting.serve.targets)
    acting.now_s = 6.0
    assert not acting.follow()
    assert acting.fleet.counts(Phase.SERVING).sum() == 0
    acting.serve.gone.clear()
    acting.now_s = 7.0
    assert acting.follow()
    assert acting.fleet.counts(Phase.SERVING)[0, 0] == 1


def test_dry_run_asks_nothing_of_serve_from_the_first(watching):
    watching.follow(is_first=True)
    watching.apply(launch={(0, 0): 2})
    watching.now_s = 10.0
    watching.follow()
    assert watching.serve.asked == []


def test_dry_run_routes_to_replicas_that_others_start(watching):
    watching.follow(is_first=True)
    watching.apply()
    watching.follow()
    watching.serve.targets["resnet-small"] = 3
    watching.now_s = 1.0
    watching.follow()
    assert watching.serve.rules[-1].serving[SMALL_OD] == 3
    watching.apply()
    watching.follow()
    first, last = watching.serve.rules[0], watching.serve.rules[-1]
    assert last.sequence > first.sequence
