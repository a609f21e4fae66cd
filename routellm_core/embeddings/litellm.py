"""Any embedding model that litellm can call: OpenAI's for the published checkpoints, Ollama, vLLM, Azure and more.

Those that speak OpenAI's protocol are called directly, which costs less time of the processor.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from routellm_core.embeddings.base import Embeddings
from routellm_core.errors import BackendError, EmbeddingError
from routellm_core.providers.endpoints import OpenAIEndpoint, openai_endpoint
from routellm_core.providers.http_errors import connection_error, not_understood, refusal
from routellm_core.providers.litellm import backend_error, import_litellm
from routellm_core.providers.retries import retrying
from routellm_core.providers.settings import ModelSettings

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

    def _request(self, texts: list[str]) -> list[Mapping[str, Any]]:
        return retrying(attempts=self._attempts, wait_initial=0.2, wait_max=5.0)(self._attempt, texts)

    def _attempt(self, texts: list[str]) -> list[Mapping[str, Any]]:
        key = None if self._api_key is None else SecretStr(self._api_key)
        settings = ModelSettings(
            model=self._model, api_base=self._api_base, api_key=key, timeout=self._timeout, extra=self._extra
        )
        endpoint = openai_endpoint(settings)
        return self._through_litellm(texts) if endpoint is None else self._posted(texts, settings, endpoint)

    def _posted(self, texts: list[str], model: ModelSettings, endpoint: OpenAIEndpoint) -> list[Mapping[str, Any]]:
        # Without an SDK a call costs a fifth of the time, which other calls of the process get.
        import httpx

        body = to_json({**endpoint.defaults, "model": endpoint.model, "input": texts})
        try:
            answer = _client().post(
                endpoint.url("embeddings"), content=body, headers=dict(endpoint.headers), timeout=model.timeout
            )
        except httpx.HTTPError as error:
            is_timeout = isinstance(error, httpx.TimeoutException)
            raise connection_error(error, model, is_timeout=is_timeout) from error
        if answer.status_code >= 300:
            raise refusal(answer.status_code, answer.headers, answer.content, model, endpoint)
        try:
            rows: list[Mapping[str, Any]] = from_json(answer.content)["data"]
        except (ValueError, TypeError, KeyError) as error:
            raise not_understood(model.model, answer.content) from error
        return rows

    def _through_litellm(self, texts: list[str]) -> list[Mapping[str, Any]]:
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
            raise backend_error(error, model=self._model) from error
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


@cache
def _client() -> Any:
    """Return the connections that all embedders share."""
    import httpx

    return httpx.Client(limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0))


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
