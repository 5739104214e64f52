"""The table of measured variants, as a file and as variants of a geo problem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.errors import ConfigError
from controller.planners.geo.problem import GeoVariant

SHIPPED = Path(__file__).parent / "tables" / "variants.npz"


@dataclass(frozen=True)
class VariantTable:
    """Models M on data versions D, measured on Q held-out requests of N images in all.

    Attributes:
        source: Images, training and machine, in words.
        models: Names (M,).
        data: Names (D,).
        sizes: (Q, D) bytes of an encoded request.
        encode_s: (D,) of the client's core, per request.
        service_s: (M, D) of the server's core per request: decoding and the model.
        right: (N, M, D) whether the answer was right, by image; a request's images follow each other.
    """

    source: str
    models: tuple[str, ...]
    data: tuple[str, ...]
    sizes: I64
    encode_s: F64
    service_s: F64
    right: Bool

    @property
    def bytes_mean(self) -> F64:
        """(D,) of the half that says how large a request is."""
        return np.asarray(self.sizes[: len(self.sizes) // 2].mean(axis=0), np.float64)

    @property
    def bytes_confirmed(self) -> F64:
        """(D,) of the half that no plan has seen."""
        return np.asarray(self.sizes[len(self.sizes) // 2 :].mean(axis=0), np.float64)

    @property
    def calibration(self) -> Bool:
        """The half that says how accurate a variant is."""
        return self.right[: len(self.right) // 2]

    @property
    def confirmation(self) -> Bool:
        """The half that no plan has seen."""
        return self.right[len(self.right) // 2 :]

    def variants(self) -> tuple[GeoVariant, ...]:
        """Every model on every data version, model by model."""
        accuracy, size = self.calibration.mean(axis=0), self.bytes_mean
        return tuple(
            GeoVariant(
                model=model,
                data=data,
                accuracy=float(accuracy[m, d]),
                bytes=float(size[d]),
                service_s=float(self.service_s[m, d]),
                encode_s=float(self.encode_s[d]),
            )
            for m, model in enumerate(self.models)
            for d, data in enumerate(self.data)
        )


def write_table(table: VariantTable, path: Path) -> Path:
    """Writes a table, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        source=np.array(table.source),
        models=np.array(table.models),
        data=np.array(table.data),
        sizes=table.sizes,
        encode_s=table.encode_s,
        service_s=table.service_s,
        right=np.packbits(table.right, axis=0),
        num_images=np.array(len(table.right)),
    )
    return path


def read_table(path: Path = SHIPPED) -> VariantTable:
    """A table that was written.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            return VariantTable(
                source=str(held["source"]),
                models=tuple(str(name) for name in held["models"]),
                data=tuple(str(name) for name in held["data"]),
                sizes=held["sizes"],
                encode_s=held["encode_s"],
                service_s=held["service_s"],
                right=np.unpackbits(held["right"], axis=0, count=int(held["num_images"])).astype(np.bool_),
            )
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: expected a table of measured variants, got: {error}") from error
