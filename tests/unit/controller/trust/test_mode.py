import pytest

from controller.errors import UsageError
from controller.trust.mode import Mode, read_mode, starting_mode


def test_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="--mode: expected one of replay, shadow, canary, active, got 'on'"):
        read_mode("on", "--mode")
    assert read_mode("canary") is Mode.CANARY


@pytest.mark.parametrize(
    ("asked", "kept", "is_known", "expected"),
    [
        (None, None, True, Mode.ACTIVE),
        (None, None, False, Mode.SHADOW),
        (None, Mode.CANARY, False, Mode.CANARY),
        (Mode.ACTIVE, Mode.SHADOW, False, Mode.ACTIVE),
    ],
)
def test_run_begins_as_asked_else_as_before_else_in_shadow_on_a_new_catalog(asked, kept, is_known, expected):
    mode, why = starting_mode(asked, kept, is_known_catalog=is_known)
    assert mode is expected
    assert why
