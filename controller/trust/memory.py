"""What a run remembers beside its journal: its loops with all their state, as of a place in the journal.

Deciding a journal again gives every policy its state back, whatever the policy is; after weeks that takes minutes. So
now and then the loops themselves are written down, and only what came after is decided again. A memory that is not
there, damaged, of another run or of another version is no error: then the journal is decided from its beginning.

It is a pickle, so it is read only where this user alone can have written it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path

from controller.config import versions
from controller.journal import Place
from controller.trust.again import Remembered

_log = logging.getLogger("provisor.controller")


@dataclass(frozen=True)
class Memory:
    """A run at a place of its journal."""

    place: Place
    run: Remembered


def save_memory(path: Path, run: str, memory: Memory) -> bool:
    """Writes a memory in the place of the one before it.

    Args:
        path: File.
        run: Identity of the run.
        memory: Of this moment; nothing may decide meanwhile.

    Returns:
        Whether it was written; a policy that cannot be pickled is remembered by its journal alone.
    """
    try:
        body = pickle.dumps((run, versions(), memory), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a user's policy may raise anything when it is pickled
        _log.warning("what is decided cannot be written down (%r); a restart decides its whole journal again", error)
        return False
    number, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # readable and writable by this user alone
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(hashlib.sha256(body).digest() + body)
        Path(name).replace(path)
    except OSError as error:
        _log.warning("%s: expected a place that can be written, got: %s", path, error.strerror or error)
        with contextlib.suppress(OSError):
            Path(name).unlink()
        return False
    return True


def load_memory(path: Path, run: str, journal: Path) -> Memory | None:
    """The memory of a run; None where there is none that can be believed, which is logged unless it is not there.

    Args:
        path: File.
        run: Identity of the run.
        journal: Its journal.
    """
    try:
        status = path.stat()
        content = path.read_bytes()
        journal_bytes = journal.stat().st_size
    except OSError:
        return None
    digest, body = content[:32], content[32:]
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        why = "it is not this user's alone"
    elif hashlib.sha256(body).digest() != digest:
        why = "it is damaged"
    else:
        try:
            found_run, found_versions, memory = pickle.loads(body)
        except Exception as error:  # noqa: BLE001 - what the loops are made of may be gone or have changed
            why = f"it cannot be read: {error!r}"
        else:
            is_own = (found_run, found_versions) == (run, versions())
            if is_own and isinstance(memory, Memory) and memory.place.offset <= journal_bytes:
                return memory
            why = "it is of a longer journal" if is_own else "it is of another run or version"
    _log.warning("%s: not taken, %s; the whole journal is decided again", path, why)
    return None
