"""The default catalog, figure by figure, from published measurements.

    python -m experiments.catalog_figures            prints every figure with its provenance
    python -m experiments.catalog_figures --write    rewrites controller/catalogs/default.yaml

`$PROVISOR_DATA` names the measurements. The shipped YAML is what Provisor reads; this module only says how its figures
came about, and a test holds the two together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from controller.errors import UsageError
from experiments.catalog_build import default_catalog
from experiments.catalog_derivation import Entry
from experiments.catalog_sources import read_sources

SHIPPED = Path(__file__).resolve().parents[1] / "controller" / "catalogs" / "default.yaml"
_PLAIN = re.compile(r"[^\W\d][\w-]*")
# A text that YAML takes for one without quotes, three words apart.
HEADER = """# What can be bought in us-east-1 and which image classifiers run on it.
# Each figure is `measured` (with its source) or `derived` (with its formula; "assumed" where nothing was published).
# Written by `python -m experiments.catalog_figures --write`.
"""


def to_yaml(catalog: Entry, header: str = HEADER) -> str:
    """The catalog as YAML, a figure a line; a shape or launch time used again is written once and referred to."""
    seen: dict[str, str] = {}
    lines = [header.rstrip()]
    for key, value in catalog.items():
        if not isinstance(value, list) or not value:
            lines.append(f"{key}: {_flow(value)}")
            continue
        lines.append(f"\n{key}:")
        for item in value:
            for position, (field, content) in enumerate(item.items()):
                lead = "  - " if position == 0 else "    "
                lines.append(f"{lead}{field}: {_shared(field, content, seen)}")
    return "\n".join(lines) + "\n"


def _shared(field: str, content: object, seen: dict[str, str]) -> str:
    text = _flow(content)
    if not field.endswith("_shape") and field != "launch_s":
        return text
    if text in seen:
        return f"*{seen[text]}"
    seen[text] = f"{field}_{1 + sum(name.startswith(field) for name in seen.values())}"
    return f"&{seen[text]} {text}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null"):
        return value
    return json.dumps(value, ensure_ascii=False)


def _figures(catalog: Entry) -> dict[str, str]:
    """Path to text of every figure."""
    found: dict[str, str] = {}
    for section, items in catalog.items():
        for item in items if isinstance(items, list) else ():
            name = item.get("name") or " ".join(
                str(item[k]) for k in ("source", "target", "variant", "pool") if k in item
            )
            found |= {f"{section}[{name}].{field}": _flow(v) for field, v in item.items() if isinstance(v, Mapping)}
    return found


def main() -> None:
    """Prints the figures, or writes the shipped file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="rewrite the shipped catalog")
    write = parser.parse_args().write
    data = os.environ.get("PROVISOR_DATA")
    if not data:
        raise UsageError("PROVISOR_DATA: expected the directory of published measurements, got nothing")
    catalog = default_catalog(read_sources(Path(data)))
    if write:
        SHIPPED.write_text(to_yaml(catalog), encoding="utf-8")
        return
    for path, text in _figures(catalog).items():
        sys.stdout.write(f"{path}: {text}\n")


if __name__ == "__main__":
    main()
