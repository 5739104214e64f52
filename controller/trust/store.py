"""Policies that a run decided with, kept by digest beside its journal, so that each can come back and be replayed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from controller.compile import Setting
from controller.config import parse_config, read_yaml
from controller.errors import ConfigError, PolicyFileError, mismatch
from controller.policies.policy_file import SUFFIX
from controller.policies.registry import POLICIES, PolicySpec, make_policy, policy_file, written_out
from controller.ports import Policy

FOLDER = "policies"
SUFFIXES = (SUFFIX, ".yaml", ".yml")
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class PolicyEntry:
    """One policy, as a journal and a snapshot name it."""

    name: str
    spec: JsonValue = None  # what `make_policy` takes, where no file is kept
    file: str | None = None  # of the kept copy, relative to the run's folder
    settings: str = ""  # of the policy file's rule, replaced as in `FILE.provisor:name=value`
    sha256: str | None = None  # of the file

    @property
    def identity(self) -> JsonValue:
        """Equal for equal policies, wherever their files lie."""
        return [self.sha256, self.settings] if self.sha256 is not None else [self.spec]

    def as_json(self) -> dict[str, JsonValue]:
        """For a journal or a snapshot."""
        return {
            "name": self.name,
            "spec": self.spec,
            "file": self.file,
            "settings": self.settings,
            "sha256": self.sha256,
        }


def entry_of(fields: Mapping[str, Any]) -> PolicyEntry:
    """An entry from what `as_json` gave; other fields are left out."""
    return PolicyEntry(**{name: fields[name] for name in PolicyEntry.__dataclass_fields__ if name in fields})


class PolicyStore:
    """Keeps policy files in a folder of the run.

    Args:
        folder: Of the run; the files lie in `policies/` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entry(self, spec: str | PolicySpec, content: bytes | None = None) -> PolicyEntry:
        """Entry of what a run was started with; a file that it names is kept.

        Args:
            spec: What `make_policy` takes.
            content: Of the file that `spec` names, where the file itself is on another machine.

        Raises:
            PolicyFileError: The file cannot be read or kept.
        """
        if isinstance(spec, PolicySpec):
            return PolicyEntry(spec.name or spec.kind, spec.model_dump(mode="json"))
        path = policy_path(spec)
        if path is None:
            return PolicyEntry(spec, spec)
        settings = written_out(spec).partition(f"{SUFFIX}:")[2]
        if content is None:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise PolicyFileError(
                    f"{path}: expected a readable policy file, got: {error.strerror or error}"
                ) from error
        return self.keep(path.name, content, settings)

    def keep(self, name: str, content: bytes, settings: str = "") -> PolicyEntry:
        """Stores a file under its digest, whole or not at all.

        Args:
            name: Its name, which says by its ending what it is.
            content: Its bytes.
            settings: Of its rule, replaced.

        Raises:
            PolicyFileError: Another ending, too large, or the folder cannot be written.
        """
        suffix = Path(name).suffix
        if suffix not in SUFFIXES:
            raise PolicyFileError(mismatch("name", f"a name that ends in one of {', '.join(SUFFIXES)}", name))
        if len(content) > MOST_BYTES:
            raise PolicyFileError(mismatch("policy", f"at most {MOST_BYTES} bytes", len(content)))
        digest = hashlib.sha256(content).hexdigest()
        relative = f"{FOLDER}/{digest}{suffix}"
        _write(self.folder / relative, content)
        return PolicyEntry(Path(name).stem, file=relative, settings=settings, sha256=digest)

    def path(self, entry: PolicyEntry) -> Path | None:
        """The kept copy; None where no file is kept."""
        return None if entry.file is None else self.folder / entry.file

    def make(self, entry: PolicyEntry, setting: Setting) -> Policy:
        """A fresh policy.

        Raises:
            PolicyFileError: The kept file is gone or altered, or does not fit the setting.
            ConfigError: Nothing of that kind, or wrong settings.
        """
        path = self.path(entry)
        if path is None:
            spec = entry.spec if isinstance(entry.spec, str) else parse_config(entry.spec, PolicySpec, "policy")
            return make_policy(spec, setting)
        found = file_digest(path)
        if found != entry.sha256:
            raise PolicyFileError(mismatch(str(path), f"the file with SHA-256 {entry.sha256}", found))
        return make_policy(f"{path}:{entry.settings}" if entry.settings else str(path), setting)

    def check_pushed(self, entry: PolicyEntry) -> None:
        """Refuses what would load code: over the network a policy comes as data alone.

        Raises:
            ConfigError: A YAML file that names a class.
        """
        path = self.path(entry)
        if path is not None and path.suffix != SUFFIX:
            kind = parse_config(read_yaml(path), PolicySpec, entry.name).kind
            if ":" in kind:
                raise ConfigError(mismatch("kind", f"one of {', '.join(POLICIES)} in a file that is pushed", kind))


def policy_path(spec: str | PolicySpec) -> Path | None:
    """The file that a policy is read from; None where it is none.

    Args:
        spec: What `make_policy` takes.
    """
    named = policy_file(spec)
    if named is not None:
        return named[0]
    return Path(spec) if isinstance(spec, str) and spec.endswith(SUFFIXES) else None


class FileWatch:
    """Notices when a file no longer holds what was read from it.

    A look costs one `stat`; the digest is taken anew only when that says something.

    Args:
        path: The file.
        sha256: What it held.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self._path, self._sha256 = path, sha256
        self._seen: tuple[int, ...] | None = None
        self._detail: str | None = None

    def changed(self) -> str | None:
        """What is wrong; None while the file is as it was."""
        try:
            status = self._path.stat()
        except OSError as error:
            self._seen = None
            return f"{self._path}: {error.strerror or error}"
        seen = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            found = file_digest(self._path)
            is_same = found == self._sha256
            self._detail = (
                None if is_same else mismatch(f"{self._path}: SHA-256", self._sha256[:12], (found or "")[:12])
            )
            self._seen = seen
        return self._detail


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _write(target: Path, content: bytes) -> None:
    if target.exists() and target.read_bytes() == content:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".policy-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(partial).replace(target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PolicyFileError(f"{target}: expected a writable place, got: {error.strerror or error}") from error
