"""Any embedding model that litellm can call: OpenAI's for the published checkpoints, Ollama, vLLM, Azure and more.

Those that speak OpenAI's protocol are called directly, which costs less time of the processor.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic import SecretStr

from routellm_core.embeddings.base import Embeddings
from routellm_core.errors import BackendError, EmbeddingError
from routellm_core.providers.endpoints import openai_endpoint, secrets_of
from routellm_core.providers.errors import backend_error
from routellm_core.providers.events import whole_answer
from routellm_core.providers.http import shared_client
from routellm_core.providers.litellm import import_litellm
from routellm_core.providers.redaction import safe_cause
from routellm_core.providers.retries import retrying
from routellm_core.providers.settings import ModelSettings

__all__ = ["LiteLLMEmbedder"]

_MAX_BYTES = 24_000
_REQUEST_BYTES = 600_000  # all texts of a request; OpenAI takes 300,000 tokens, and a token has two bytes at least
_SHORTEST_CUT = 1_000  # a service that refuses so few bytes means something else


class LiteLLMEmbedder:
    """Calls a hosted or local embedding service, many texts per request; fewer where they are long.

    Args:
        model: litellm's name, such as ``"text-embedding-3-small"`` or ``"ollama/nomic-embed-text"``.
        api_base: base URL of the service, where it is not the provider's own.
        api_key: key; None leaves it to litellm's environment variables (``OPENAI_API_KEY`` …).
        dimension: length of the vectors, where it is known (checked against the answer).
        batch_size: texts per request; fewer where they are long.
        timeout: seconds per request.
        attempts: tries per request at retryable failures, with exponential back-off.
        max_bytes: a text is cut to so many bytes of UTF-8. Hosted models refuse over-long input (8,191 tokens at
            OpenAI). A request refused for its length is sent again in halves, and a single text by its first half.
        extra: further parameters of the call.
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
        max_bytes: int = _MAX_BYTES,
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
        """The name together with the server: two servers may serve different vectors under one model name.

        A limit of one's own is part of it, for a text beyond it has another vector.
        """
        limit = "" if self._max_bytes == _MAX_BYTES else f"#{self._max_bytes}"
        return f"{self.name}@{self._api_base or 'default'}{limit}"

    @property
    def dimension(self) -> int | None:
        """As given, else learned from the first answer."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed n texts, shape (n, dimension), float32.

        Raises:
            EmbeddingError: the service failed after all attempts, or answered with something else than vectors.
        """
        return self.embed_and_tell(texts)[0]

    def embed_and_tell(self, texts: Sequence[str]) -> tuple[Embeddings, npt.NDArray[np.bool_]]:
        """Do as :meth:`embed` does, and tell which vectors are lasting.

        Returns:
            the vectors, and for each, shape (n,), whether it is the text's own: False where the service refused the
            text for its length and took a shorter part of it, which it may not need to do another day.
        """
        parts = [self._embed_batch(batch) for batch in self._batches([_cut(text, self._max_bytes) for text in texts])]
        if not parts:
            return np.empty((0, self._dimension or 0), dtype=np.float32), np.empty(0, dtype=bool)
        vectors, lasting = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(lasting)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode())
            if batch and (len(batch) >= self._batch_size or size + length > _REQUEST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(text)
            size += length
        if batch:
            yield batch

    def _embed_batch(self, texts: list[str]) -> tuple[Embeddings, npt.NDArray[np.bool_]]:
        try:
            rows = self._request(texts)
        except BackendError as error:
            if error.status_code in (400, 422) and "encoding_format" in str(error) and "encoding_format" in self._extra:
                self._extra = {key: value for key, value in self._extra.items() if key != "encoding_format"}
                return self._embed_batch(texts)
            if not _is_about_length(error) or (len(texts) == 1 and len(texts[0].encode()) <= _SHORTEST_CUT):
                raise EmbeddingError(f"embedding {len(texts)} prompts failed: {error}") from error
        else:
            return self._vectors(rows, len(texts)), np.ones(len(texts), dtype=bool)
        if len(texts) == 1:  # only the text that is too long is cut, never those beside it
            vectors, _ = self._embed_batch([_cut(texts[0], len(texts[0].encode()) // 2)])
            return vectors, np.zeros(1, dtype=bool)
        middle = len(texts) // 2
        first, second = self._embed_batch(texts[:middle]), self._embed_batch(texts[middle:])
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])

    def _request(self, texts: list[str]) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = retrying(attempts=self._attempts, wait_initial=0.2, wait_max=5.0)(
            self._attempt, texts
        )
        return rows

    def _attempt(self, texts: list[str]) -> list[Mapping[str, Any]]:
        key = None if self._api_key is None else SecretStr(self._api_key)
        model = ModelSettings(
            model=self._model, api_base=self._api_base, api_key=key, timeout=self._timeout, extra=self._extra
        )
        endpoint = openai_endpoint(model)
        if endpoint is None:
            return self._through_litellm(texts, model)
        # Without an SDK a call costs a fifth of the time, which other calls of the process get.
        content = shared_client().send(model, endpoint, "embeddings", {"input": texts})
        rows: list[Mapping[str, Any]] = whole_answer(cast("bytes", content), "embeddings", model.model)["data"]
        return rows

    def _through_litellm(self, texts: list[str], model: ModelSettings) -> list[Mapping[str, Any]]:
        litellm = import_litellm()
        try:
            answer = litellm.embedding(
                model=self._model,
                input=texts,
                api_base=self._api_base,
                api_key=self._api_key,
                timeout=self._timeout,
                max_retries=0,
                **self._extra,
            )
        except Exception as error:
            secrets = secrets_of(model)
            raise backend_error(error, model=self._model, secrets=secrets) from safe_cause(error, secrets)
        return list(answer.data)

    def _vectors(self, answer: list[Mapping[str, Any]], expected: int) -> Embeddings:
        try:
            rows = sorted(answer, key=lambda row: row["index"])
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
    signs = ("maximum context", "too long", "max_tokens", "context length", "too large", "tokens per request")
    return error.status_code == 413 or (error.status_code in (400, 422) and any(sign in message for sign in signs))
