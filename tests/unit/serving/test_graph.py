"""The front of a workflow's graph: fan-out, fan-in, and loads as placed."""

import asyncio
from collections import Counter

import pytest

from serving.bring_your_own import ModelSpec
from serving.graph import FairDraw, GraphFront, GraphOperator, GraphWorker
from serving.model_object import ModelAnswer


def operator(name, inputs, *shares):
    workers = tuple(GraphWorker(f"{name}-{n}", share, 0.0) for n, share in enumerate(shares))
    return GraphOperator(name, "only", inputs, ModelSpec(name, reference="builtins:list"), workers)


class Handle:
    """Answers with what it was asked, by a handle's remote call."""

    def __init__(self, name, gate=None):
        self.name, self._gate, self.infer = name, gate, self

    async def remote(self, batch, service_s):
        if self._gate is not None:
            await self._gate()
        return [ModelAnswer({self.name: batch[0]})]


def test_requests_are_divided_by_shares_exactly():
    draw = FairDraw([0.5, 0.3, 0.2])
    assert Counter(draw.draw() for _ in range(100)) == {0: 50, 1: 30, 2: 20}


def test_an_operator_gets_the_messages_of_all_its_inputs_by_name():
    operators = [operator("a", ("x",), 1.0), operator("b", ("y",), 1.0), operator("c", ("a", "b"), 0.5, 0.5)]
    handles = {one.name: [Handle(worker.name) for worker in one.workers] for one in operators}
    found = asyncio.run(GraphFront(operators, handles).answer({"x": 1, "y": 2}))
    assert found["output"] == {"c-0": {"a": {"a-0": {"x": 1}}, "b": {"b-0": {"y": 2}}}}
    assert found["served"]["c"] == {"variant": "only", "worker": "c-0"}


def test_operators_that_read_sources_run_side_by_side():
    started, both = [], asyncio.Event()

    async def gate():
        started.append(1)
        if len(started) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 5.0)

    operators = [operator("a", ("x",), 1.0), operator("b", ("x",), 1.0), operator("c", ("a", "b"), 1.0)]
    handles = {"a": [Handle("a", gate)], "b": [Handle("b", gate)], "c": [Handle("c")]}
    assert asyncio.run(GraphFront(operators, handles).answer({"x": 1}))["output"]


def test_a_source_that_is_missing_is_named():
    operators = [operator("a", ("x", "z"), 1.0)]
    with pytest.raises(KeyError, match="z"):
        asyncio.run(GraphFront(operators, {"a": [Handle("a")]}).answer({"x": 1}))
