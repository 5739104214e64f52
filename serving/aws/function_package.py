"""The package of a function: its handler and the artefact that replicas of the variant run, as one zip."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from controller.errors import ConfigError, mismatch
from serving import digit_model, model_object, zoo
from serving.bring_your_own import ModelSpec

HANDLER = "function_handler.handler"
MOST_BYTES = 50 << 20
"""Largest zip that a call may carry.

Source:
    AWS Lambda developer guide, "Lambda quotas": 50 MB zipped, for direct upload.
"""

_WHEN = (1980, 1, 1, 0, 0, 0)
# Equal contents are equal bytes, by which a function is known to be up to date.


def package(spec: ModelSpec) -> bytes:
    """The zip of a variant's function.

    numpy and safetensors (for the digits ladder), or what a model of the user's imports beside its own package, come
    from the function's layers.

    Raises:
        ConfigError: The module of a reference has no file, or the zip is too large for a call.
    """
    files = dict(_files(spec))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    if len(packed.getvalue()) > MOST_BYTES:
        raise ConfigError(
            mismatch(f"models.{spec.variant}", f"a package of at most {MOST_BYTES} bytes", len(packed.getvalue()))
        )
    return packed.getvalue()


def _files(spec: ModelSpec) -> Iterator[tuple[str, bytes]]:
    yield "function_handler.py", Path(__file__).with_name("function_handler.py").read_bytes()
    if spec.reference is None:
        side = zoo.LADDER[spec.variant].side
        yield "model.json", json.dumps({"side": side}).encode()
        yield "digit_model.py", _source(digit_model)
        yield "weights.safetensors", spec.zoo_weights or b""
        return
    yield "model.json", json.dumps({"reference": spec.reference}).encode()
    yield "model_object.py", _source(model_object)
    yield from _module_files(spec)


def _module_files(spec: ModelSpec) -> Iterator[tuple[str, bytes]]:
    """The top module of a reference: its file, or all sources of its package."""
    assert spec.reference is not None
    top = spec.reference.partition(":")[0].partition(".")[0]
    found = importlib.util.find_spec(top)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        origin = None if found is None else found.origin
        raise ConfigError(mismatch(f"models.{spec.variant}", f"a module {top} with a file to pack", origin))
    if not found.submodule_search_locations:
        yield f"{top}.py", Path(found.origin).read_bytes()
        return
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{top}/{path.relative_to(root)}", path.read_bytes()


def _source(module: ModuleType) -> bytes:
    return Path(str(module.__file__)).read_bytes()
