"""How far a policy is let: the four modes, and who made the decision of a tick."""

from __future__ import annotations

from enum import StrEnum

from controller.errors import UsageError, mismatch


class Mode(StrEnum):
    """What the operator lets the policy do."""

    REPLAY = "replay"
    """Policy and rule decide on what is observed and are journalled; nothing is applied, the fleet stays."""
    SHADOW = "shadow"
    """The named rule drives; the policy's decision is journalled beside."""
    CANARY = "canary"
    """The policy drives, its replicas held within a band around the rule's."""
    ACTIVE = "active"
    """The policy drives."""


class Driver(StrEnum):
    """Whose decision a tick's line in the journal is."""

    POLICY = "policy"
    CANARY = "canary"
    RULE = "rule"


ALLOWED: dict[Mode, Driver] = {
    Mode.REPLAY: Driver.POLICY,
    Mode.SHADOW: Driver.RULE,
    Mode.CANARY: Driver.CANARY,
    Mode.ACTIVE: Driver.POLICY,
}
"""Who drives in each mode while the policy is trusted."""


def read_mode(text: object, field: str = "mode") -> Mode:
    """A mode by its name.

    Raises:
        UsageError: No such mode; names the field.
    """
    try:
        return Mode(text)  # type: ignore[arg-type]  # what is no text is no mode either
    except ValueError as error:
        raise UsageError(mismatch(field, f"one of {', '.join(Mode)}", text)) from error


def starting_mode(asked: Mode | None, kept: Mode | None, *, is_known_catalog: bool) -> tuple[Mode, str]:
    """The mode a run begins in, and why.

    Args:
        asked: By the command; wins.
        kept: Of the last run in the same folder with the same policy.
        is_known_catalog: Whether the policy was trained on a catalog of this structure, or is a rule.
    """
    if asked is not None:
        return asked, "asked for"
    if kept is not None:
        return kept, "kept from the last run"
    if not is_known_catalog:
        return Mode.SHADOW, "the policy never saw a catalog of this structure"
    return Mode.ACTIVE, "the default"
