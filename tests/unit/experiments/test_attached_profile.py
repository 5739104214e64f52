import asyncio

import pytest

from controller.catalog import Catalog
from controller.config import parse_config
from controller.errors import RunError, UsageError
from experiments.attached_profile import (
    Probe,
    Probed,
    judge_calls,
    probe_of,
    time_calls,
    time_starts,
    with_probed,
)
from experiments.fitting import Estimate
from experiments.placeholders import placeholder, placeholders_in
from experiments.profiling import Inputs
from serving.mapping import MappedDeployment
from tests.unit.serving.worlds import catalog

BATCH = MappedDeployment(variant="small", pool="od", method="predict", input="batch")
SINGLE = MappedDeployment(variant="small", pool="od")


def probe(**changes):
    fields = {"deployment": "resnet", "mapped": BATCH, "sizes": (1, 4), "concurrency": 1, "replicas": 1}
    return Probe(**{**fields, "repeats": 3, "warmup": 1, **changes})


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Model:
    """Takes 0.1 s and 0.02 s an item, on a clock of its own; counts what is in flight."""

    def __init__(self, clock):
        self.clock, self.batches, self.in_flight, self.most = clock, [], 0, 0

    async def infer(self, batch, limit_s):
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self.batches.append(batch)
        await asyncio.sleep(0)
        if self.in_flight == 1:
            self.clock.now_s += 0.1 + 0.02 * len(batch)
        self.in_flight -= 1
        return [value % 2 for value in batch]


def test_each_size_is_timed_as_often_and_warm_up_is_not():
    clock = Clock()
    model = Model(clock)
    found = asyncio.run(time_calls(model, list(range(8)), probe(), clock))
    assert {size: len(times) for size, times in found.items()} == {1: 3, 4: 3}
    assert len(model.batches) == 8  # a round of warm-up and three timed ones
    assert found[1] == pytest.approx([0.12] * 3)
    assert found[4] == pytest.approx([0.18] * 3)


def test_inputs_are_taken_in_turn():
    clock = Clock()
    model = Model(clock)
    asyncio.run(time_calls(model, [0, 1, 2], probe(sizes=(4,), repeats=1, warmup=0), clock))
    assert model.batches == [[0, 1, 2, 0]]


def test_as_many_batches_are_in_flight_as_the_running_replicas_have_credits():
    clock = Clock()
    model = Model(clock)
    found = asyncio.run(time_calls(model, [1], probe(concurrency=2, replicas=3, sizes=(1,), repeats=8), clock))
    assert model.most == 6
    assert len(found[1]) == 12  # two rounds of six: at least eight


def test_call_that_fails_names_deployment_and_size():
    class Broken:
        async def infer(self, batch, limit_s):
            raise KeyError("no such input")

    with pytest.raises(RunError, match="resnet: expected answers to batches of (1|4), got KeyError"):
        asyncio.run(time_calls(Broken(), [1], probe()))


def profile_of(batch_max=4, concurrency=2):
    (found,) = (p for p in catalog().profiles if (p.variant, p.pool) == ("small", "od"))
    return found.model_copy(update={"batch_max": batch_max, "concurrency": concurrency})


def asked(mapped=BATCH, replicas=1, batch_max=4, sizes=None, concurrency=None):
    return probe_of(
        "resnet", mapped, profile_of(batch_max), replicas, sizes=sizes, concurrency=concurrency, repeats=5, warmup=0
    )


@pytest.mark.parametrize(("batch_max", "sizes"), [(1, (1,)), (4, (1, 2, 4)), (6, (1, 2, 4)), (8, (1, 2, 4, 8))])
def test_sizes_are_powers_of_two_up_to_the_profile(batch_max, sizes):
    assert asked(batch_max=batch_max).sizes == sizes


def test_what_is_asked_for_goes_before_the_profile():
    assert (asked(sizes=[3]).sizes, asked(concurrency=5).concurrency, asked().concurrency) == ((3,), 5, 2)


def test_batches_of_single_inputs_need_a_lone_replica():
    assert asked(SINGLE, replicas=1).sizes == (1, 2, 4)
    assert asked(SINGLE, replicas=3, sizes=[1]).replicas == 3
    with pytest.raises(UsageError, match="resnet: expected one running replica"):
        asked(SINGLE, replicas=3)
    with pytest.raises(UsageError, match="resnet: expected a replica that runs"):
        asked(replicas=0)


class Replicas:
    """A deployment whose replicas start after a number of looks at it."""

    def __init__(self, clock, looks=3, room=10):
        self.clock, self.looks, self.room = clock, looks, room
        self.target = self.now = 1
        self.left, self.targets = 0, []

    async def set_target(self, count):
        self.target, self.left = count, self.looks
        self.targets.append(count)

    async def running(self):
        self.clock.now_s += 1.0
        self.left -= 1
        if self.left <= 0:
            self.now = min(self.target, self.room)
        return self.now


