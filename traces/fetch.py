"""Download of a public trace: streamed, resumed, checked against its checksum, and put in place in one step.

A file under its final name is always whole and checked. What is not yet whole lies beside it as `.partial`, from which
the next call goes on; bytes that do not hash to the checksum are deleted, never kept as a trace.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.errors import RunError, TraceError, mismatch
from traces.registry import PUBLIC_TRACES, PublicTrace

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0


def fetch(
    name: str,
    dest: str | Path,
    registry: Mapping[str, PublicTrace] = PUBLIC_TRACES,
    *,
    sha256: str | None = None,
    show_progress: bool = False,
) -> Path:
    """Downloads one trace, unless the file is already there and right.

    Args:
        name: Key in the registry.
        dest: Existing or new directory.
        registry: Traces by name.
        sha256: Hex checksum to expect; must equal the pinned one where there is one.
        show_progress: Draw a progress bar on standard error.

    Returns:
        The file.

    Raises:
        TraceError: Unknown name, no checksum known or given, or one that contradicts the registry.
        RunError: The server refused, stopped early, or sent other bytes than the checksum says.
    """
    if name not in registry:
        raise TraceError(mismatch("name", f"one of {', '.join(sorted(registry))}", name))
    entry = registry[name]
    expected = _checksum(entry, sha256)
    directory = Path(dest)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TraceError(f"dest: expected a directory that can be made, got {str(dest)!r} ({error.strerror})") from None
    target = directory / entry.file_name
    if target.exists():
        if _sha256_of(target) == expected:
            return target
        raise TraceError(f"{target}: exists with another checksum than {expected}; move it away first")
    partial = target.with_name(f"{target.name}.{expected[:8]}.partial")
    _download(entry, partial, show_progress)
    found = _sha256_of(partial)
    if found != expected:
        partial.unlink()
        raise RunError(f"{entry.url}: expected sha256 {expected}, got {found}; the download was deleted")
    partial.replace(target)
    return target


def _checksum(entry: PublicTrace, given: str | None) -> str:
    if given is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", given):
        raise TraceError(mismatch("sha256", "64 hexadecimal digits", given))
    if given is None and entry.sha256 is None:
        raise TraceError(
            f"{entry.name}: no checksum is pinned for {entry.url}, so nothing could tell a right file from a wrong one;"
            " give the one you expect with --sha256"
        )
    if given is not None and entry.sha256 is not None and given.lower() != entry.sha256:
        raise TraceError(mismatch("sha256", f"the pinned {entry.sha256}", given))
    return given.lower() if given is not None else str(entry.sha256)


def _download(entry: PublicTrace, partial: Path, show_progress: bool) -> None:
    """Brings `partial` to the whole length, from where it ends now."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(entry.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            if have and answer.status != http.client.PARTIAL_CONTENT:
                have = 0  # the server ignored the range and sends all
            _stream(entry, answer, partial, have, show_progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to send; the checksum decides
        raise RunError(f"{entry.url}: the server answered {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise RunError(f"{entry.url}: cannot be downloaded ({getattr(error, 'reason', None) or error})") from None


def _stream(entry: PublicTrace, answer: Any, partial: Path, have: int, show_progress: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    length = answer.headers.get("Content-Length")
    total = have + int(length) if length and length.isdigit() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=not show_progress) as progress,
        partial.open("ab" if have else "wb") as stream,
    ):
        task = progress.add_task(entry.name, total=total, completed=have)
        while chunk := answer.read(_CHUNK_BYTES):
            stream.write(chunk)
            progress.advance(task, len(chunk))
    size = partial.stat().st_size
    if total is not None and size < total:
        raise RunError(f"{entry.url}: expected {total} bytes, got {size}; call again to go on from there")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
