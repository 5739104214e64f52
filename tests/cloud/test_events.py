"""What EC2 announces, through EventBridge and SQS as they are, and from a machine's own metadata."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from serving.aws.events import WARNING_S, Announced, EventQueue, Kind, event_of, read_event
from serving.aws.hearing import hear
from serving.aws.on_node import Metadata, look, watch

NOW_S = 1_700_000_000.0
MACHINE = "i-0123456789abcdef0"


@pytest.fixture
def queue(aws):
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="provisor-events")["QueueUrl"]
    sqs.purge_queue(QueueUrl=url)
    yield EventQueue(sqs, url, wait_s=0)
    sqs.delete_queue(QueueUrl=url)


def test_event_is_read_as_it_was_told():
    assert read_event(json.dumps(event_of(Kind.INTERRUPTION, MACHINE, NOW_S))) == Announced(
        Kind.INTERRUPTION, MACHINE, NOW_S
    )
    told = event_of(Kind.STATE, MACHINE, NOW_S, "terminated")
    assert read_event(json.dumps(told)) == Announced(Kind.STATE, MACHINE, NOW_S, "terminated")


@pytest.mark.parametrize(
    "body",
    ["", "no JSON", "[]", "{}", '{"detail-type": "another"}', f'{{"detail-type": "{Kind.INTERRUPTION.value}"}}'],
)
def test_what_is_no_event_is_none(body):
    assert read_event(body) is None


@pytest.mark.parametrize(
    ("kind", "state", "later_s", "left_s"),
    [
        (Kind.INTERRUPTION, "", 0.0, WARNING_S),
        (Kind.INTERRUPTION, "", 50.0, 70.0),
        (Kind.INTERRUPTION, "", 500.0, 0.0),
        (Kind.INTERRUPTION, "", -30.0, WARNING_S),  # a clock that is behind
        (Kind.STATE, "shutting-down", 5.0, 0.0),
        (Kind.STATE, "running", 5.0, None),
        (Kind.REBALANCE, "", 5.0, None),
    ],
)
def test_time_that_is_left(kind, state, later_s, left_s):
    assert Announced(kind, MACHINE, NOW_S, state).left_s(NOW_S + later_s) == left_s


def test_event_comes_by_a_rule_to_the_queue(aws, queue):
    events, sqs = aws.client("events"), queue._client
    arn = sqs.get_queue_attributes(QueueUrl=queue._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.ec2"], "detail-type": [kind.value for kind in Kind]}
    events.put_rule(Name="provisor", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="provisor", Targets=[{"Id": "queue", "Arn": arn}])
    told = event_of(Kind.INTERRUPTION, MACHINE, time.time())
    entry = {"Source": "aws.ec2", "DetailType": told["detail-type"], "Detail": json.dumps(told["detail"])}
    events.put_events(Entries=[entry])
    (found,) = queue.read()
    assert (found.kind, found.instance_id) == (Kind.INTERRUPTION, MACHINE)
    assert queue.read() == []


def test_messages_that_are_no_events_are_taken_off_too(queue):
    queue.send({"hello": 1})
    queue.send(event_of(Kind.STATE, MACHINE, NOW_S, "terminated"))
    found = queue.read() + queue.read()
    assert [one.state for one in found] == ["terminated"]


def heard(queue, heeds_advice=False, count=1):
    """Nodes that are told to be taken, until there are so many."""
    told = []

    async def listen():
        enough = asyncio.Event()

        def doom(node, left_s):
            told.append((node, left_s))
            if len(told) >= count:
                enough.set()

        task = asyncio.create_task(hear(queue, lambda one: f"node-{one}" if one == MACHINE else "", heeds_advice, doom))
        await asyncio.wait_for(enough.wait(), 20)
        task.cancel()

    asyncio.run(listen())
    return told


def test_nodes_of_ours_are_told_and_those_of_others_are_not(queue):
    queue.send(event_of(Kind.INTERRUPTION, "i-of-another", time.time()))
    queue.send(event_of(Kind.REBALANCE, MACHINE, time.time()))
    queue.send(event_of(Kind.INTERRUPTION, MACHINE, time.time() - 100.0))
    ((node, left_s),) = heard(queue)
    assert node == f"node-{MACHINE}"
    assert left_s == pytest.approx(20.0, abs=3.0)


def test_advice_counts_where_it_is_heeded(queue):
    queue.send(event_of(Kind.REBALANCE, MACHINE, time.time()))
    assert heard(queue, heeds_advice=True) == [(f"node-{MACHINE}", WARNING_S)]


def test_hearing_goes_on_after_a_queue_that_does_not_answer(queue, monkeypatch):
    monkeypatch.setattr("serving.aws.hearing._AFTER_ERROR_S", 0.0)
    read, failures = queue.read, [ConnectionError("gone")]

    def failing():
        if failures:
            raise failures.pop()
        return read()

    monkeypatch.setattr(queue, "read", failing)
    queue.send(event_of(Kind.INTERRUPTION, MACHINE, time.time()))
    assert len(heard(queue)) == 1


class Service(BaseHTTPRequestHandler):
    """The metadata of a machine: texts by path, behind a token that is taken once in a while."""

    texts: ClassVar = {}
    tokens: ClassVar = []

    def do_PUT(self):
        self.tokens.append(f"token-{len(self.tokens)}")
        self.give(200, self.tokens[-1])

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != self.tokens[-1]:
            self.give(401, "")
            return
        text = self.texts.get(self.path.removeprefix("/latest/"))
        self.give(404 if text is None else 200, text or "")

    def give(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    Service.texts, Service.tokens = {"meta-data/instance-id": MACHINE}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Metadata(f"127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    thread.join()


def test_machine_reads_of_itself_behind_a_token_that_may_run_out(metadata):
    assert look(metadata, MACHINE, NOW_S) is None
    Service.texts["meta-data/events/recommendations/rebalance"] = "{}"
    assert look(metadata, MACHINE, NOW_S) == event_of(Kind.REBALANCE, MACHINE, NOW_S)
    Service.tokens.append("another")
    Service.texts["meta-data/spot/instance-action"] = '{"action": "terminate"}'
    assert look(metadata, MACHINE, NOW_S) == event_of(Kind.INTERRUPTION, MACHINE, NOW_S)


def test_machine_tells_the_queue_once_of_each_and_then_ends(metadata, queue):
    turns = iter(
        [
            {},
            {"meta-data/events/recommendations/rebalance": "{}"},
            {},
            {"meta-data/spot/instance-action": "{}"},
        ]
    )
    watch(metadata, queue, sleep=lambda _: Service.texts.update(next(turns, {})))
    found = []
    while len(found) < 2:
        found += queue.read()
    assert [one.kind for one in found] == [Kind.REBALANCE, Kind.INTERRUPTION]
    assert {one.instance_id for one in found} == {MACHINE}
