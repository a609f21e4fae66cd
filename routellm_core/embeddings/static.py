"""The embedded default: token vectors from a table, averaged. Needs numpy and tokenizers, no model and no download.

The table is distilled from all-MiniLM-L6-v2 (the method of model2vec: every vocabulary token encoded alone, centred,
projected on principal components, weighted by log rank) and stored as int8 with one scale per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from routellm_core.embeddings.base import Embeddings
from routellm_core.embeddings.content import STATIC_FOLDER, ContentReader, content_dimension
from routellm_core.embeddings.opinions import OPINION_NAMES, content_opinions

__all__ = ["STATIC_FOLDER", "StaticEmbedder"]

_BATCH_TEXTS: Final = 512


class StaticEmbedder:
    """Static token embedding, content features, opinions and a constant 1.

    A vector is ``[semantic part, content features, opinions, 1]``; a component is of order 1 everywhere. Only the
    request in a prompt is read, see ``prompt_limit``.

    Args:
        folder: a folder written by ``research.static_asset``; the shipped one by default.
    """

    def __init__(self, *, folder: str | Path | None = None) -> None:
        self._folder = STATIC_FOLDER if folder is None else Path(folder)

    @cached_property
    def _reader(self) -> ContentReader:
        return ContentReader(self._folder)

    @property
    def name(self) -> str:
        """The asset's name, such as ``"static-v2"``."""
        return self._reader.name

    @property
    def semantic_dimension(self) -> int:
        """How many of the first components hold the meaning."""
        return self._reader.semantic_dimension

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.semantic_dimension + content_dimension() + len(OPINION_NAMES) + 1

    @property
    def prompt_limit(self) -> str:
        """How a long text is treated."""
        return (
            "Of a request over 4,000 characters the first 3,000 and the last 1,000 are read; a long text after a short "
            "request counts little."
        )

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch.

        Args:
            texts: n texts, of any length and content; may be empty.

        Returns:
            shape (n, dimension), float32.

        Raises:
            EmbeddingError: the tokenizer failed.
            CheckpointError: the asset is missing or damaged.
        """
        reader = self._reader
        vectors = np.ones((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch = texts[start : start + _BATCH_TEXTS]
            content = reader.read(batch)
            rows = slice(start, start + len(batch))
            read = content.semantic.shape[1] + content_dimension()
            vectors[rows, : content.semantic.shape[1]] = content.semantic
            vectors[rows, content.semantic.shape[1] : read] = content.features
            vectors[rows, read:-1] = content_opinions(content, reader.heads)
        return vectors
