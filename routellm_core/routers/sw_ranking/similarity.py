"""Battle embeddings, normalised once and stored compactly, and their cosine similarity to prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError

__all__ = [
    "EmbeddingWriter",
    "NumpySimilarity",
    "Similarity",
    "StorageType",
    "StoredEmbeddings",
    "checked_storage_type",
    "quantise_rows",
    "unit_rows",
]

Float32 = npt.NDArray[np.float32]
StorageType: TypeAlias = Literal["float64", "float32", "float16", "int8"]
"""float64 is for checking the others: prompts then stay in float64 too."""

_TILE_BYTES = 12 << 20
"""Float32 rows widened at a time: large enough for an efficient matrix product (2,048 rows of 1,536)."""

_WRITE_ROWS = 512
"""Rows normalised at a time while loading; the float64 copies of more would show in the peak memory."""


def checked_storage_type(value: str) -> StorageType:
    """Return ``value`` if it names a storage type.

    Raises:
        ConfigError: it does not.
    """
    if value not in get_args(StorageType):
        raise ConfigError(f"dtype {value!r} is not one of {', '.join(get_args(StorageType))}")
    return value  # type: ignore[return-value]  # narrowed by the check above


def unit_rows(vectors: npt.NDArray[Any], dtype: Any = np.float32) -> npt.NDArray[Any]:
    """Scale each row to length 1; a row of zeros stays zero. Norms are computed in float64.

    Args:
        vectors: shape (n, d).
        dtype: of the result.
    """
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return np.asarray(wide / np.where(norms > 0, norms, 1.0)[:, None], dtype=dtype)


def quantise_rows(units: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Round each row to 255 levels between ± its largest magnitude.

    Returns:
        levels, shape (n, d), in −127 … 127, and the row's step, shape (n,): row ≈ step · levels.
    """
    peaks = np.abs(units).max(axis=1, initial=0.0)
    steps = np.where(peaks > 0, peaks / 127.0, 1.0).astype(np.float32)
    return np.rint(units / steps[:, None]).astype(np.int8), steps


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """Unit-length rows in a storage type.

    Attributes:
        values: shape (n, d), float32, float16 or int8.
        steps: shape (n,), float32: what to multiply a row of int8 levels by; None for the floating types.
    """

    values: npt.NDArray[Any]
    steps: Float32 | None = None

    @property
    def rows(self) -> int:
        """Number of embeddings."""
        return int(self.values.shape[0])

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.values.shape[1])

    @property
    def tile_rows(self) -> int:
        """How many rows to widen at a time."""
        return max(1, min(self.rows, _TILE_BYTES // (4 * self.dimension)))

    @property
    def storage_type(self) -> StorageType:
        """How the rows are stored."""
        return checked_storage_type(str(self.values.dtype))

    @property
    def prompt_dtype(self) -> Any:
        """The dtype that prompts are normalised to: float64 for float64 rows, else float32."""
        return np.float64 if self.values.dtype == np.float64 else np.float32

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.values.nbytes) + (0 if self.steps is None else int(self.steps.nbytes))

    def widened(self, start: int, stop: int) -> Float32:
        """Return rows ``start`` to ``stop`` in float32, shape (stop − start, d)."""
        rows = self.values[start:stop].astype(np.float32)
        if self.steps is not None:
            rows *= self.steps[start:stop, None]
        return rows

    def as_float32(self) -> StoredEmbeddings:
        """Return the rows in float32, as they stand."""
        return StoredEmbeddings(self.widened(0, self.rows))

    def converted(self, storage_type: StorageType) -> StoredEmbeddings:
        """Return the same rows in another storage type, tile by tile; itself where the type is the same."""
        if storage_type == self.storage_type:
            return self
        writer = EmbeddingWriter(self.rows, self.dimension, storage_type)
        # Rows are renormalised on the way, which undoes most of what rounding did to their lengths.
        for start in range(0, self.rows, self.tile_rows):
            stop = min(start + self.tile_rows, self.rows)
            writer.write(self.widened(start, stop), np.arange(start, stop))
        return writer.finish()


class EmbeddingWriter:
    """Fills a :class:`StoredEmbeddings` batch by batch, so that loading needs no second copy.

    Args:
        rows: how many embeddings there will be.
        dimension: their length.
        storage_type: how to store them.
    """

    def __init__(self, rows: int, dimension: int, storage_type: StorageType) -> None:
        self._values = np.zeros((rows, dimension), dtype=storage_type)
        self._steps = np.ones(rows, dtype=np.float32) if storage_type == "int8" else None

    def write(self, vectors: npt.NDArray[Any], destinations: npt.NDArray[np.integer[Any]]) -> None:
        """Normalise ``vectors``, shape (k, d), and store them in the rows ``destinations``, shape (k,).

        Raises:
            ConfigError: another length than the first embeddings', or a value that is not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._values.shape[1]:
            raise ConfigError(
                f"embeddings have shape {vectors.shape} where rows of length {self._values.shape[1]} are expected"
            )
        if not np.isfinite(vectors).all():
            raise ConfigError("battle embeddings must be finite numbers; found NaN or infinity")
        for start in range(0, len(vectors), _WRITE_ROWS):
            units = unit_rows(
                vectors[start : start + _WRITE_ROWS], np.float64 if self._values.dtype == np.float64 else np.float32
            )
            rows = destinations[start : start + _WRITE_ROWS]
            if self._steps is None:
                self._values[rows] = units
            else:
                self._values[rows], self._steps[rows] = quantise_rows(units)

    def finish(self) -> StoredEmbeddings:
        """Return what was written."""
        return StoredEmbeddings(self._values, self._steps)


class Similarity(Protocol):
    """Computes cosine similarities on some device."""

    def cosines(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return cosine similarities.

        Args:
            prompts: shape (B, d), unit rows of ``StoredEmbeddings.prompt_dtype``.

        Returns:
            shape (B, n), of the prompts' dtype, C-contiguous, owned by the caller.
        """
        ...


class NumpySimilarity:
    """Cosines by NumPy: one matrix product over float32 or float64 rows, or one per widened tile of compact ones.

    Extra memory beside the result: nothing for float32, one tile (12 MB) otherwise.
    """

    def __init__(self, stored: StoredEmbeddings) -> None:
        self._stored = stored

    def cosines(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See :meth:`Similarity.cosines`."""
        stored = self._stored
        if stored.values.dtype == prompts.dtype:
            return np.asarray(prompts @ stored.values.T)
        result = np.empty((len(prompts), stored.rows), dtype=np.float32)
        tile = np.empty((stored.tile_rows, stored.dimension), dtype=np.float32)
        for start in range(0, stored.rows, stored.tile_rows):
            stop = min(start + stored.tile_rows, stored.rows)
            rows = tile[: stop - start]
            np.copyto(rows, stored.values[start:stop], casting="unsafe")
            # Rows times prompts, then transposed: the other order repacks the prompts for every tile.
            result[:, start:stop] = (rows @ prompts[0])[None] if len(prompts) == 1 else (rows @ prompts.T).T
        if stored.steps is not None:
            result *= stored.steps
        return result
