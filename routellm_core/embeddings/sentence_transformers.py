"""Any sentence-transformers model, by Hub id or folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from routellm_core._optional import import_extra
from routellm_core.embeddings.base import Embeddings, encodable
from routellm_core.errors import ConfigError, EmbeddingError

__all__ = ["SentenceTransformersEmbedder"]


class SentenceTransformersEmbedder:
    """Embeds with sentence-transformers, which truncates at the model's own ``max_seq_length``.

    Args:
        model: Hub id or folder.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None lets sentence-transformers choose.
        batch_size: texts per forward pass.
    """

    def __init__(self, *, model: str, device: str | None = None, batch_size: int = 64) -> None:
        library = import_extra(
            "sentence_transformers", extra="sentence-transformers", purpose="The sentence-transformers embedder"
        )
        try:
            self._encoder: Any = library.SentenceTransformer(model, device=device, trust_remote_code=False)
        except Exception as error:  # Hub, OS and format errors of many kinds; all mean "cannot be loaded"
            raise ConfigError(f"sentence-transformers cannot load {model!r}: {error}") from error
        self._model, self._device, self._batch_size = model, device, batch_size
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # The model is read again where a pickle arrives.
        return partial(type(self), model=self._model, device=self._device, batch_size=self._batch_size), ()

    @property
    def name(self) -> str:
        """``sentence-transformers/<model>``."""
        return f"sentence-transformers/{self._model.removeprefix('sentence-transformers/')}"

    @property
    def dimension(self) -> int | None:
        """The model's own."""
        dimension = self._encoder.get_embedding_dimension()
        return None if dimension is None else int(dimension)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed n texts, shape (n, dimension), float32.

        Raises:
            EmbeddingError: the model failed.
        """
        clean = [encodable(text) for text in texts]
        try:
            with self._lock:  # one forward pass at a time: the model's buffers are shared
                vectors = self._encoder.encode(clean, batch_size=self._batch_size, show_progress_bar=False)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EmbeddingError(f"{self.name} failed on {len(texts)} prompts: {error}") from error
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)
