"""Forecasters as files: the fitted one that comes with the package, and one of your own.

A forecaster is two files of one stem: `NAME.json`, which says what the network is for and how it came about, and
`NAME.safetensors`, its weights in float32. Reading them needs numpy alone, and no part is ever unpickled. The package's
own is `default`; `provisor experiment forecast --write` fits it anew.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, JsonValue, ValidationError

from controller.config import StrictModel
from controller.errors import ConfigError, mismatch, one_screen
from controller.forecast import INPUTS, inputs_sha256, persistence_forecast
from controller.rule_arrays import ForecastArrays
from controller.validation import error_lines

FORMAT_VERSION: Final = 1
FOLDER = Path(__file__).parent / "forecasters"
DEFAULT, PERSISTENCE = "default", "persistence"
"""Names that stand for the package's fitted forecaster, and for a rate that stays as it is."""

_MOST_BYTES = 16 << 20


class ForecasterManifest(StrictModel):
    """All of a forecaster file but the weights."""

    format_version: Literal[1] = FORMAT_VERSION
    inputs_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the meanings of the inputs, in order")
    levels: tuple[float, ...] = Field(min_length=1)
    hidden: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    horizons_ticks: tuple[int, ...] = Field(min_length=1, description="horizons it was fitted for")
    training: dict[str, JsonValue] = Field(default_factory=dict, description="traces, parts, draws and settings")
    validation: dict[str, JsonValue] = Field(default_factory=dict, description="losses and coverage by trace")
    weights_sha256: str = Field(default="0" * 64, pattern=r"^[0-9a-f]{64}$")


def forecaster_named(name: str) -> ForecastArrays:
    """A forecaster by name.

    Args:
        name: `default`, `persistence`, or the path of a forecaster's `.json`.

    Raises:
        ConfigError: No such file, or one that is damaged or made for other inputs.
    """
    if name == PERSISTENCE:
        return persistence_forecast()
    if name != DEFAULT:
        return load_forecaster(name)[1]
    # Copies, because it is read once; not read-only views, for which every kernel would be compiled again.
    return ForecastArrays(*(array.copy() for array in _default()))


@cache
def _default() -> ForecastArrays:
    return load_forecaster(FOLDER / f"{DEFAULT}.json")[1]


def load_forecaster(path: str | Path) -> tuple[ForecasterManifest, ForecastArrays]:
    """A forecaster and what is known of it.

    Args:
        path: Its `.json`; the weights lie beside it.

    Raises:
        ConfigError: Naming what was expected and found: no such file, no manifest, another version, other inputs, or
            weights that are altered, missing, of another shape or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    source, path = str(path), Path(path)
    if path.suffix != ".json":
        raise ConfigError(mismatch("forecaster", f"{DEFAULT}, {PERSISTENCE} or the path of a .json", source))
    manifest = _parse(_bytes(path), source)
    if manifest.inputs_sha256 != inputs_sha256():
        problem = mismatch(f"{source}: inputs_sha256", inputs_sha256(), manifest.inputs_sha256)
        raise ConfigError(f"{problem}; fit it anew with this version")
    beside = path.with_suffix(".safetensors")
    data = _bytes(beside)
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.weights_sha256:
        raise ConfigError(mismatch(f"{beside}: SHA-256", manifest.weights_sha256, found))
    try:
        tensors = dict(load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{beside}: expected safetensors, got: {error}") from error
    _check(manifest, tensors, str(beside))
    arrays = {name: np.ascontiguousarray(tensor, np.float64) for name, tensor in tensors.items()}
    arrays["levels"] = np.array(manifest.levels)
    return manifest, ForecastArrays(**arrays)


def save_forecaster(path: str | Path, manifest: ForecasterManifest, arrays: ForecastArrays) -> ForecasterManifest:
    """Writes a forecaster; equal content gives equal bytes.

    Returns:
        The manifest with the digest of the weights.

    Raises:
        ConfigError: The name does not end in `.json`, or the arrays do not fit the manifest.
    """
    from safetensors.numpy import save

    target = Path(path)
    if target.suffix != ".json":
        raise ConfigError(mismatch("forecaster", "a name that ends in .json", str(path)))
    fields = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays._asdict().items()}
    del fields["levels"]
    _check(manifest, fields, str(target))
    weights = save(dict(sorted(fields.items())))
    manifest = manifest.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"
    for file, data in ((target.with_suffix(".safetensors"), weights), (target, text.encode())):
        partial = file.with_name(f".{file.name}.partial")
        partial.write_bytes(data)
        partial.replace(file)
    _default.cache_clear()
    return manifest


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(mismatch(str(path), f"at most {_MOST_BYTES} bytes", path.stat().st_size))
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"forecaster {path}: expected a readable file, got: {error.strerror or error}") from error


def _parse(text: bytes, source: str) -> ForecasterManifest:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source}: expected JSON, got: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(mismatch(source, "a mapping", value))
    if value.get("format_version") != FORMAT_VERSION:
        raise ConfigError(mismatch(f"{source}: format_version", str(FORMAT_VERSION), value.get("format_version")))
    try:
        return ForecasterManifest.model_validate_json(text)
    except ValidationError as error:
        lines = one_screen(f"  {line}" for line in error_lines(error, ForecasterManifest, value))
        raise ConfigError(f"{source}:\n{lines}") from error


def _check(manifest: ForecasterManifest, tensors: dict[str, np.ndarray], source: str) -> None:
    inputs, (first, second), levels = len(INPUTS), manifest.hidden, len(manifest.levels)
    shapes = {
        "input_scale": (inputs,),
        "w1": (inputs, first),
        "b1": (first,),
        "w2": (first, second),
        "b2": (second,),
        "w3": (second, levels),
        "b3": (levels,),
    }
    if tensors.keys() != shapes.keys():
        raise ConfigError(mismatch(f"{source}: tensors", ", ".join(shapes), ", ".join(sorted(tensors))))
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            found = f"{tensor.dtype} of shape {tensor.shape}"
            raise ConfigError(mismatch(f"{source}: {name}", f"finite float32 of shape {shape}", found))
