import asyncio

from serving.attached import replica_needs
from serving.node_demand import Bundle, NodeDemand, ReplicaNeeds, bundles_of
from tests.unit.serving.clusters import survey
from tests.unit.serving.test_attach_checks import mapping

NEEDS = {"a": ReplicaNeeds({"CPU": 2.0}, {"pool": "od"}), "b": ReplicaNeeds({"GPU": 1.0}, {})}


class Autoscaler:
    """Takes requests, unless it is away."""

    def __init__(self):
        self.asked, self.now_s, self.is_away = [], 0.0, False
        self.demand = NodeDemand(NEEDS, self.ask, lambda: self.now_s)

    def ask(self, bundles):
        if self.is_away:
            raise ConnectionError("away")
        self.asked.append(list(bundles))

    def follow(self, **targets):
        asyncio.run(self.demand.follow(targets))


def test_every_replica_is_a_bundle_with_its_labels():
    assert bundles_of({"b": 1, "a": 2, "unknown": 3}, NEEDS) == [
        Bundle({"CPU": 2.0}, {"pool": "od"}),
        Bundle({"CPU": 2.0}, {"pool": "od"}),
        Bundle({"GPU": 1.0}, {}),
    ]


def test_the_full_demand_is_asked_for_when_it_changes_and_now_and_then():
    ray = Autoscaler()
    ray.follow(a=1, b=0)
    ray.follow(a=1, b=0)
    assert len(ray.asked) == 1
    ray.follow(a=1, b=1)
    assert ray.asked[-1] == bundles_of({"a": 1, "b": 1}, NEEDS)
    ray.now_s = 31.0  # somebody else may have asked meanwhile
    ray.follow(a=1, b=1)
    assert len(ray.asked) == 3


def test_demand_is_given_up_once():
    ray = Autoscaler()
    ray.follow(a=1)
    ray.follow()
    ray.now_s = 100.0  # from then on the request is somebody else's
    ray.follow()
    assert ray.asked[1:] == [[]]


def test_a_request_that_was_lost_is_made_again():
    ray = Autoscaler()
    ray.is_away = True
    ray.follow(a=1)
    assert ray.asked == []
    ray.is_away = False
    ray.follow(a=1)
    assert len(ray.asked) == 1


def test_a_replica_needs_its_resources_on_a_node_of_its_pool():
    def sized(found):
        found["applications"]["theirs"]["deployments"]["resnet-small"]["required_resources"] = {"CPU": 1.0, "GPU": 0.0}

    needs = replica_needs(mapping(), survey(sized).apps["theirs"])
    assert needs == {
        "resnet-small": ReplicaNeeds({"CPU": 1.0}, {"ray.io/market-type": "on-demand"}),
        "resnet-large": ReplicaNeeds({"CPU": 1.0}, {"ray.io/market-type": "spot"}),
    }