def starts(replicas, repeats=2, timeout_s=20.0):
    return asyncio.run(time_starts(replicas.running, replicas.set_target, 1, repeats, timeout_s, replicas.clock))


@pytest.fixture
def _no_waiting(monkeypatch):
    monkeypatch.setattr("experiments.attached_profile._POLL_S", 0.0)


@pytest.mark.usefixtures("_no_waiting")
def test_start_is_timed_from_asking_to_running_and_the_target_is_set_back():
    replicas = Replicas(Clock())
    assert starts(replicas) == (3.0, 3.0)  # three looks of a second each
    assert replicas.targets == [2, 1, 2, 1, 1]


@pytest.mark.usefixtures("_no_waiting")
def test_without_room_the_target_is_set_back_all_the_same():
    replicas = Replicas(Clock(), room=1)
    with pytest.raises(RunError, match="replicas that run: expected 2 within 20 s, got 1"):
        starts(replicas)
    assert replicas.targets == [2, 1]


def test_accuracy_is_the_share_of_labels_that_outputs_equal():
    model = Model(Clock())
    inputs = Inputs(list(range(8)), [0, 1, 0, 1, 0, 1, 9, 9], "made up")
    assert asyncio.run(judge_calls(model, inputs, probe())) == Estimate(0.75, pytest.approx(0.1531, abs=1e-4), 8)
    assert asyncio.run(judge_calls(model, inputs._replace(labels=None), probe())) is None
    with pytest.raises(UsageError, match="--input: expected labels"):
        asyncio.run(judge_calls(model, inputs._replace(labels=["x"] * 8), probe()))


def probed(**changes):
    services_s = {1: (0.1, 0.12, 0.14), 4: (0.2, 0.22, 0.24)}
    fields = {"probe": probe(concurrency=3), "services_s": services_s, "starts_s": (4.0, 6.0), "accuracy": None}
    return Probed(**{**fields, "where": "pool od, a node with 2 CPU", **changes})


def entered(one, whole=None):
    document = with_probed(whole or catalog(), [one])
    found = parse_config(document, Catalog, "catalog")
    (profile,) = (p for p in found.profiles if (p.variant, p.pool) == ("small", "od"))
    return found, profile


def test_what_was_measured_is_in_the_catalog_with_its_source():
    found, profile = entered(probed())
    assert {size: figure.value for size, figure in profile.service_by_batch_s.items()} == {1: 0.12, 4: 0.22}
    assert (
        "3 calls of it at once on each of 1 replicas; pool od, a node with 2 CPU"
        in profile.service_by_batch_s[1].measured
    )
    assert (profile.batch_max, profile.concurrency) == (4, 3)
    assert (profile.load_s.value, profile.swap_s.value) == (5.0, 5.0)
    assert profile.load_s.measured.startswith("asked for to running, mean of 2 starts (4 to 6 s)")
    # (0.22 - 0.12) / 3 a batch item.
    assert profile.service_slope_s.value == pytest.approx(0.1 / 3, rel=1e-3)
    others = [p for p in found.profiles if (p.variant, p.pool) != ("small", "od")]
    assert others == [p for p in catalog().profiles if (p.variant, p.pool) != ("small", "od")]


def test_what_was_not_measured_stays():
    found, profile = entered(probed(starts_s=()))
    assert profile.load_s == profile_of().load_s
    assert found.variants == catalog().variants
    labelled, _ = entered(probed(accuracy=Estimate(0.75, 0.15, 8)))
    assert labelled.variants[0].accuracy.value == 0.75
    assert labelled.variants[0].accuracy.measured.startswith("8 labelled inputs")


def test_placeholders_are_gone_where_something_was_measured():
    document = catalog().model_dump(mode="json", exclude_unset=True)
    for profile in document["profiles"]:
        if profile["variant"] == "small" and profile["pool"] == "od":
            profile |= {name: placeholder(1.0, "measure") for name in ("service_slope_s", "load_s", "swap_s")}
    document["pools"][0]["price_usd_per_hour"] = placeholder(1.0, "ask")
    whole = parse_config(document, Catalog, "catalog")
    assert sorted(placeholders_in(whole)) == [
        "pools[od].price_usd_per_hour",
        "profiles[small on od].load_s",
        "profiles[small on od].service_slope_s",
        "profiles[small on od].swap_s",
    ]
    found, _ = entered(probed(), whole)
    assert placeholders_in(found) == ["pools[od].price_usd_per_hour"]
