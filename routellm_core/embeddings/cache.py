"""Embeddings kept on disk, so that no text is paid for twice."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from routellm_core.embeddings.base import Embedder, Embeddings, semantic_width

__all__ = ["CachedEmbedder", "default_cache_path"]

_LOOKUP_SIZE = 500  # bound parameters per query, below sqlite's oldest limit of 999


def default_cache_path() -> Path:
    """Return the cache file in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("routellm")) / "embeddings.sqlite"


class CachedEmbedder:
    """Wraps an embedder: each distinct text is embedded once, within a batch and across processes.

    One sqlite file in write-ahead mode serves any number of threads and processes; a text is stored by the SHA-256
    of itself, never in clear.

    Args:
        embedder: what to call for texts that are not in the cache.
        path: the cache file; None takes :func:`default_cache_path`.
    """

    def __init__(self, embedder: Embedder, *, path: Path | None = None) -> None:
        self._embedder = embedder
        self._path = path or default_cache_path()
        self._namespace = str(getattr(embedder, "cache_namespace", embedder.name))
        self._local = threading.local()

    @property
    def name(self) -> str:
        """The wrapped embedder's."""
        return self._embedder.name

    @property
    def dimension(self) -> int | None:
        """The wrapped embedder's."""
        return self._embedder.dimension

    @property
    def semantic_dimension(self) -> int | None:
        """The wrapped embedder's."""
        return semantic_width(self._embedder)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed n texts, shape (n, dimension), float32; only the unknown ones reach the wrapped embedder."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        found = self._read(keys)
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if unknown:
            vectors = self._embedder.embed(list(unknown.values()))
            fresh = dict(zip(unknown, vectors, strict=True))
            self._write(fresh)
            found.update(fresh)
        if not keys:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        return np.stack([found[key] for key in keys])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=30.0)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS embeddings (namespace TEXT, key BLOB, vector BLOB, "
                "PRIMARY KEY (namespace, key)) WITHOUT ROWID"
            )
            self._local.connection = connection
        with connection:
            yield connection

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Embeddings]:
        distinct = list(dict.fromkeys(keys))
        found: dict[bytes, Embeddings] = {}
        with self._connection() as connection:
            for start in range(0, len(distinct), _LOOKUP_SIZE):
                part = distinct[start : start + _LOOKUP_SIZE]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT key, vector FROM embeddings WHERE namespace = ? AND key IN ({marks})",  # noqa: S608 (only marks)
                    [self._namespace, *part],
                )
                found.update((key, np.frombuffer(vector, dtype=np.float32)) for key, vector in rows)
        return found

    def _write(self, vectors: dict[bytes, Embeddings]) -> None:
        rows = [
            (self._namespace, key, np.asarray(vector, dtype=np.float32).tobytes()) for key, vector in vectors.items()
        ]
        with self._connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)
