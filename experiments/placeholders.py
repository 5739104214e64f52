"""Figures of a catalog that nobody knows yet: valid, so that all runs, and marked, so that nobody believes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.catalog import Catalog

MARK = "placeholder"
"""A figure whose `derived` begins with this word is not known."""


def placeholder(value: float, what: str) -> dict[str, Any]:
    """A figure to be replaced.

    Args:
        value: Valid and round; anything else would look like knowledge.
        what: What to put here, and where to get it.
    """
    return {"value": value, "derived": f"{MARK}: {what}"}


def placeholders_in(catalog: Catalog) -> list[str]:
    """Paths of the figures that are not known."""
    document = catalog.model_dump(mode="json", exclude_unset=True)
    found: list[str] = []
    for section in ("links", "variants", "pools", "profiles"):
        for item in document.get(section, ()):
            name = item.get("name") or " on ".join(str(item[key]) for key in ("variant", "pool") if key in item)
            found += [f"{section}[{name}].{path}" for path in _marked(item, "")]
    return found


def _marked(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    if str(value.get("derived", "")).startswith(MARK):
        yield path
    for key, inner in value.items():
        yield from _marked(inner, f"{path}.{key}" if path else str(key))
