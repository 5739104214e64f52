"""The client repeats what may be repeated, in its time, and says at once what cannot be."""

import asyncio

import httpx
import pytest

from controller.errors import InputError
from serving.client import ProvisorClient, RequestExpiredError, RequestImpossibleError

GOOD = {"output": 7, "variant": "small", "pool": "spot", "request_class": "strict", "accuracy": 0.9, "attempts": 1}


def asked(replies, **options):
    """Sends one request to a service that replies so, in order, the last one for ever; returns answer and requests."""
    seen = []

    def reply(request):
        seen.append(request)
        found = replies[min(len(seen), len(replies)) - 1]
        if isinstance(found, Exception):
            raise found
        status, body, headers = (*found, {})[:3]
        return httpx.Response(status, json=body, headers=headers)

    async def once():
        async with ProvisorClient("http://test", transport=httpx.MockTransport(reply), pause=lambda: 0.99) as client:
            return await client.infer([1], request_class="strict", **options)

    return asyncio.run(once()), seen


def test_answer_is_given_as_it_comes():
    answer, seen = asked([(200, GOOD)])
    assert (answer.output, answer.variant, answer.sent) == (7, "small", 1)
    assert b'"request_class":"strict"' in seen[0].content


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
        (500, {"detail": "lost"}),
        (502, {"detail": "no replica"}),
        (503, {"detail": "refused"}, {"Retry-After": "0"}),
    ],
)
def test_what_may_be_repeated_is_repeated_with_one_identity(trouble):
    answer, seen = asked([trouble, trouble, (200, GOOD)])
    assert (answer.output, answer.sent) == (7, 3)
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    assert len({request.content for request in seen}) == 1


def test_what_is_impossible_is_not_repeated():
    with pytest.raises(RequestImpossibleError, match="strict: max_latency_ms >= 1500"):
        asked([(422, {"detail": "strict: max_latency_ms >= 1500"}), (200, GOOD)])


def test_what_came_too_late_is_not_repeated():
    with pytest.raises(RequestExpiredError, match=r"met 504: dropped \(1 times sent\)"):
        asked([(504, {"detail": "dropped"}), (200, GOOD)])


def test_time_that_is_up_ends_the_repeating_and_the_last_trouble_is_told():
    with pytest.raises(RequestExpiredError, match="met 503: refused"):
        asked([(503, {"detail": "refused"}, {"Retry-After": "30"})], timeout_s=0.2)


def test_timeout_must_be_positive():
    with pytest.raises(InputError, match="timeout_s: expected seconds > 0, got 0"):
        ProvisorClient("http://test", timeout_s=0)
