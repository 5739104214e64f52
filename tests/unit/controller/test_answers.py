"""Measured answers of a catalog: rows in it or in a file beside it, whole, in range and in its order of variants."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from controller.catalog import Catalog, load_catalog
from controller.compile import compile_scenario
from controller.config import parse_config
from controller.errors import CatalogError, ConfigError
from controller.scenario import Scenario
from tests.tiny import catalog_document, scenario_document, tiny_setting

ROWS = {
    "variants": ["large", "small"],
    "confidence": [[0.9, 0.4], [0.7, 1.0], [0.2, 0.6]],
    "right": [[1, 0], [1, 1], [0, 0.5]],
    "derived": "chosen for tests",
}


def document(**changes: Any) -> dict[str, Any]:
    return catalog_document() | {"answers": copy.deepcopy(ROWS) | changes}


def loaded(folder: Path, confidence: Any, right: Any) -> Catalog:
    np.savez(folder / "rows.npz", confidence=confidence, right=right)
    named = {"variants": ROWS["variants"], "file": "rows.npz", "measured": "a calibration set"}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog_document() | {"answers": named}))
    return load_catalog(folder / "catalog.yaml")


def compiled(catalog: Catalog) -> Any:
    return compile_scenario(parse_config(scenario_document(), Scenario, "tiny"), catalog).answers


def test_rows_are_compiled_in_catalog_order_with_nan_for_the_unmeasured() -> None:
    answers = compiled(parse_config(document(), Catalog, "tiny"))
    nan = np.nan
    np.testing.assert_array_equal(answers.confidence, [[0.4, nan, 0.9], [1.0, nan, 0.7], [0.6, nan, 0.2]])
    np.testing.assert_array_equal(answers.right, [[0.0, nan, 1.0], [1.0, nan, 1.0], [0.5, nan, 0.0]])


def test_without_a_table_there_are_no_rows() -> None:
    assert tiny_setting().answers.confidence.shape == tiny_setting().answers.right.shape == (0, 3)


def test_a_file_beside_the_catalog_holds_the_same_as_rows_in_it(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, ROWS["confidence"], ROWS["right"])
    for found, expected in zip(compiled(catalog), compiled(parse_config(document(), Catalog, "tiny")), strict=True):
        np.testing.assert_array_equal(found, expected)
    again = parse_config(catalog.model_dump(mode="json"), Catalog, "journal")
    assert again.answers == catalog.answers  # a journal needs no file


def test_a_catalog_without_a_table_is_dumped_as_before_there_was_one() -> None:
    assert "answers" not in parse_config(catalog_document(), Catalog, "tiny").model_dump(mode="json")


def test_the_fingerprint_does_not_cover_answers() -> None:
    with_rows, without = (parse_config(d, Catalog, "tiny") for d in (document(), catalog_document()))
    assert with_rows.fingerprint == without.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variants": ["large", "huge"]},
            "answers.variants: expected names of ['large', 'medium', 'small'], got 'huge'",
        ),
        ({"variants": ["small", "small"]}, "variants: expected distinct names"),
        ({"right": [[1, 0], [1, 1]]}, "right: expected 3 rows (as confidence), got 2"),
        ({"confidence": [[0.9], [0.7, 1.0], [0.2, 0.6]]}, "confidence[0]: expected 2 values (variants), got 1"),
        (
            {"confidence": [[1.5, 0.4], [0.7, 1.0], [0.2, 0.6]]},
            "answers.confidence[0][0]: expected a number <= 1.0, got 1.5",
        ),
        ({"file": "rows.npz"}, "expected either 'file' or rows"),
        ({"confidence": [], "right": []}, "expected either 'file' or rows"),
        ({"measured": "twice"}, "exactly one of 'measured'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(document(**changes), Catalog, "c.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("confidence", "right", "message"),
    [
        (np.ones((3, 3)), np.ones((3, 2)), r"confidence: expected a shape of \(rows, 2\), got \(3, 3\)"),
        (np.ones((3, 2)), np.ones((4, 2)), r"right: expected at least one row and as many as confidence \(3\), got 4"),
        (np.ones((0, 2)), np.ones((0, 2)), r"right: expected at least one row"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), r"confidence: expected values within 0\.\.1"),
        (np.ones((3, 2)), np.full((3, 2), -1), r"right: expected values within 0\.\.1"),
        (np.array([["a", "b"]]), np.ones((1, 2)), r"expected an \.npz with an array of numbers 'confidence'"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, confidence: Any, right: Any, message: str) -> None:
    with pytest.raises(CatalogError, match=rf"rows\.npz.*{message}"):
        loaded(tmp_path, confidence, right)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    catalog = parse_config(
        catalog_document() | {"answers": {"variants": ["small"], "file": "no.npz", "derived": "none"}}, Catalog, "c"
    )
    with pytest.raises(CatalogError, match=r"answers\.file: expected a catalog whose rows were read"):
        compiled(catalog)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(catalog.model_dump(mode="json", exclude_none=True)))
    with pytest.raises(CatalogError, match=r"no\.npz: expected an \.npz with an array of numbers 'confidence'"):
        load_catalog(tmp_path / "c.yaml")
