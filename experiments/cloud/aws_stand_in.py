"""A stand-in of AWS on loopback: moto's server in a process of its own, and in front of it what EC2 does beside."""

from __future__ import annotations

import functools
import http.client
import json
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from controller.errors import RunError
from experiments.cloud.ec2_behaviour import Answer, Behaviour, Form

REGION = "us-east-1"
_FORGET, _THERE = "/forget", "/there"
# Paths beside AWS's own: one forgets all machines, as EC2 forgets what was terminated an hour ago and moto does not;
# the other tells which exist, for which moto would render every machine that it ever had.
_HOST = "127.0.0.1"
_START_TIMEOUT_S = 90.0
_CALL_TIMEOUT_S = 60.0
_SERVER = f"""
import json
from moto.ec2.models import ec2_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

aws = DomainDispatcherApplication(create_backend_app)

def answer(environ, start_response):
    if environ["PATH_INFO"] not in ({_FORGET!r}, {_THERE!r}):
        return aws(environ, start_response)
    backends = [backend for regions in list(ec2_backends.values()) for backend in list(regions.values())]
    if environ["PATH_INFO"] == {_FORGET!r}:
        for backend in backends:
            backend.reservations.clear()
    groups = [group for backend in backends for group in list(backend.reservations.values())]
    there = [one.id for group in groups for one in group.instances if one.state in ("pending", "running")]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(sorted(there)).encode()]

server = make_server({_HOST!r}, 0, answer, threaded=True)
print(json.dumps(server.server_port), flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, eq=False)
class StandIn:
    """A running stand-in."""

    url: str  # with the behaviour of EC2 in front
    plain_url: str  # without
    behaviour: Behaviour

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of it, without retries of its own.

        Args:
            service: Such as `ec2`.
            config: Of `botocore.config.Config`, besides.
        """
        return client(service, self.url, **config)

    def empty(self) -> None:
        """Forgets all machines and every rule that was set, which is quicker than another stand-in."""
        ec2 = client("ec2", self.plain_url)
        self._ask(_FORGET)
        for template in ec2.describe_launch_templates()["LaunchTemplates"]:
            ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])
        self.behaviour.reset()

    def there(self) -> list[str]:
        """Ids of the machines that exist, whatever a listing says, in order."""
        return self._ask(_THERE)

    def _ask(self, path: str) -> list[str]:
        with urllib.request.urlopen(self.plain_url + path, timeout=_CALL_TIMEOUT_S) as answer:
            ids: list[str] = json.loads(answer.read())
        return ids


def client(service: str, url: str, **config: Any) -> Any:
    """A boto3 client of a stand-in at a URL, with credentials that open nothing."""
    return _client(service, url, json.dumps(config, sort_keys=True))


@functools.cache  # to make one takes longer than most calls
def _client(service: str, url: str, config_json: str) -> Any:
    import boto3
    from botocore.config import Config

    retries = {"total_max_attempts": 1}
    settings = {"retries": retries, "connect_timeout": 5, "read_timeout": 30, **json.loads(config_json)}
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="stand-in",
        aws_secret_access_key="stand-in",
        config=Config(**settings),
    )


class QuietServer(ThreadingHTTPServer):
    """A server that says nothing of callers who went away, which is what ends a test."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says what went wrong, unless a connection broke."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Starts a stand-in and ends it.

    Raises:
        RunError: moto is not installed, or its server does not come up.
    """
    with _moto() as plain_url, _in_front_of(plain_url) as (url, behaviour):
        yield StandIn(url, plain_url, behaviour)


@contextmanager
def _moto() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        timer = threading.Timer(_START_TIMEOUT_S, process.kill)
        timer.start()
        line = process.stdout.readline() if process.stdout is not None else b""
        timer.cancel()
        if not line:
            raise RunError("the stand-in of AWS did not come up: is moto[ec2,server] installed?")
        yield f"http://{_HOST}:{json.loads(line)}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _in_front_of(plain_url: str) -> Iterator[tuple[str, Behaviour]]:
    behaviour, port = Behaviour(), _port_of(plain_url)

    class Front(BaseHTTPRequestHandler):
        """Answers calls of EC2 by the rules, and hands all others on."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            if "/ec2/" not in self.headers.get("Authorization", ""):
                self._give(self._send(self._read()))
                return
            form = dict(urllib.parse.parse_qsl(self._read().decode(), keep_blank_values=True))
            self._give(behaviour.answer(form, self._send_form))

        def do_GET(self) -> None:
            self._give(self._send(self._read()))

        def do_PUT(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

        def _read(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _send_form(self, form: Form) -> Answer:
            return self._send(urllib.parse.urlencode(form).encode())

        def _send(self, body: bytes) -> Answer:
            connection = http.client.HTTPConnection(_HOST, port, timeout=_CALL_TIMEOUT_S)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("content-length", "connection")}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                return Answer(response.status, response.read())
            finally:
                connection.close()

        def _give(self, answer: Answer) -> None:
            if answer.status == 0:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.close()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    server = QuietServer((_HOST, 0), Front)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_port}", behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _port_of(url: str) -> int:
    port = urllib.parse.urlsplit(url).port
    assert port is not None
    return port
