"""A task that forgets a cancellation is ended all the same, and an actor that is just being restarted is reached."""

import asyncio

import pytest
from ray.exceptions import ActorUnavailableError

from serving.tasks import call_until_reached, end_task


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


def test_an_actor_that_is_away_is_called_until_it_answers() -> None:
    answers = iter([ActorUnavailableError("it was restarted", None), ActorUnavailableError("once more", None), None])
    calls = []

    def call() -> None:
        calls.append(True)
        if (answer := next(answers)) is not None:
            raise answer

    call_until_reached(call, again_s=0.0)
    assert len(calls) == 3


def test_what_an_actor_itself_raises_ends_the_calls() -> None:
    calls = []

    def call() -> None:
        calls.append(True)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        call_until_reached(call, again_s=0.0)
    assert len(calls) == 1
