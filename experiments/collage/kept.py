"""What takes too long to be trained at every check: networks of Fashion-MNIST as measured, with commit and date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.config import commit_of_code
from controller.errors import ConfigError, mismatch
from experiments.collage.networks import Network, from_json

FILE = Path(__file__).parent / "tables" / "fashion.json"
COMMAND = "provisor experiment collage --full"
"""Measures it anew, for all seeds."""


def keep(networks: Sequence[Network], path: Path = FILE) -> None:
    """Writes what was measured.

    Args:
        networks: Of Fashion-MNIST.
        path: File to write.
    """
    values = [asdict(one) for one in networks]
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        **commit_of_code(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": COMMAND,
        "sha256": _digest(json.loads(json.dumps(values))),
        "networks": values,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def kept(path: Path = FILE) -> tuple[str, list[Network]]:
    """Where and when it was measured, and what was.

    Args:
        path: File to read.

    Raises:
        ConfigError: The file is not there, or its numbers are not those that were written.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values, digest = found["networks"], found["sha256"]
        networks = from_json(values)
        seeds = f"{len(networks[0].measured)} of the seeds of `{found['command']}`"
        title = f"measured on {found['date']} at commit {str(found['commit'])[:12]}, {seeds}"
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: expected what {COMMAND} keeps, got: {error!r}") from error
    if digest != _digest(values):
        raise ConfigError(mismatch(f"{path}: SHA-256 of the networks", _digest(values), digest))
    return title, networks


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
