"""Configuration: YAML files read strictly into frozen models, and the header that makes a run repeatable.

Two ideas are needed to read it. Text is never guessed at: `on`, `12:30` and dates stay text, a key written twice is
refused, and a number in quotes is no number. And one call reports every wrong field at once, as
`path: expected ..., got ...`.

What the fields mean is documented on the models, which live with the code that uses them.
"""

import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from controller.errors import ConfigError, InputError, mismatch, one_screen
from controller.validation import error_lines

RUN_HEADER = "run.json"

# Packages whose version can change a result.
_REPORTED_PACKAGES = (
    "provisor",
    "gymnasium",
    "highspy",
    "numba",
    "numpy",
    "optuna",
    "pydantic",
    "ray",
    "safetensors",
    "scipy",
    "stable-baselines3",
    "torch",
)


class StrictModel(BaseModel):
    """Frozen model that takes no unknown key, converts nothing, and refuses NaN and infinity.

    A field for which infinity has a meaning says so with `Field(allow_inf_nan=True)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


ModelT = TypeVar("ModelT", bound=BaseModel)


class _Loader(yaml.CSafeLoader):
    """YAML 1.2 core schema on PyYAML, which by itself reads 1.1: there `on` is true, `12:30` is 750, `1e-3` is text."""

    # Replaced whole, so that no 1.1 rule is left.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a mapping; a key written twice is an error instead of a silent overwrite."""
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in lines:
                raise ConfigError(
                    f"line {line}: expected each key once, got '{key}' again (first on line {lines[key]})"
                )
            lines[key] = line
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path | str) -> object:
    """The one document of a YAML file as plain values.

    Raises:
        ConfigError: The file is missing, unreadable, empty, no YAML, holds two documents or a key twice.
    """
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{source}: expected a readable YAML file, got: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: expected UTF-8 text, got other bytes at offset {error.start}") from error
    try:
        value: object = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except yaml.YAMLError as error:
        detail = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ConfigError(f"{source}: expected YAML, got: {detail}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: expected plain YAML values, got: {error}") from error
    if value is None:
        raise ConfigError(f"{source}: expected a mapping, got an empty document")
    return value


def load_yaml(path: Path | str, model: type[ModelT]) -> ModelT:
    """Reads a YAML file into `model`.

    Raises:
        ConfigError: Naming the file and every wrong field, one line each.
    """
    return parse_config(read_yaml(path), model, source=str(path))


def parse_config(value: object, model: type[ModelT], source: str) -> ModelT:
    """Validates plain values (mappings, lists, texts, numbers) into `model`.

    Args:
        value: What `read_yaml` or `json.loads` returned.
        model: The model wanted.
        source: Where the value came from, named in every message.

    Raises:
        ConfigError: Naming `source` and every wrong field, one line each.
        InputError: What a validator of the model raised, with `source` in front.
    """
    # Strict validation of JSON takes a list for a tuple and a text for an enum member, which strict validation of
    # Python objects refuses; everything else stays as strict.
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: expected plain values, got: {error}") from error
    try:
        return model.model_validate_json(text)
    except InputError as error:
        # Raised by a check that spans several fields; it knows its fields and not the file.
        raise type(error)(f"{source}: {error}") from error
    except ValidationError as error:
        lines = error_lines(error, model, json.loads(text))
        raise ConfigError(f"{source}:\n{one_screen(f'  {line}' for line in lines)}") from error


def load_object(reference: str, path: str = "") -> Any:
    """The object that `"module:name"` names, imported on this call.

    Args:
        reference: Importable module and attribute, such as `"envs.rewards:RelativeReward"`.
        path: Field that holds the reference, for the message.

    Raises:
        ConfigError: The text has another form, or module or name does not exist.
    """
    module_name, separator, name = reference.partition(":")
    if not separator or not module_name or not name.isidentifier():
        raise ConfigError(mismatch(path, "'module:name'", reference))
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        # A module that exists and misses one of its own imports is another fault than a misspelt reference.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{mismatch(path, 'an importable module', reference)}: {error}") from error
        raise ConfigError(mismatch(path, "an importable module", reference)) from error
    except AttributeError as error:
        raise ConfigError(mismatch(path, f"a name that {module_name} defines", reference)) from error


def resolve_kind(kind: str, table: Mapping[str, str], path: str = "kind") -> Any:
    """The object an explicit table holds for `kind`, imported on this call.

    Args:
        kind: What the configuration names.
        table: Kind to `"module:Class"`.
        path: Field that holds `kind`, for the message.

    Raises:
        ConfigError: `kind` is not in the table.
    """
    if kind not in table:
        raise ConfigError(mismatch(path, f"one of {', '.join(sorted(table))}", kind))
    return load_object(table[kind], path)


def write_run_header(
    directory: Path | str, resolved_config: BaseModel | Mapping[str, object], seeds: Sequence[int]
) -> Path:
    """Writes `run.json`: what is needed to repeat a run, before the run starts.

    It holds the resolved configuration, the command, the seeds, versions of Python and of the packages that can change
    a result, and the commit (null outside a checkout; `is_modified` says whether tracked files differ from it).

    Args:
        directory: Run directory; made if missing.
        resolved_config: Every default filled in.
        seeds: All seeds of the run.

    Raises:
        ConfigError: The directory cannot be written.
    """
    config = resolved_config.model_dump(mode="json") if isinstance(resolved_config, BaseModel) else resolved_config
    header = {"command": sys.argv, "config": config, "seeds": list(seeds), "versions": versions(), **commit_of_code()}
    target = Path(directory) / RUN_HEADER
    partial = target.with_suffix(".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(header, indent=2, default=str) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise ConfigError(f"{directory}: expected a writable directory, got: {error.strerror or error}") from error
    return target


def versions() -> dict[str, str | None]:
    """Versions by name of what can change a result; None where not installed.

    They are read from package metadata: importing torch to ask it would take seconds.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _REPORTED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def commit_of_code() -> dict[str, str | bool | None]:
    """Commit of the checkout this source lies in, if it lies at the top of one."""
    unknown: dict[str, str | bool | None] = {"commit": None, "is_modified": None}
    root = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return unknown
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    outputs = []
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                [git, "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, env=quiet, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return unknown
        outputs.append(done.stdout.strip())
    return {"commit": outputs[0], "is_modified": bool(outputs[1])}
