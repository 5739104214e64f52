"""The policy file: one archive that holds everything that decides, and nothing that runs.

A `*.provisor` file is a stored zip of `manifest.json` and `weights.safetensors`, closed by a comment with the SHA-256
of every byte before it. The manifest says what the weights are for (observation, knobs, catalog), how they came about,
and the base rule's settings; the weights are the knob network and the forecaster. Reading it needs numpy alone, and no
part is ever unpickled.

The digests find damage and careless edits. They are no signature: who can write the file can also write its digests.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError, model_validator

from controller.config import StrictModel, versions
from controller.errors import PolicyFileError, mismatch, one_screen
from controller.validation import error_lines

FORMAT_VERSION: Final = 2
SUFFIX = ".provisor"
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"

_SEAL = b"provisor sha256 "
_SEAL_BYTES = len(_SEAL) + 64
_MOST_BYTES = 64 << 20  # a knob network is a few hundred kB; what is larger is not a policy
_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal content gives equal bytes


class SpecReference(StrictModel):
    """Identity of an input layout: a file made for another one would be read wrongly, number by number."""

    name: str
    size: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the field list, in order, with scales")


class KnobReference(StrictModel):
    """One output of the network: which knob it turns and how far."""

    name: str
    scale: float = Field(gt=0)


class ForecasterReference(StrictModel):
    """What the forecaster takes and gives."""

    inputs: SpecReference
    levels: tuple[float, ...] = Field(min_length=1)
    hidden: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class InputRange(StrictModel):
    """What each input of the network was in training: the span within which its answers were ever judged."""

    low: tuple[float, ...] = Field(min_length=1, description="0.1 % quantile of each input")
    high: tuple[float, ...] = Field(min_length=1, description="99.9 % quantile of each input")
    samples: int = Field(ge=1, description="ticks they were taken from")

    @model_validator(mode="after")
    def _paired(self) -> InputRange:
        if len(self.low) != len(self.high):
            raise ValueError(f"high: expected {len(self.low)} numbers, as in low, got {len(self.high)}")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("low: expected numbers of at most those in high, got larger ones")
        return self


class TrainingRecord(StrictModel):
    """Where the weights come from."""

    trace: str
    trace_sha256: str | None = None
    scenario: str
    train_days: tuple[int, int]
    validation_days: tuple[int, int]
    seeds: tuple[int, ...]
    steps: int = Field(ge=0, description="decisions seen by the selected weights; 0: the rule itself, or a clone")
    details: dict[str, JsonValue] = Field(default_factory=dict)


class Manifest(StrictModel):
    """All of a policy file but the weights."""

    format_version: Literal[2] = FORMAT_VERSION
    kind: Literal["knob_network"] = "knob_network"
    observation: SpecReference
    knobs: tuple[KnobReference, ...] = Field(min_length=1)
    hidden: tuple[int, ...] = Field(default=(64, 64), description="none: a linear policy")
    base_rule: Literal["mpc"] = "mpc"
    settings: dict[str, JsonValue] = Field(description="settings of the base rule, as its model takes them")
    forecaster: ForecasterReference
    dial_default: float = Field(gt=0, description="multiplier of the value of a miss that the policy was selected at")
    catalog: Literal["fixed", "any"]
    catalog_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="structural fingerprint of the training catalog")
    training: TrainingRecord
    input_range: InputRange | None = Field(default=None, description="none: nothing is known, drift is not tested")
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str | None] = Field(default_factory=versions)
    weights_sha256: str = Field(default="0" * 64, pattern=r"^[0-9a-f]{64}$")
    manifest_sha256: str = Field(default="0" * 64, pattern=r"^[0-9a-f]{64}$", description="of all other fields")

    @model_validator(mode="after")
    def _range_of_every_input(self) -> Manifest:
        if self.input_range is not None and len(self.input_range.low) != self.observation.size:
            raise ValueError(
                f"input_range: expected {self.observation.size} inputs (observation.size), "
                f"got {len(self.input_range.low)}"
            )
        return self


@dataclass(frozen=True, eq=False)
class PolicyContent:
    """A policy file in memory. Digests of the manifest are filled in when it is saved."""

    manifest: Manifest
    tensors: Mapping[str, NDArray[np.float32]]  # `knobs.*` and `forecaster.*`
    sha256: str = ""  # of the whole file it was read from; empty before it was saved


def layer_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the knob network's tensors: weights are (outputs, inputs)."""
    sizes = (manifest.observation.size, *manifest.hidden, len(manifest.knobs))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        shapes[f"knobs.{layer}.weight"] = (outputs, inputs)
        shapes[f"knobs.{layer}.bias"] = (outputs,)
    return shapes


def forecaster_shapes(forecaster: ForecasterReference) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the forecaster's tensors, `controller.rule_arrays.ForecastArrays` without its levels."""
    inputs, (first, second), levels = forecaster.inputs.size, forecaster.hidden, len(forecaster.levels)
    return {
        "forecaster.input_scale": (inputs,),
        "forecaster.w1": (inputs, first),
        "forecaster.b1": (first,),
        "forecaster.w2": (first, second),
        "forecaster.b2": (second,),
        "forecaster.w3": (second, levels),
        "forecaster.b3": (levels,),
    }


