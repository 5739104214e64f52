"""A part of a catalog, as `provisor profile` writes it: variants and profiles to be added to a whole one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from controller.catalog import Catalog, ModelVariant, Profile
from controller.config import StrictModel, parse_config


class CatalogEntry(StrictModel):
    """Variants and profiles; the pools and, where left out, the variants are those of the catalog it is added to."""

    variants: tuple[ModelVariant, ...] = ()
    profiles: tuple[Profile, ...] = Field(min_length=1)


def with_entry(catalog: Catalog, entry: CatalogEntry) -> Catalog:
    """The catalog with the entry's variants and profiles in the place of those of the same names, or after all others.

    Raises:
        ConfigError: A profile names a pool or variant that neither has, or terms do not fit the pool.
    """
    document: dict[str, Any] = catalog.model_dump(mode="json", exclude_unset=True)
    added: dict[str, Any] = entry.model_dump(mode="json", exclude_unset=True)
    for section, keys in (("variants", ("name",)), ("profiles", ("variant", "pool"))):
        for item in added.get(section, ()):
            names = [tuple(one[key] for key in keys) for one in document[section]]
            name = tuple(item[key] for key in keys)
            if name in names:
                document[section][names.index(name)] = item
            else:
                document[section].append(item)
    return parse_config(document, Catalog, f"catalog '{catalog.name}' with the entry")
