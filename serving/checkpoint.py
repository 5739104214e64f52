"""What a controller writes down as it goes, so that after a kill it goes on where it was.

The file is written whole and moved into place, and is closed by a digest: a reader finds the last state or the one
before it, never a part. Policies are not in it: deciding the journal again gives them their state back, bit by bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.errors import InputError

SCHEMA: Final = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, of another run or of another schema."""


@dataclass(frozen=True)
class RunClock:
    """When second 0 of a run was: on the clock that only runs forward, and on the wall, for after a reboot."""

    began_monotonic_s: float
    began_wall_s: float
    boot: str

    @classmethod
    def starting_now(cls) -> RunClock:
        """Second 0 is now."""
        return cls(time.monotonic(), time.time(), _boot())

    def resumed(self) -> RunClock:
        """The same second 0 for a process of today: a wall clock that was set meanwhile changes nothing."""
        if self.boot == _boot():
            return self
        return RunClock(time.monotonic() - (time.time() - self.began_wall_s), self.began_wall_s, _boot())

    def now_s(self) -> float:
        """Seconds since second 0."""
        return time.monotonic() - self.began_monotonic_s


def save_checkpoint(path: Path, run: str, state: Mapping[str, Any]) -> None:
    """Writes the state of a run, replacing the one before it.

    Args:
        path: File.
        run: Identity of the run.
        state: Values that JSON has words for.
    """
    body = json.dumps({"schema": SCHEMA, "run": run, "state": state}, allow_nan=False).encode()
    content = body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def load_checkpoint(path: Path, run: str) -> dict[str, Any]:
    """The state that was written last.

    Raises:
        CheckpointError: There is none that can be believed; it is said why.
    """
    try:
        body, digest = path.read_bytes().split(b"\n")[:2]
    except OSError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, got: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: expected a state and its digest, got a file that was cut") from error
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: expected content of sha256 {digest.decode(errors='replace')[:12]}, got another")
    value = json.loads(body)
    for name, wanted in (("schema", SCHEMA), ("run", run)):
        if value.get(name) != wanted:
            raise CheckpointError(f"{path}, {name}: expected {wanted}, got {value.get(name)}")
    state: dict[str, Any] = value["state"]
    return state


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""
