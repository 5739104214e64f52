"""Configuration is read strictly, and every wrong field is named with what it must be."""

import json
import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from controller.config import StrictModel, load_object, load_yaml, parse_config, resolve_kind, write_run_header
from controller.errors import CatalogError, ConfigError


class Market(Enum):
    ON_DEMAND = "on_demand"
    SPOT = "spot"


class Pool(StrictModel):
    name: str
    price: float = Field(ge=0)
    market: Market = Market.ON_DEMAND
    quota: int | None = None


class Generated(StrictModel):
    kind: Literal["generated"]
    rate: float = Field(gt=0)


class Recorded(StrictModel):
    kind: Literal["recorded"]
    path: str


class Setting(StrictModel):
    pools: tuple[Pool, ...]
    trace: Annotated[Generated | Recorded, Field(discriminator="kind")] = Generated(kind="generated", rate=1.0)
    quantiles: dict[float, float] = Field(default_factory=dict)
    enabled: bool = False
    note: str = ""
    hedge_after_s: float = Field(default=math.inf, allow_inf_nan=True)


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "setting.yaml"
        path.write_text(text)
        return path

    return write


def refusal(path: Path, model: type[StrictModel] = Setting) -> str:
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, model)
    return str(caught.value)


def test_valid_file_becomes_the_model(written) -> None:
    setting = load_yaml(
        written("pools: [{name: c5, price: 1, market: spot}]\nquantiles: {0.5: 1, 0.9: 2.5}\nhedge_after_s: .inf\n"),
        Setting,
    )
    assert setting.pools == (Pool(name="c5", price=1.0, market=Market.SPOT),)
    assert setting.quantiles == {0.5: 1.0, 0.9: 2.5}
    assert setting.hedge_after_s == math.inf


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Pool(name="a", price=1.0).price = 2.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("pools: [{name: a, price: -1}]", "pools[0].price: expected a number >= 0.0, got -1"),
        ("pools: [{name: a, price: '1'}]", "pools[0].price: expected a number, got '1'"),
        ("pools: [{name: a, price: .nan}]", "pools[0].price: expected a finite number, got nan"),
        ("pools: [{name: 7, price: 1}]", "pools[0].name: expected text, got 7"),
        (
            "pools: [{name: a, price: 1, market: spott}]",
            "pools[0].market: expected one of 'on_demand' or 'spot', got 'spott'",
        ),
        ("pools: [{name: a}]", "pools[0].price: expected a value, got nothing"),
        ("pools: [{name: a, prise: 1}]", "pools[0].prise: unknown key, did you mean 'price'?"),
        ("pools: [{name: a, price: 1, quota: 1.5}]", "pools[0].quota: expected a whole number, got 1.5"),
        ("pools: []\nenabled: on", "enabled: expected true or false, got 'on'"),
        ("pools: []\nquantiles: {half: 1}", "quantiles.half: expected a number, got 'half'"),
        ("pools: []\nzzz: 1", "zzz: unknown key (known: enabled, hedge_after_s, note, pools, quantiles, trace)"),
        (
            "pools: []\ntrace: {kind: record, path: x}",
            "trace.kind: expected one of 'generated', 'recorded', got 'record'",
        ),
        ("pools: []\ntrace: {path: x}", "trace.kind: expected a value, got nothing"),
        ("pools: []\ntrace: {kind: generated, rat: 1}", "trace.rat: unknown key, did you mean 'rate'?"),
        ("pools: 3", "pools: expected a list, got 3"),
        ("[1]", "expected a mapping, got [1]"),
    ],
)
def test_wrong_field_is_named_with_what_it_must_be(written, text: str, line: str) -> None:
    message = refusal(written(text))
    assert f"\n  {line}" in message
    assert "setting.yaml" in message.splitlines()[0]


def test_all_wrong_fields_are_reported_at_once(written) -> None:
    message = refusal(written("pools: [{name: 1, price: -1}, {price: x}]"))
    # name and price of the first pool, name and price of the second, and the line with the file
    assert len(message.splitlines()) == 5


