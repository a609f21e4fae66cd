"""The embedding model over the core's embedders."""

from __future__ import annotations

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.llms.routellm import RouteLLMEmbedding

from routellm_core.embeddings import load_embedder
from routellm_core.errors import ConfigError

TEXTS = ["The cat sleeps on the sofa.", "Shares fell on the stock exchange.", "How do kittens nap?"]


def cosine(one: list[float], other: list[float]) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


async def test_alike_texts_have_alike_vectors() -> None:
    embedding = RouteLLMEmbedding()
    vectors = embedding.get_text_embedding_batch(TEXTS)
    assert cosine(vectors[0], vectors[2]) > cosine(vectors[1], vectors[2]) + 0.1
    assert await embedding.aget_text_embedding_batch(TEXTS) == vectors
    assert await embedding.aget_text_embedding(TEXTS[0]) == embedding.get_text_embedding(TEXTS[0])
    assert await embedding.aget_query_embedding(TEXTS[0]) == embedding.get_query_embedding(TEXTS[0])
    np.testing.assert_allclose(embedding.get_text_embedding(TEXTS[0]), vectors[0], rtol=1e-6)


def test_the_length_of_a_text_is_not_its_subject() -> None:
    vectors = RouteLLMEmbedding().get_text_embedding_batch([TEXTS[0], TEXTS[0] * 40])
    assert cosine(*vectors) > 0.99


def test_retrieval() -> None:
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS[:2]], embed_model=RouteLLMEmbedding())
    assert index.as_retriever(similarity_top_k=1).retrieve(TEXTS[2])[0].text == TEXTS[0]


def test_it_is_written_down_and_built_again() -> None:
    embedding = RouteLLMEmbedding("static", embed_batch_size=7)
    again = RouteLLMEmbedding.from_dict(embedding.to_dict())
    assert (again.model_name, again.embed_batch_size) == (embedding.model_name, 7)
    assert again.get_text_embedding("x") == embedding.get_text_embedding("x")
    assert RouteLLMEmbedding(load_embedder("static")).model_name == embedding.model_name


def test_an_unknown_embedder_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'static'"):
        RouteLLMEmbedding("statik")
