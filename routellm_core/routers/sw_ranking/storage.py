"""Battle embeddings, normalised once and stored as float32, or as int8 with a step per row.

int8 is a quarter of the memory, and of the time to read it, which is what scoring a lone prompt takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError

__all__ = [
    "SMALL_INDEX_BYTES",
    "EmbeddingWriter",
    "Float32",
    "StorageType",
    "StoredEmbeddings",
    "quantise_rows",
    "storage_type_for",
    "unit_rows",
]

Float32: TypeAlias = npt.NDArray[np.float32]
StorageType: TypeAlias = Literal["float32", "int8"]

SMALL_INDEX_BYTES = 32 << 20
"""An index below this is held in float32 in memory, at most 128 MB; a larger one is mapped from its file as it is."""

_TILE_BYTES = 6 << 20
"""Float32 rows widened at a time: large enough for an efficient matrix product (1,024 rows of 1,536)."""

_WRITE_ROWS = 512
"""Rows normalised at a time while loading; the float64 copies of more would show in the peak memory."""


def storage_type_for(dtype: str, float32_bytes: int) -> StorageType:
    """Return the storage type that the option ``dtype`` names.

    ``"auto"`` keeps small embeddings in float32. Large ones are read from memory for every batch, so that fewer bytes
    are less time; at this size int8 moves scores by less than RouteLLM's own solver is off (docs/decisions/0002).
    ``float32_bytes`` is what the embeddings would take in float32. Raises ConfigError for another name.
    """
    if dtype == "auto":
        return "float32" if float32_bytes < 4 * SMALL_INDEX_BYTES else "int8"
    if dtype not in get_args(StorageType):
        raise ConfigError(f"sw_ranking: dtype {dtype!r} is not one of auto, {', '.join(get_args(StorageType))}")
    return dtype  # type: ignore[return-value]  # narrowed by the check above


def unit_rows(vectors: npt.NDArray[Any]) -> Float32:
    """Scale each row of ``vectors``, shape (n, d), to length 1; a row of zeros stays zero. Norms are float64."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return np.asarray(wide / np.where(norms > 0, norms, 1.0)[:, None], dtype=np.float32)


def quantise_rows(units: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Round each row to levels, shape (n, d), in −127 … 127, times the row's step, shape (n,)."""
    peaks = np.abs(units).max(axis=1, initial=0.0)
    steps = np.where(peaks > 0, peaks / 127.0, 1.0).astype(np.float32)
    return np.rint(units / steps[:, None]).astype(np.int8), steps


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """Unit-length rows in a storage type; they may be mapped from a file."""

    values: npt.NDArray[Any]  # shape (n, d), float32 or int8
    steps: Float32 | None = None  # shape (n,), float32: what to multiply a row of int8 levels by; None for float32

    @property
    def rows(self) -> int:
        """Number of embeddings."""
        return int(self.values.shape[0])

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.values.shape[1])

    @property
    def storage_type(self) -> StorageType:
        """How the rows are stored."""
        return storage_type_for(str(self.values.dtype), 0)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.values.nbytes) + (0 if self.steps is None else int(self.steps.nbytes))

    def tiles(self) -> list[slice]:
        """Return the rows in slices that take 6 MB in float32."""
        height = max(1, _TILE_BYTES // (4 * self.dimension))
        return [slice(start, min(start + height, self.rows)) for start in range(0, self.rows, height)]

    def widened(self, tile: slice = slice(None)) -> Float32:
        """Return the rows of ``tile`` in float32."""
        rows = self.values[tile].astype(np.float32)
        if self.steps is not None:
            rows *= self.steps[tile, None]
        return rows

    def converted(self, storage_type: StorageType) -> StoredEmbeddings:
        """Return the same rows in another storage type, tile by tile; itself where the type is the same."""
        if storage_type == self.storage_type:
            return self
        writer = EmbeddingWriter(self.rows, self.dimension, storage_type)
        # Rows are renormalised on the way, which undoes most of what rounding did to their lengths.
        for tile in self.tiles():
            writer.write(self.widened(tile), np.arange(tile.start, tile.stop))
        return writer.finish()


class EmbeddingWriter:
    """Fills a :class:`StoredEmbeddings` batch by batch, so that loading needs no second copy."""

    def __init__(self, rows: int, dimension: int, storage_type: StorageType) -> None:
        self._values = np.zeros((rows, dimension), dtype=storage_type)
        self._steps = np.ones(rows, dtype=np.float32) if storage_type == "int8" else None

    def write(self, vectors: npt.NDArray[Any], destinations: npt.NDArray[np.integer[Any]]) -> None:
        """Normalise ``vectors``, shape (k, d), and store them in the rows ``destinations``, shape (k,).

        Raises ConfigError for another length than the first embeddings', and for values that are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._values.shape[1]:
            raise ConfigError(
                f"embeddings have shape {vectors.shape} where rows of length {self._values.shape[1]} are expected"
            )
        if not np.isfinite(vectors).all():
            raise ConfigError("battle embeddings must be finite numbers; found NaN or infinity")
        for start in range(0, len(vectors), _WRITE_ROWS):
            units = unit_rows(vectors[start : start + _WRITE_ROWS])
            rows = destinations[start : start + _WRITE_ROWS]
            if self._steps is None:
                self._values[rows] = units
            else:
                self._values[rows], self._steps[rows] = quantise_rows(units)

    def finish(self) -> StoredEmbeddings:
        """Return what was written."""
        return StoredEmbeddings(self._values, self._steps)
