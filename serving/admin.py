"""The admin API: an operator's desk on a port of its own, for whoever holds the bearer token.

A thread of the controller's process answers; it shares nothing with the port that requests are served on. Bodies are
JSON but for a pushed policy, which is the file itself. Every error is `{"error": text}` with a status that says whose
fault it is: 401 no or wrong token, 404 no such path, 405 no such method there, 409 what was asked for does not go with
the present state, 411 and 413 no or too much content, 422 wrong content, 501 not offered by this run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from pydantic import JsonValue

from controller.errors import InputError, ProvisorError, UsageError, mismatch
from controller.trust.desk import ConflictError, ControlDesk
from controller.trust.store import MOST_BYTES

_MOST_JSON_BYTES = 1 << 20
_SOCKET_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 1.0

Hook = Callable[[dict[str, JsonValue]], Mapping[str, JsonValue]]
"""Takes the JSON object of a request and returns that of the answer; raises `InputError` for wrong content."""


@dataclass
class AdminApi:
    """What the API offers.

    Args:
        desk: Mode and policy.
        status: The controller's, beside the desk's.
        preferences: Reads the preferences; None: this run offers none.
        set_preferences: Changes some of them and returns all.
        notice: Takes a preemption notice.
        rehearse: Does to the run what cannot be done to it from outside, so that its answer can be watched.
    """

    desk: ControlDesk
    status: Callable[[], Mapping[str, JsonValue]]
    preferences: Callable[[], Mapping[str, JsonValue]] | None = None
    set_preferences: Hook | None = None
    notice: Hook | None = None
    rehearse: Hook | None = None
    routes: dict[tuple[str, str], Callable[[bytes, str], Mapping[str, JsonValue]]] = field(init=False)

    def __post_init__(self) -> None:
        self.routes = {
            ("GET", "/v1/status"): lambda _body, _name: self.status(),
            ("GET", "/v1/mode"): lambda _body, _name: self._mode(),
            ("PUT", "/v1/mode"): self._set_mode,
            ("GET", "/v1/policy"): lambda _body, _name: self.desk.policies(),
            ("POST", "/v1/policy"): self._push,
            ("POST", "/v1/policy/rollback"): lambda _body, _name: self.desk.rollback(),
            ("GET", "/v1/preferences"): self._preferences,
            ("PUT", "/v1/preferences"): lambda body, _name: _call(self.set_preferences, body, "preferences"),
            ("POST", "/v1/notices"): lambda body, _name: _call(self.notice, body, "preemption notices"),
            ("POST", "/v1/rehearsals"): lambda body, _name: _call(self.rehearse, body, "rehearsals"),
        }

    def _mode(self) -> Mapping[str, JsonValue]:
        status = self.status()
        names = ("mode", "driver", "is_trusted", "quiet_left_s", "alarms", "policy_fault")
        return {name: status[name] for name in names if name in status}

    def _set_mode(self, body: bytes, _name: str) -> Mapping[str, JsonValue]:
        fields = _json_object(body)
        if set(fields) != {"mode"}:
            raise UsageError(mismatch("body", "an object with 'mode' alone", sorted(fields)))
        mode = fields["mode"]
        self.desk.set_mode(mode if isinstance(mode, str) else json.dumps(mode))
        return self._mode()

    def _push(self, body: bytes, name: str) -> Mapping[str, JsonValue]:
        if not body:
            raise UsageError("body: expected the bytes of a policy file, got nothing")
        return self.desk.push(name, body)

    def _preferences(self, _body: bytes, _name: str) -> Mapping[str, JsonValue]:
        if self.preferences is None:
            raise _NotOfferedError("preferences")
        return self.preferences()


class AdminServer:
    """Answers on a port until it is closed.

    Args:
        api: What is offered.
        host: Address to listen on.
        port: Port; 0 for any free one.
        token_sha256: SHA-256 of the bearer token, in hexadecimal; the token itself is not needed here.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, api: AdminApi, host: str, port: int, token_sha256: str) -> None:
        handler = type("_BoundHandler", (_Handler,), {"api": api, "token_sha256": token_sha256})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="admin", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops listening; may be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def token_digest(token: str) -> str:
    """What the server compares a token by."""
    return hashlib.sha256(token.encode()).hexdigest()


