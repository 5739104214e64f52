"""What is wrong with a configuration, in the words of the file it was written in.

pydantic reports locations and rules of its models; here they become `pools[0].price: expected a number >= 0, got -1`.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from controller.errors import mismatch

_EXPECTATIONS = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
    "none_required": "nothing",
}
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def error_lines(error: ValidationError, model: type[BaseModel], value: object) -> list[str]:
    """One line per wrong field; what several members of a union expected is joined by `or`.

    Args:
        error: What pydantic raised.
        model: The model that was validated, asked for the keys it takes.
        value: The plain value that was validated.
    """
    lines: dict[str, str] = {}
    expected: dict[str, tuple[list[str], object]] = {}
    for one in error.errors():
        loc, kind, context = one["loc"], one["type"], one.get("ctx", {})
        path = _path(loc, value)
        if kind == "missing":
            lines[path] = f"{path}: expected a value, got nothing"
        elif kind == "extra_forbidden":
            lines[path] = f"{path}: unknown key{did_you_mean(str(loc[-1]), _fields_at(model, loc[:-1]))}"
        elif kind == "value_error":
            lines[path] = f"{path}: {context['error']}" if path else str(context["error"])
        elif kind == "union_tag_not_found":
            tag_path = f"{path}.{context['discriminator']}".replace("'", "").lstrip(".")
            lines[tag_path] = f"{tag_path}: expected a value, got nothing"
        elif kind == "union_tag_invalid":
            tag_path = f"{path}.{context['discriminator']}".replace("'", "").lstrip(".")
            lines[tag_path] = mismatch(tag_path, f"one of {context['expected_tags']}", context["tag"])
        else:
            expected.setdefault(path, ([], one["input"]))[0].append(_expectation(kind, context, one["msg"]))
            lines.setdefault(path, "")
    for path, (expectations, got) in expected.items():
        lines[path] = mismatch(path, " or ".join(dict.fromkeys(expectations)), got)
    return list(lines.values())


def _expectation(kind: str, context: Mapping[str, object], message: str) -> str:
    if kind in _EXPECTATIONS:
        return _EXPECTATIONS[kind]
    if kind in _BOUNDS:
        bound = _BOUNDS[kind]
        return f"a number {_SIGNS[bound]} {context[bound]}"
    if kind in ("literal_error", "enum"):
        return f"one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"text matching {context['pattern']}"
    text = message.removeprefix("Input should be ").removeprefix("Value should ")
    return text[:1].lower() + text[1:]


def _path(loc: tuple[int | str, ...], value: object) -> str:
    """`pools[0].price` for a location; names of union members in it, which stand nowhere in the file, are left out."""
    path = ""
    here: Any = value
    for depth, step in enumerate(loc):
        if isinstance(step, int):
            path += f"[{step}]"
            here = here[step] if isinstance(here, list) and step < len(here) else None
        elif isinstance(here, dict) and step in here:
            path += f".{step}"
            here = here[step]
        elif depth == len(loc) - 1 and isinstance(here, dict):
            path += f".{step}"
    return path.lstrip(".")


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """Keys that the models at a location take."""
    here = [model]
    for step in loc:
        annotations = [
            m.model_fields[step].annotation for m in here if isinstance(step, str) and step in m.model_fields
        ]
        if annotations:
            here = [found for annotation in annotations for found in _models_in(annotation)]
    return {name for m in here for name in m.model_fields}


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` when a known word is close to `word`, else the list of known words."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f", did you mean '{close[0]}'?"
    return f" (known: {', '.join(words)})" if words else ""
