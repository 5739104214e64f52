"""A stand-in of AWS Lambda on loopback: its API over HTTP, in front of functions that run for real."""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from experiments.cloud.aws_stand_in import QuietServer, client
from experiments.cloud.emulator import emulator
from experiments.cloud.function_service import FunctionService, Limits, RefusedError

_HOST = "127.0.0.1"
_FUNCTIONS, _TAGS = "/2015-03-31/functions", "/2017-03-31/tags/"
_PAGE = 50


@dataclass(frozen=True, eq=False)
class LambdaStandIn:
    """A running stand-in."""

    url: str
    service: FunctionService

    def client(self, **config: Any) -> Any:
        """A boto3 client of Lambda there, without retries of its own.

        Args:
            config: Of `botocore.config.Config`, besides.
        """
        return client("lambda", self.url, **config)


@contextmanager
def lambda_stand_in(limits: Limits | None = None) -> Iterator[LambdaStandIn]:
    """Starts a stand-in and ends it with all it runs.

    Args:
        limits: Of the account.

    Raises:
        RunError: The emulator is not there.
    """
    emulator()
    with tempfile.TemporaryDirectory(prefix="pvf-") as folder:
        service = FunctionService(Path(folder), limits)
        server = QuietServer((_HOST, 0), _front_of(service))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield LambdaStandIn(f"http://{_HOST}:{server.server_port}", service)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            service.close()


def _front_of(service: FunctionService) -> type[BaseHTTPRequestHandler]:
    class Front(BaseHTTPRequestHandler):
        """Answers calls of Lambda's API."""

        protocol_version = "HTTP/1.1"
        # Head and body in one packet: in two, a caller's delayed acknowledgement adds 40 ms to every call.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def do_PUT(self) -> None:
            self._answer("PUT")

        def do_DELETE(self) -> None:
            self._answer("DELETE")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            split = urllib.parse.urlsplit(self.path)
            path, query = urllib.parse.unquote(split.path).rstrip("/"), dict(urllib.parse.parse_qsl(split.query))
            try:
                if path.startswith(_TAGS):
                    self._give(200, {"Tags": service.tags(path.removeprefix(_TAGS))})
                else:
                    self._function(method, path.removeprefix(_FUNCTIONS).strip("/"), query, body)
            except RefusedError as error:
                told = {"Type": "User", "message": error.text, "Reason": error.reason}
                self._give(error.status, told, {"X-Amzn-ErrorType": error.code})

        def _function(self, method: str, rest: str, query: dict[str, str], body: bytes) -> None:
            name, _, what = rest.partition("/")
            if method == "POST" and what == "invocations":
                self._invoke(name, body)
            elif method == "POST" and not name:
                self._give(201, service.create(json.loads(body)))
            elif method == "GET" and not name:
                self._list(int(query.get("Marker") or 0))
            elif method == "GET" and what == "configuration":
                self._give(200, service.configuration(name))
            elif method == "GET" and not what:
                told = service.configuration(name)
                self._give(200, {"Configuration": told, "Tags": service.tags(told["FunctionArn"])})
            elif method == "PUT" and what == "code":
                self._give(200, service.update_code(name, base64.b64decode(json.loads(body)["ZipFile"])))
            elif method == "PUT" and what == "configuration":
                self._give(200, service.update_settings(name, json.loads(body)))
            elif method == "DELETE" and not what:
                service.delete(name)
                self._give(204, None)
            else:
                raise RefusedError(404, "UnknownOperationException", f"{method} {rest}")

        def _list(self, begin: int) -> None:
            names = service.names()
            told: dict[str, Any] = {"Functions": [service.configuration(one) for one in names[begin : begin + _PAGE]]}
            if begin + _PAGE < len(names):
                told["NextMarker"] = str(begin + _PAGE)
            self._give(200, told)

        def _invoke(self, name: str, body: bytes) -> None:
            called = service.invoke(name, body)
            headers = {"X-Amz-Executed-Version": "$LATEST", "x-amzn-RequestId": called.request_id}
            if called.has_failed:
                headers["X-Amz-Function-Error"] = "Unhandled"
            if self.headers.get("X-Amz-Log-Type") == "Tail":
                headers["X-Amz-Log-Result"] = base64.b64encode(called.log.encode()[-4096:]).decode()
            self._send(200, called.body, headers)

        def _give(self, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
            self._send(status, b"" if told is None else json.dumps(told).encode(), headers or {})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Front
