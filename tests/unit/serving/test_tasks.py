"""A task that forgets a cancellation is ended all the same."""

import asyncio

import pytest

from serving.tasks import end_task


def test_a_task_that_forgets_a_cancellation_is_cancelled_again() -> None:
    forgotten = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                forgotten.append(True)
                if len(forgotten) == 3:
                    raise

    async def run() -> bool:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await asyncio.wait_for(end_task(task, again_s=0.01), 10)
        return task.cancelled()

    assert asyncio.run(run())
    assert len(forgotten) == 3


@pytest.mark.parametrize("outcome", ["value", "error"])
def test_a_task_that_is_done_is_left_alone(outcome: str) -> None:
    async def work() -> str:
        if outcome == "error":
            raise ValueError("broken")
        return outcome

    async def run() -> asyncio.Task[str]:
        task = asyncio.create_task(work())
        await asyncio.wait({task})
        await end_task(task)
        return task

    task = asyncio.run(run())
    assert task.done()
    assert (task.exception() is not None) == (outcome == "error")
