"""Turns the preference dial of a running policy: the one place where live run, restart and replay do so."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from controller.config import parse_config
from controller.dial import Preferences, set_preferences
from controller.ports import Policy


def turn_dial(policy: Policy, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Lets a policy decide by other preferences from its next decision on; what it remembers stays.

    Args:
        policy: One with a dial.
        fields: The preferences, as JSON; what is left out is neutral.

    Returns:
        All of them.

    Raises:
        UsageError: The policy has no dial.
        ConfigError: A field is wrong.
    """
    wanted = parse_config(dict(fields), Preferences, "preferences")
    set_preferences(policy, wanted)
    return wanted.model_dump(mode="json")
