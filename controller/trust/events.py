"""What a journal holds of trust: the kinds of events, and how a second decision is written beside a tick's own.

All events of a tick stand before its line. `trust` begins a run, or begins it anew after a restart, with fresh loops;
`mode`, `preferences`, `alarm` and `policy` say what happened; `drive` says whose decisions the lines hold from then on;
`beside` holds the other decision of one tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from controller.arrays import F64, PlanArrays
from controller.journal_codec import EmptyArrays, as_json, decode, encode
from controller.loop import Decision
from controller.plan import reason_texts

TRUST, MODE, ALARM, POLICY, DRIVE, BESIDE = "trust", "mode", "alarm", "policy", "drive", "beside"
PREFERENCES = "preferences"

LOST = "lost"
"""`why` of a `policy` event: it is not asked any more; any other tells of one that was loaded."""


class Event(NamedTuple):
    """What `JournalWriter.event` takes."""

    kind: str
    fields: dict[str, JsonValue]


def beside_event(by: str, decision: Decision, empty: EmptyArrays) -> Event:
    """The decision of `policy` or `rule` that the tick's line does not hold."""
    fields: dict[str, JsonValue] = {
        "by": by,
        "raw": [as_json(x) for x in decision.raw[0].tolist()],
        "plan": encode(decision.plan, 0, empty.plan),
        "reasons": list(reason_texts(int(decision.plan.reasons[0]))),
    }
    return Event(BESIDE, fields)


def read_beside(fields: Mapping[str, JsonValue], empty: EmptyArrays) -> tuple[str, F64, PlanArrays]:
    """Whose it is, raw output (1, K) and plan of a `beside` event.

    Raises:
        ValueError, TypeError, KeyError, IndexError: The fields are damaged.
    """
    raw, plan = fields["raw"], fields["plan"]
    if not isinstance(raw, list) or not isinstance(plan, dict):
        raise TypeError("expected raw and plan")
    return str(fields["by"]), np.array([[float(str(x)) for x in raw]], np.float64), decode(plan, empty.plan)