def test_many_errors_fit_one_screen(written) -> None:
    message = refusal(written("pools: [" + ", ".join(["{name: 1, price: 1}"] * 100) + "]"))
    assert len(message.splitlines()) <= 24
    assert "80 more" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("pools: []\npools: []\n", "line 2: expected each key once, got 'pools' again (first on line 1)"),
        ("pools: [{name: a,\n  name: b}]", "line 2: expected each key once, got 'name' again (first on line 1)"),
        ("pools: [", "expected YAML, got: while parsing a flow node"),
        ("pools: []\n---\npools: []\n", "expected a single document"),
        ("pools: !!python/name:os.system\n", "expected YAML"),
        ("", "got an empty document"),
        ("? [1]\n: 2\n", "unhashable key"),
    ],
)
def test_text_that_is_no_single_mapping_is_refused(written, text: str, part: str) -> None:
    assert part in refusal(written(text))


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.yaml")
    assert "directory" in refusal(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"note: \xff")
    assert "UTF-8" in refusal(tmp_path / "latin.yaml")


@pytest.mark.parametrize("text", ["on", "12:30", "2024-01-31", "no", "1_000"])
def test_text_that_yaml_1_1_would_convert_stays_text(written, text: str) -> None:
    assert load_yaml(written(f"pools: []\nnote: {text}"), Setting).note == text


def test_exponent_without_a_point_is_a_number(written) -> None:
    assert load_yaml(written("pools: [{name: a, price: 1e-3}]"), Setting).pools[0].price == 0.001


def test_merge_key_may_be_overridden(written) -> None:
    setting = load_yaml(written("pools:\n  - &a {name: a, price: 1}\n  - {<<: *a, name: b}\n"), Setting)
    assert setting.pools[1] == Pool(name="b", price=1.0)


def test_plain_values_are_validated_like_a_file() -> None:
    assert parse_config({"pools": []}, Setting, "here") == Setting(pools=())
    with pytest.raises(ConfigError, match="here"):
        parse_config({"pools": object()}, Setting, "here")


class Floor(StrictModel):
    floor: int

    @model_validator(mode="after")
    def reachable(self) -> Self:
        if self.floor > 3:
            raise CatalogError(f"floor: expected at most 3, got {self.floor}")
        return self


def test_error_of_a_validator_keeps_its_type_and_gets_the_file(written) -> None:
    with pytest.raises(CatalogError, match=r"setting\.yaml: floor: expected at most 3, got 4"):
        load_yaml(written("floor: 4"), Floor)


def test_kind_is_imported_from_its_table() -> None:
    assert resolve_kind("path", {"path": "pathlib:Path"}) is Path


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("pathlib", "expected 'module:name'"),
        ("nowhere_to_be_found:Path", "expected an importable module"),
        ("pathlib.nowhere:Path", "expected an importable module"),
        ("pathlib:Pathh", "expected a name that pathlib defines"),
    ],
)
def test_wrong_reference_is_refused(reference: str, part: str) -> None:
    with pytest.raises(ConfigError, match="policy.class: ") as caught:
        load_object(reference, "policy.class")
    assert part in str(caught.value)


def test_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="market.kind: expected one of a, b, got 'c'"):
        resolve_kind("c", {"b": "x:Y", "a": "x:Y"}, "market.kind")


def test_run_header_holds_what_repeats_the_run(tmp_path: Path) -> None:
    path = write_run_header(tmp_path / "new" / "run", Pool(name="a", price=2.0, market=Market.SPOT), [3, 4])
    header = json.loads(path.read_text())
    assert path.name == "run.json"
    assert header["config"] == {"name": "a", "price": 2.0, "market": "spot", "quota": None}
    assert header["seeds"] == [3, 4]
    assert header["versions"]["python"].startswith("3.")
    assert header["versions"]["numpy"].count(".") >= 1
    assert {"commit", "is_modified", "command"} <= header.keys()
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_run_header_needs_a_writable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a writable directory"):
        write_run_header(tmp_path / "file" / "run", {}, [])
