"""Where an admin API is and what opens it: the token file and `admin.json` of a run, and calls to the API.

A token is taken from the file that was named, else from `PROVISOR_ADMIN_TOKEN`, else from `admin.token` in the run's
folder, which only its owner can read. It is shown nowhere.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import ClusterError, UsageError, mismatch

ACCESS_FILE, TOKEN_FILE = "admin.json", "admin.token"
TOKEN_VARIABLE = "PROVISOR_ADMIN_TOKEN"
LEAST_TOKEN_CHARS = 16

_CALL_TIMEOUT_S = 30.0
_PUSH_TIMEOUT_S = 600.0
"""A pushed policy is compiled before it is taken in."""

_INPUT_STATUS = range(400, 500)


def run_token(folder: Path, token_file: Path | None = None) -> tuple[str, Path | None]:
    """The token of a run that begins, and the file it is in; one that is made is written for its owner alone.

    Raises:
        UsageError: A file that was named cannot be read, or the token is too short.
    """
    if token_file is not None:
        return read_token(token_file), token_file
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return _long_enough(given, TOKEN_VARIABLE), None
    path = folder / TOKEN_FILE
    if path.exists():
        return read_token(path), path
    token = secrets.token_urlsafe(32)
    folder.mkdir(parents=True, exist_ok=True)
    # Opened with its mode: between creating and restricting it, anybody could read it.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(token + "\n")
    return token, path


def read_token(path: Path) -> str:
    """A token from a file.

    Raises:
        UsageError: The file cannot be read, or the token is too short.
    """
    try:
        return _long_enough(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a readable token file, got: {error}") from error


def write_access(folder: Path, url: str, token_path: Path | None) -> None:
    """Notes for the command line where a run's API is, and which file holds its token."""
    fields = {"url": url, "token_file": None if token_path is None else str(token_path.resolve())}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{ACCESS_FILE}"
    partial.write_text(json.dumps(fields) + "\n", encoding="utf-8")
    partial.replace(folder / ACCESS_FILE)


@dataclass(frozen=True)
class AdminClient:
    """Calls an admin API.

    Args:
        url: Of the API, without a path.
        token: Bearer token.
    """

    url: str
    token: str

    def get(self, path: str) -> dict[str, Any]:
        """What a GET answers; errors as for `send`."""
        return self._call("GET", path, None, _CALL_TIMEOUT_S)

    def send(self, method: str, path: str, body: object) -> dict[str, Any]:
        """What a request with a JSON body answers.

        Raises:
            UsageError: The API refused it; with the API's own words.
            ClusterError: The API cannot be reached, or failed.
        """
        return self._call(method, path, json.dumps(body).encode(), _CALL_TIMEOUT_S)

    def push(self, name: str, content: bytes) -> dict[str, Any]:
        """Pushes a policy file; errors as for `send`."""
        return self._call("POST", f"/v1/policy?name={urllib.parse.quote(name)}", content, _PUSH_TIMEOUT_S)

    def _call(self, method: str, path: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self.url.rstrip("/") + path, body, headers, method=method)
        # No proxy: the API is on this machine or in this network, and a token is for nobody in between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            text = _error_text(error)
            if error.code in _INPUT_STATUS:
                raise UsageError(text) from None
            raise ClusterError(f"{self.url}: {text}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ClusterError(f"{self.url}: expected an answer of the admin API, got: {reason}") from None


def find_client(folder: Path, url: str | None, token_file: Path | None) -> AdminClient:
    """The client for a run.

    Args:
        folder: Of the run, where `admin.json` is looked for.
        url: In place of the one noted there.
        token_file: Likewise.

    Raises:
        UsageError: Nothing says where the API is, or what opens it; or the address is none.
    """
    noted: dict[str, Any] = {}
    if url is None or token_file is None:
        try:
            noted = json.loads((folder / ACCESS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if url is None:
                raise UsageError(
                    f"{folder / ACCESS_FILE}: expected what `provisor serve --admin-port` leaves, got: {error}; "
                    "name the API by --admin URL"
                ) from error
    address = str(url or noted["url"])
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(mismatch("--admin", "http://HOST:PORT", address))
    if token_file is not None:
        return AdminClient(address, read_token(token_file))
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return AdminClient(address, given)
    if not noted.get("token_file"):
        raise UsageError(f"--token-file: expected the file of the API's token, got nothing; or set {TOKEN_VARIABLE}")
    return AdminClient(address, read_token(Path(noted["token_file"])))


def _error_text(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {error.reason}"
    finally:
        error.close()


def _long_enough(token: str, where: str) -> str:
    if len(token) < LEAST_TOKEN_CHARS:
        # Its length alone: what is too short may still be somebody's secret.
        raise UsageError(f"{where}: expected a token of at least {LEAST_TOKEN_CHARS} characters, got {len(token)}")
    return token
