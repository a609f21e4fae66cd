"""``RouteLLMEmbedding``: the core's embedders for retrieval; the shipped one works without a network or a download."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from pydantic import PrivateAttr

from routellm_core.embeddings import Embedder, Embeddings, load_embedder, semantic_width

__all__ = ["RouteLLMEmbedding"]


class RouteLLMEmbedding(BaseEmbedding):
    """An embedding model for ``VectorStoreIndex`` and its like.

    ::

        Settings.embed_model = RouteLLMEmbedding()  # the shipped static table: microseconds, offline

    Only the part of a vector that holds meaning is used; what the routers add to it (length, digits, opinions of how
    hard it is) says nothing about a document's subject.

    Args:
        embedder: a core embedder or its name: ``"static"``, ``"minilm"``, ``"litellm/text-embedding-3-small"`` …

    Raises:
        ConfigError: an unknown embedder.
        MissingExtraError: its extra is not installed.
    """

    embedder: Any = "static"

    _loaded: Embedder = PrivateAttr()

    def __init__(self, embedder: str | Mapping[str, Any] | Embedder = "static", **options: Any) -> None:
        loaded = load_embedder(embedder)
        spec = embedder if isinstance(embedder, (str, dict)) else loaded.name
        super().__init__(**{"model_name": loaded.name, **options, "embedder": spec})
        self._loaded = loaded

    @classmethod
    def class_name(cls) -> str:
        """Return the name in serialised data."""
        return "RouteLLMEmbedding"

    def _vectors(self, texts: list[str]) -> list[Embedding]:
        vectors: Embeddings = self._loaded.embed(texts)
        return [[float(value) for value in row[: semantic_width(self._loaded)]] for row in vectors]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._vectors([query])[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._vectors([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._vectors(texts)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aget_text_embeddings([query]))[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._vectors, texts)
