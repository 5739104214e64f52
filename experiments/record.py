"""What takes too long to be measured at every check: its last result, kept beside the code with its commit and date."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.config import commit_of_code
from experiments.checks import Check

RECORD = Path(__file__).with_name("records") / "sim_to_live.json"


def write_record(checks: Sequence[Check], how: dict[str, Any], path: Path = RECORD) -> None:
    """Keeps what was measured.

    Args:
        checks: All of its values.
        how: Settings of the runs.
        path: File to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**commit_of_code(), "date": datetime.now(UTC).date().isoformat(), **how}
    record["checks"] = [asdict(check) for check in checks]
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path = RECORD, what: str = "live against simulated") -> tuple[str, list[Check]] | None:
    """Title and values of what was kept; None where nothing was."""
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    title = f"{what}, as measured on {record['date']} at commit {str(record['commit'])[:12]}"
    return title, [Check(**row) for row in record["checks"]]
