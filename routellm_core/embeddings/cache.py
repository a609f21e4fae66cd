"""Embeddings kept on disk, so that no text is paid for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from routellm_core._cache import DiskCache, text_key, user_cache_file
from routellm_core.embeddings.base import Embedder, Embeddings, prompt_limit_of, semantic_width

__all__ = ["CachedEmbedder"]


class CachedEmbedder:
    """Wraps an embedder: each distinct text is embedded once, within a batch and across processes.

    Texts are stored by their SHA-256, never in clear; a vector that its embedder says is not the text's own for good is
    not stored (see ``LiteLLMEmbedder.embed_and_tell``). A cache that cannot be used is as good as none (see
    :class:`~routellm_core._cache.DiskCache`).

    Args:
        embedder: what to call for texts that are not in the cache.
        path: the SQLite file; None takes ``embeddings.sqlite3`` in the user's cache folder.
        megabytes: the most that the file holds; the oldest embeddings go first. One of 1,536 numbers takes 8 kB.
    """

    def __init__(self, embedder: Embedder, *, path: Path | None = None, megabytes: int = 1024) -> None:
        self._embedder = embedder
        self._cache = DiskCache(path or user_cache_file("embeddings.sqlite3"), limit_bytes=megabytes << 20)
        self._namespace = str(getattr(embedder, "cache_namespace", embedder.name))

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

    @property
    def prompt_limit(self) -> str:
        """The wrapped embedder's."""
        return prompt_limit_of(self._embedder)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed n texts, shape (n, dimension), float32; only the unknown ones reach the wrapped embedder."""
        if not len(texts):
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        text_of = {text_key(text): text for text in texts}
        vectors = self._stored(list(text_of))
        fresh = self._embedded({key: text for key, text in text_of.items() if key not in vectors})
        if fresh and vectors and len(next(iter(fresh.values()))) != len(next(iter(vectors.values()))):
            # Vectors of another length than before: the service has changed its model under the same name.
            fresh |= self._embedded({key: text_of[key] for key in vectors})
        vectors |= fresh
        return np.stack([vectors[text_key(text)] for text in texts])

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, Embeddings]:
        values = self._cache.read(self._namespace, keys)
        vectors = {key: np.frombuffer(value, dtype=np.float32) for key, value in values.items() if len(value) % 4 == 0}
        lengths = {len(vector) for vector in vectors.values()}
        return vectors if len(lengths) == 1 and self.dimension in (None, *lengths) else {}

    def _embedded(self, texts: Mapping[bytes, str]) -> dict[bytes, Embeddings]:
        if not texts:
            return {}
        told = getattr(self._embedder, "embed_and_tell", None)
        if told is None:
            vectors, lasting = self._embedder.embed(list(texts.values())), [True] * len(texts)
        else:
            vectors, lasting = told(list(texts.values()))
        fresh = dict(zip(texts, np.asarray(vectors, dtype=np.float32), strict=True))
        kept = {key: bytes(fresh[key]) for key, lasts in zip(texts, lasting, strict=True) if lasts}
        if kept:
            self._cache.write(self._namespace, kept)
        return fresh
