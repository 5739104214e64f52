"""Loads a user's model in a process of its own and says what that took: `python -m serving.load_probe REFERENCE OUT`.

The process does what that of a replica does: it limits torch to one thread, imports the reference and makes the model.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def resident_bytes() -> int | None:
    """Memory that this process holds; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def probe(reference: str) -> dict[str, float | None]:
    """Loads a model.

    Returns:
        `load_s`, seconds of importing and making it; `weights_bytes`, by how much the process has grown since torch was
        there (None where unknown).
    """
    began_s = time.perf_counter()
    from serving.bring_your_own import ModelSpec
    from serving.replica import one_thread

    one_thread()
    before = resident_bytes()
    model = ModelSpec("model", reference=reference).load()
    load_s = time.perf_counter() - began_s
    after = resident_bytes()
    del model
    grown = None if before is None or after is None else float(max(0, after - before))
    return {"load_s": load_s, "weights_bytes": grown}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(probe(sys.argv[1])), encoding="utf-8")
