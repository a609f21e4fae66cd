"""Any embedding model that litellm can call: OpenAI's for the published checkpoints, Ollama, vLLM, Azure and more."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from routellm_core._litellm import backend_error, import_litellm
from routellm_core._retries import retrying
from routellm_core.embeddings.base import Embeddings
from routellm_core.errors import BackendError, EmbeddingError

__all__ = ["LiteLLMEmbedder"]


class LiteLLMEmbedder:
    """Calls a hosted or local embedding service, many texts per request.

    Args:
        model: litellm's name, such as ``"text-embedding-3-small"`` or ``"ollama/nomic-embed-text"``.
        api_base: base URL of the service, where it is not the provider's own.
        api_key: key; None leaves it to litellm's environment variables (``OPENAI_API_KEY`` …).
        dimension: length of the vectors, where it is known (checked against the answer).
        batch_size: texts per request.
        timeout: seconds per request.
        attempts: tries per request at retryable failures, with exponential back-off.
        max_bytes: a text is cut to so many bytes of UTF-8. Hosted models refuse over-long input (8,191 tokens at
            OpenAI); a request refused for its length is sent again with half the limit.
        extra: further parameters of ``litellm.embedding``.
    """

    def __init__(
        self,
        *,
        model: str = "text-embedding-3-small",
        api_base: str | None = None,
        api_key: str | None = None,
        dimension: int | None = None,
        batch_size: int = 256,
        timeout: float = 30.0,
        attempts: int = 3,
        max_bytes: int = 24_000,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._api_base = api_base
        self._api_key = api_key
        self._dimension = dimension
        self._batch_size = batch_size
        self._timeout = timeout
        self._attempts = attempts
        self._max_bytes = max_bytes
        # As base64 a vector is one string; as a list, the OpenAI SDK checks every number of it (4 ms a vector).
        self._extra = {"encoding_format": "base64", **(extra or {})}

    @property
    def name(self) -> str:
        """``litellm/<model>``."""
        return f"litellm/{self._model}"

    @property
    def cache_namespace(self) -> str:
        """The name together with the server: two servers may serve different vectors under one model name."""
        return f"{self.name}@{self._api_base or 'default'}"

    @property
    def dimension(self) -> int | None:
        """As given, else learned from the first answer."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed n texts, shape (n, dimension), float32.

        Raises:
            EmbeddingError: the service failed after all attempts, or answered with something else than vectors.
        """
        batches = [
            self._embed_batch(texts[start : start + self._batch_size], self._max_bytes)
            for start in range(0, len(texts), self._batch_size)
        ]
        if not batches:
            return np.empty((0, self._dimension or 0), dtype=np.float32)
        return np.concatenate(batches)

    def _embed_batch(self, texts: Sequence[str], max_bytes: int) -> Embeddings:
        try:
            answer = self._request([_cut(text, max_bytes) for text in texts])
        except BackendError as error:
            if error.status_code in (400, 422) and "encoding_format" in str(error) and "encoding_format" in self._extra:
                self._extra = {key: value for key, value in self._extra.items() if key != "encoding_format"}
                return self._embed_batch(texts, max_bytes)
            if error.status_code == 400 and _is_about_length(error) and max_bytes > 1_000:
                return self._embed_batch(texts, max_bytes // 2)
            raise EmbeddingError(f"embedding {len(texts)} prompts failed: {error}") from error
        return self._vectors(answer, len(texts))

    def _request(self, texts: list[str]) -> Any:
        return retrying(attempts=self._attempts, wait_initial=0.2, wait_max=5.0)(self._attempt, texts)

    def _attempt(self, texts: list[str]) -> Any:
        litellm = import_litellm()
        try:
            return litellm.embedding(
                model=self._model,
                input=texts,
                api_base=self._api_base,
                api_key=self._api_key,
                timeout=self._timeout,
                max_retries=0,
                **self._extra,
            )
        except Exception as error:
            raise backend_error(error, model=self._model) from error

    def _vectors(self, answer: Any, expected: int) -> Embeddings:
        try:
            rows = sorted(answer.data, key=lambda row: row["index"])
            vectors = np.asarray([_decoded(row["embedding"]) for row in rows], dtype=np.float32)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EmbeddingError(f"{self.name} answered without vectors: {error}") from error
        if vectors.ndim != 2 or len(vectors) != expected or not np.isfinite(vectors).all():
            raise EmbeddingError(f"{self.name} answered with shape {vectors.shape} for {expected} texts, or not finite")
        if self._dimension is not None and vectors.shape[1] != self._dimension:
            raise EmbeddingError(
                f"{self.name} answered with vectors of length {vectors.shape[1]}, expected {self._dimension}"
            )
        self._dimension = vectors.shape[1]
        return vectors


def _decoded(embedding: Any) -> Any:
    # OpenAI's base64 form: little-endian float32
    return np.frombuffer(base64.b64decode(embedding), dtype="<f4") if isinstance(embedding, str) else embedding


def _cut(text: str, max_bytes: int) -> str:
    # Lone surrogates cannot be sent as JSON in UTF-8; services refuse empty strings.
    encoded = text.encode("utf-8", "replace")[:max_bytes]
    return encoded.decode("utf-8", "ignore") or " "


def _is_about_length(error: BackendError) -> bool:
    message = str(error).lower()
    return any(sign in message for sign in ("maximum context", "too long", "max_tokens", "context length", "too large"))
