import asyncio

import numpy as np
import pytest
from ray.exceptions import RayActorError, RayTaskError

from controller.arrays import empty_actions
from controller.config import parse_config
from serving.attached import attached_layout, attached_options
from serving.attached_call import AttachedCaller, AttachedOption
from serving.attached_fleet import attached_fleet
from serving.instances import Phase
from serving.mapping import AttachMapping, narrowed
from serving.replica import ModelFaultError
from tests.unit.serving.worlds import LARGE_SPOT, SMALL_OD, catalog, setting

NONE = np.zeros((2, 3), np.int64)


class Handle:
    """A Serve handle whose calls run a coroutine function."""

    def __init__(self, answer):
        self.answer, self.calls, self.cancelled = answer, [], 0

    def remote(self, value):
        self.calls.append(value)
        return Response(self, self.answer(value))


class Response:
    def __init__(self, handle, coroutine):
        self.handle, self.coroutine = handle, coroutine

    def __await__(self):
        return self.coroutine.__await__()

    def cancel(self):
        self.handle.cancelled += 1


async def double(value):
    return value * 2


async def double_all(values):
    return np.array(values) * 2


def infer(answer, batch, takes_batch=False, limit_s=5.0):
    handle = Handle(answer)
    caller = AttachedCaller(AttachedOption("theirs", "resnet", "predict", takes_batch), handle)
    return handle, lambda: asyncio.run(caller.infer(batch, limit_s))


def test_single_inputs_are_one_call_each_and_answered_in_order():
    handle, call = infer(double, [1, 2, 3])
    assert call() == [2, 4, 6]
    assert handle.calls == [1, 2, 3]


def test_batch_is_one_call_and_arrays_become_plain_values():
    handle, call = infer(double_all, [1, 2, 3], takes_batch=True)
    assert call() == [2, 4, 6]
    assert handle.calls == [[1, 2, 3]]


@pytest.mark.parametrize("answer", [[1], "no list", None])
def test_another_number_of_outputs_is_a_fault_of_the_model(answer):
    async def wrong(values):
        return answer

    with pytest.raises(ModelFaultError, match="expected 2 outputs"):
        infer(wrong, [1, 2], takes_batch=True)[1]()


def test_what_their_code_raises_is_a_fault_of_the_model_and_a_lost_replica_is_none():
    async def raises(value):
        raise RayTaskError("predict", "traceback", KeyError("x")).as_instanceof_cause()

    async def dies(value):
        raise RayActorError

    with pytest.raises(ModelFaultError, match="KeyError"):
        infer(raises, [1])[1]()
    with pytest.raises(RayActorError):
        infer(dies, [1])[1]()


def test_call_that_is_given_up_is_cancelled_there():
    async def hangs(value):
        await asyncio.Event().wait()

    handle, call = infer(hangs, [1, 2], limit_s=0.01)
    with pytest.raises(TimeoutError):
        call()
    assert handle.cancelled == 2


def mapping():
    deployments = {
        "resnet-large": {"variant": "large", "pool": "spot", "method": "predict", "input": "batch"},
        "resnet-small": {"variant": "small", "pool": "od"},
    }
    value = {"app": "theirs", "scenario": "tiny", "deployments": deployments, "control": {"role": "head"}}
    return parse_config(value, AttachMapping, "mapping")


def test_layout_names_their_deployments_by_option():
    layout = attached_layout(mapping(), catalog())
    assert layout.names == {SMALL_OD: "resnet-small", LARGE_SPOT: "resnet-large"}
    assert (layout.app, layout.is_attached, layout.control) == ("theirs", True, {"role": "head"})
    # Narrowed, the catalog has fewer pools, and so other numbers.
    assert attached_layout(mapping(), narrowed(catalog(), mapping())).names == {0: "resnet-small", 3: "resnet-large"}
    found = attached_options(mapping(), layout)
    assert found[LARGE_SPOT] == AttachedOption("theirs", "resnet-large", "predict", takes_batch=True)
    assert found[SMALL_OD] == AttachedOption("theirs", "resnet-small", "__call__", takes_batch=False)


def counts(small_od):
    found = NONE.copy()
    found[0, 0] = small_od
    return found


def test_launch_asks_for_a_replica_at_once_and_is_not_measured_as_one():
    fleet = attached_fleet(setting(), 0, is_holding=False)
    actions = empty_actions(1, (2, 3, 2))
    actions.launch[0, 0, 0] = 1
    fleet.apply(actions, 0.0)
    fleet.step(0.0, NONE, NONE)
    assert fleet.targets()[0, 0] == 1
    fleet.step(7.0, counts(1), NONE)
    assert fleet.counts(Phase.SERVING)[0, 0] == 1
    assert [(span.kind, span.seconds) for span in fleet.window.spans] == [("load", 7.0)]


def test_no_market_takes_their_replicas_away():
    fleet = attached_fleet(setting(), 0, is_holding=False)
    replicas = NONE.copy()
    replicas[0, 1] = 3
    fleet.begin(replicas, 0.0)
    for now_s in range(0, 100_000, 997):
        fleet.step(float(now_s), replicas, NONE)
    assert fleet.counts(Phase.SERVING)[0, 1] == 3
    assert fleet.kills == {}


def test_in_a_dry_run_the_ledger_follows_what_exists_and_no_decision_changes_it():
    fleet = attached_fleet(setting(), 0, is_holding=True)
    fleet.begin(counts(1), 0.0)
    actions = empty_actions(1, (2, 3, 2))
    actions.launch[0, 0, 0] = 2
    fleet.apply(actions, 0.0)
    for now_s, running in enumerate((1, 5, 2, 0, 1)):
        fleet.step(float(now_s), counts(running), NONE)
        assert fleet.counts(Phase.SERVING)[0, 0] == running
        assert len(fleet.instances) == running
    # 0 to 1 s one replica, and then as many as the second before saw, at 0.001 $ a second.
    booked = fleet.window.spend_usd.sum()
    assert booked >= (1 + 5 + 2 + 0) * 0.001
