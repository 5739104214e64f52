"""Turns the preference dial of a running policy: the one place where live run, restart and replay do so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from controller.errors import UsageError, mismatch
from controller.ports import Policy


def turn_dial(policy: Policy, fields: Mapping[str, JsonValue]) -> None:
    """Lets a policy decide by other preferences from its next decision on; what it remembers stays.

    Args:
        policy: One with a dial, that is a method `set_preferences`.
        fields: The preferences, as JSON.

    Raises:
        UsageError: The policy has no dial, or a field is wrong.
    """
    dial: Any = getattr(policy, "set_preferences", None)
    if dial is None:
        raise UsageError(mismatch("preferences", "a policy with a preference dial", policy.name))
    dial(dict(fields))
