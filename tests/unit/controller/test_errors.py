"""Exit codes are a promise to scripts; messages name field, value and expectation."""

import pytest

from controller import errors


@pytest.mark.parametrize(
    "name", ["ConfigError", "CatalogError", "ScenarioError", "TraceError", "PolicyFileError", "UsageError"]
)
def test_wrong_input_exits_2(name: str) -> None:
    assert getattr(errors, name).exit_code == 2


@pytest.mark.parametrize("name", ["ProvisorError", "RunError", "ClusterError"])
def test_failed_run_exits_1(name: str) -> None:
    assert getattr(errors, name).exit_code == 1


def test_every_error_is_caught_as_provisor_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 9
    assert all(issubclass(kind, errors.ProvisorError) for kind in kinds)


def test_mismatch_names_field_expectation_and_value() -> None:
    assert errors.mismatch("pools[0].price", "a number >= 0", -1) == "pools[0].price: expected a number >= 0, got -1"


def test_mismatch_of_whole_document_has_no_path() -> None:
    assert errors.mismatch("", "a mapping", []) == "expected a mapping, got []"


def test_mismatch_cuts_long_values() -> None:
    line = errors.mismatch("a", "x", "y" * 500)
    # 3 characters of "a: ", then the words, then at most 80 of the value
    assert len(line) == len("a: expected x, got ") + 80
    assert line.endswith("...")


def test_one_screen_counts_what_it_leaves_out() -> None:
    assert errors.one_screen(["a", "b", "c"], limit=2) == "a\nb\n... and 1 more"
    assert errors.one_screen(["a", "b"], limit=2) == "a\nb"