class _NotOfferedError(ProvisorError):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: expected a run that offers them, got one that does not")


class _HttpError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One request per connection; nothing about it is logged, its token least of all."""

    api: ClassVar[AdminApi]
    token_sha256: ClassVar[str]
    timeout = _SOCKET_TIMEOUT_S  # of the socket: a client that says nothing holds no thread for long
    server_version = "provisor-admin"
    sys_version = ""

    def do_GET(self) -> None:
        """Answers a GET."""
        self._answer("GET")

    def do_PUT(self) -> None:
        """Answers a PUT."""
        self._answer("PUT")

    def do_POST(self) -> None:
        """Answers a POST."""
        self._answer("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature that http.server calls
        """Logs nothing."""

    def _answer(self, method: str) -> None:
        self._is_read = method == "GET"
        status, fields = self._outcome(method)
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
        if not self._is_read:
            self._drain()

    def _drain(self) -> None:
        """Takes in what a refused client still sends: it would see a reset connection in place of the answer."""
        self.connection.settimeout(_DRAIN_TIMEOUT_S)
        with suppress(OSError):
            self.rfile.read(min(self._length() or 0, _MOST_JSON_BYTES))

    def _outcome(self, method: str) -> tuple[int, dict[str, JsonValue]]:
        try:
            status, fields = 200, dict(self._result(method))
        except _HttpError as error:
            status, fields = error.status, {"error": str(error)}
        except _NotOfferedError as error:
            status, fields = 501, {"error": str(error)}
        except ConflictError as error:
            status, fields = 409, {"error": str(error)}
        except InputError as error:
            status, fields = 422, {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - a defect of one answer must not end the server
            status, fields = 500, {"error": f"{type(error).__name__}: {error}"}
        return status, fields

    def _result(self, method: str) -> Mapping[str, JsonValue]:
        self._authorise()
        url = urlsplit(self.path)
        route = self.api.routes.get((method, url.path))
        if route is None:
            allowed = sorted(verb for verb, path in self.api.routes if path == url.path)
            if allowed:
                raise _HttpError(405, f"{url.path}: expected one of {', '.join(allowed)}, got {method}")
            known = sorted({path for _, path in self.api.routes})
            raise _HttpError(404, f"path: expected one of {', '.join(known)}, got {url.path!r}")
        is_file = (method, url.path) == ("POST", "/v1/policy")
        body = b"" if method == "GET" else self._body(MOST_BYTES if is_file else _MOST_JSON_BYTES)
        return route(body, parse_qs(url.query).get("name", [""])[0])

    def _authorise(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        found = token_digest(token.strip())
        # Of equal length always, and compared in a time that says nothing of where they differ.
        if not hmac.compare_digest(found, self.token_sha256) or scheme.lower() != "bearer":
            raise _HttpError(401, "Authorization: expected 'Bearer TOKEN' with this run's token, got none or another")

    def _length(self) -> int | None:
        text = self.headers.get("Content-Length")
        return int(text) if text is not None and text.isdecimal() else None

    def _body(self, most_bytes: int) -> bytes:
        size = self._length()
        if size is None:
            raise _HttpError(411, f"Content-Length: expected a number of bytes, got {self.headers['Content-Length']!r}")
        if size > most_bytes:
            raise _HttpError(413, f"Content-Length: expected at most {most_bytes} bytes, got {size}")
        self._is_read = True
        return self.rfile.read(size)


def _json_object(body: bytes) -> dict[str, JsonValue]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise UsageError(f"body: expected JSON, got: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(mismatch("body", "a JSON object", value))
    return value


def _call(hook: Hook | None, body: bytes, what: str) -> Mapping[str, JsonValue]:
    if hook is None:
        raise _NotOfferedError(what)
    return hook(_json_object(body))
