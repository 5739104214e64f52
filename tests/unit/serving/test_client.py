"""The client repeats what may be repeated, in its time, and says at once what cannot be."""

import asyncio
import json

import httpx
import numpy as np
import pytest

from controller.errors import InputError
from serving.client import ProvisorClient, RequestExpiredError, RequestImpossibleError
from serving.data_version import DataVersion, Sent, decode, from_text

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


def test_an_image_is_sent_as_the_version_that_was_drawn_and_answered_by_its_class():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    mix = (Sent(DataVersion("png"), "here.png", 0.5), Sent(DataVersion("half", share=0.5), "here.half", 0.5))
    bodies = []

    def reply(request):
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=GOOD)

    async def send(draw):
        async with ProvisorClient("http://test", transport=httpx.MockTransport(reply)) as client:
            return await client.infer_image(pixels, mix, draw=draw)

    for draw, one, side in ((0.2, mix[0], 8), (0.8, mix[1], 4)):
        answer = asyncio.run(send(draw))
        body = bodies.pop()
        data = from_text(body["input"])
        assert body["request_class"] == one.request_class
        assert (answer.data, answer.data_bytes) == (one.version.name, len(data))
        assert decode(data, side).shape == (side, side)
        assert data == one.version.encode(pixels)