def save_policy_file(path: str | Path, content: PolicyContent) -> PolicyContent:
    """Writes a policy file atomically: a reader sees the old file or the new one, never a part.

    Returns:
        The content with its digests, as loading the file gives it.

    Raises:
        PolicyFileError: The content does not fit its own manifest, or the file cannot be written.
    """
    from safetensors.numpy import save

    target = Path(path)
    if target.suffix != SUFFIX:
        raise PolicyFileError(mismatch("path", f"a name that ends in {SUFFIX}", str(path)))
    tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in sorted(content.tensors.items())}
    _check_tensors(content.manifest, tensors, str(target))
    weights = save(tensors)
    manifest = content.manifest.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    manifest = manifest.model_copy(update={"manifest_sha256": _manifest_digest(manifest.model_dump(mode="json"))})
    try:
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise PolicyFileError(f"{target}: {MANIFEST}: expected finite numbers, got: {error}") from error
    data = _sealed({MANIFEST: text.encode(), WEIGHTS: weights})
    _write_atomically(target, data)
    return PolicyContent(manifest, tensors, hashlib.sha256(data).hexdigest())


def load_policy_file(path: str | Path) -> PolicyContent:
    """Reads a policy file and checks all of it; what it returns is whole and unaltered.

    Whether it fits this version's observation and knobs, and the catalog at hand, is checked where it is put to use
    (`controller.policies.learned`).

    Raises:
        PolicyFileError: Naming what was expected and found: no such file, no archive, truncated, altered, another
            version, or tensors that are missing, left over, of another shape or not finite.
    """
    source = str(path)
    try:
        size = Path(path).stat().st_size
        data = Path(path).read_bytes() if size <= _MOST_BYTES else b""
    except OSError as error:
        raise PolicyFileError(f"{source}: expected a readable policy file, got: {error.strerror or error}") from error
    if size > _MOST_BYTES:
        raise PolicyFileError(mismatch(source, f"at most {_MOST_BYTES} bytes", size))
    members = _members(data, source)
    manifest = _parse_manifest(members[MANIFEST], source)
    found = hashlib.sha256(members[WEIGHTS]).hexdigest()
    if found != manifest.weights_sha256:
        raise PolicyFileError(mismatch(f"{source}: {WEIGHTS}: SHA-256", manifest.weights_sha256, found))
    tensors = _parse_weights(members[WEIGHTS], source)
    _check_tensors(manifest, tensors, source)
    _check_seal(data, source)
    return PolicyContent(manifest, tensors, hashlib.sha256(data).hexdigest())


def _sealed(members: Mapping[str, bytes]) -> bytes:
    """Zip bytes of the members, the archive comment holding the digest of everything before it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), body)
        archive.comment = b" " * _SEAL_BYTES  # fixes the length field, which the digest covers
    body = stream.getvalue()[:-_SEAL_BYTES]
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode()


def _check_seal(data: bytes, source: str) -> None:
    body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    expected = hashlib.sha256(body).hexdigest()
    found = seal.removeprefix(_SEAL).decode("ascii", errors="replace")
    if not seal.startswith(_SEAL) or found != expected:
        raise PolicyFileError(mismatch(f"{source}: file SHA-256", expected, found))


def _write_atomically(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PolicyFileError(f"{target}: expected a writable place, got: {error.strerror or error}") from error


def _members(data: bytes, source: str) -> dict[str, bytes]:
    """Bytes of the two members, or the error that says why this is no whole policy file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [info.filename for info in archive.infolist()]
            if sorted(names) != sorted((MANIFEST, WEIGHTS)):
                raise PolicyFileError(mismatch(f"{source}: members", f"{MANIFEST} and {WEIGHTS}", names))
            for info in archive.infolist():
                # Stored members are as large as they say; a compressed one could be a bomb.
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                    raise PolicyFileError(
                        mismatch(f"{source}: {info.filename}", "a stored, plain member", info.compress_type)
                    )
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise PolicyFileError(
            f"{source}: expected a whole policy file, got a truncated or damaged one ({error})"
        ) from error


def _parse_manifest(text: bytes, source: str) -> Manifest:
    where = f"{source}: {MANIFEST}"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PolicyFileError(f"{where}: expected JSON, got: {error}") from error
    if not isinstance(value, dict):
        raise PolicyFileError(mismatch(where, "a mapping", value))
    if value.get("format_version") != FORMAT_VERSION:
        # Before all else: another version may have other fields, and their errors would mislead.
        problem = mismatch(f"{where}: format_version", str(FORMAT_VERSION), value.get("format_version"))
        raise PolicyFileError(f"{problem}; train it anew with this version")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        lines = one_screen(f"  {line}" for line in error_lines(error, Manifest, value))
        raise PolicyFileError(f"{where}:\n{lines}") from error
    found = _manifest_digest(value)
    if found != manifest.manifest_sha256:
        raise PolicyFileError(mismatch(f"{where}: manifest_sha256", found, manifest.manifest_sha256))
    return manifest


def _manifest_digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of every field but this digest."""
    body = {key: entry for key, entry in value.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse_weights(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PolicyFileError(f"{source}: {WEIGHTS}: expected safetensors, got: {error}") from error


def _check_tensors(manifest: Manifest, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    wanted = layer_shapes(manifest) | forecaster_shapes(manifest.forecaster)
    where = f"{source}: {WEIGHTS}"
    for name in sorted(wanted.keys() - tensors.keys()):
        raise PolicyFileError(f"{where}: {name}: expected a tensor of shape {wanted[name]}, got nothing")
    for name in sorted(tensors.keys() - wanted.keys()):
        raise PolicyFileError(f"{where}: {name}: expected no such tensor (the manifest names none)")
    for name, shape in wanted.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise PolicyFileError(
                mismatch(f"{where}: {name}", f"float32 of shape {shape}", f"{tensor.dtype} {tensor.shape}")
            )
        if not np.isfinite(tensor).all():
            raise PolicyFileError(
                mismatch(f"{where}: {name}", "finite numbers", f"{int((~np.isfinite(tensor)).sum())} others")
            )
