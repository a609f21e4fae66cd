"""The hosted embedder, over HTTP to the local process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from routellm_core.embeddings.litellm import LiteLLMEmbedder, _cut
from routellm_core.errors import BackendError, EmbeddingError
from routellm_core.testing.local_models import EMBEDDING_DIMENSION, LocalModelServer


def embedder(server: LocalModelServer, model: str = "embedder", **options: object) -> LiteLLMEmbedder:
    return LiteLLMEmbedder(model=f"openai/{model}", api_base=server.base_url, api_key="k", **options)  # type: ignore[arg-type]


def test_batches_keep_their_order(local_models: LocalModelServer) -> None:
    texts = ["alpha beta", "gamma", "", "\ud800", "alpha beta"]
    vectors = embedder(local_models, batch_size=2).embed(texts)
    assert vectors.shape == (5, EMBEDDING_DIMENSION)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[0], vectors[4])
    np.testing.assert_array_equal(vectors[1], embedder(local_models).embed(["gamma"])[0])
    assert embedder(local_models).embed([]).shape[0] == 0


@pytest.mark.parametrize("model", ["embedder", "no-base64", "flaky-500"])
def test_litellm_and_the_direct_call_give_the_same_vectors(local_models: LocalModelServer, model: str) -> None:
    through_litellm = embedder(local_models, model, extra={"drop_params": True})
    np.testing.assert_array_equal(
        through_litellm.embed(["alpha beta", "gamma"]), embedder(local_models, model).embed(["alpha beta", "gamma"])
    )


@pytest.mark.parametrize(("model", "status"), [("fail-500", 500), ("fail-401", 401), ("slow-5", 504)])
def test_litellm_fails_alike(local_models: LocalModelServer, model: str, status: int) -> None:
    with pytest.raises(EmbeddingError, match=f"status {status}"):
        embedder(local_models, model, attempts=1, timeout=0.2, extra={"drop_params": True}).embed(["x"])


def test_a_direct_call_does_not_wait_for_litellm(local_models: LocalModelServer) -> None:
    code = (
        "import sys; from routellm_core.embeddings.litellm import LiteLLMEmbedder; "
        f"LiteLLMEmbedder(model='openai/m', api_base='{local_models.base_url}', api_key='k').embed(['x']); "
        "print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_a_server_without_base64_is_asked_for_lists(local_models: LocalModelServer) -> None:
    plain = embedder(local_models, "no-base64")
    np.testing.assert_array_equal(plain.embed(["alpha beta"]), embedder(local_models).embed(["alpha beta"]))
    assert plain.embed(["x"]).shape == (1, EMBEDDING_DIMENSION)


def test_the_dimension_is_learned_and_checked(local_models: LocalModelServer) -> None:
    learning = embedder(local_models)
    assert learning.dimension is None
    learning.embed(["x"])
    assert learning.dimension == EMBEDDING_DIMENSION
    with pytest.raises(EmbeddingError, match=f"length {EMBEDDING_DIMENSION}, expected 5"):
        embedder(local_models, dimension=5).embed(["x"])


def test_a_passing_failure_is_tried_again(local_models: LocalModelServer) -> None:
    assert embedder(local_models, "flaky-429").embed(["x"]).shape == (1, EMBEDDING_DIMENSION)


@pytest.mark.parametrize(("model", "status"), [("fail-500", 500), ("fail-401", 401), ("garbage", 502), ("drop", 502)])
def test_a_lasting_failure_is_an_embedding_error(local_models: LocalModelServer, model: str, status: int) -> None:
    with pytest.raises(EmbeddingError, match="embedding 1 prompts failed: ") as caught:
        embedder(local_models, model, attempts=1).embed(["x"])
    assert isinstance(caught.value.__cause__, BackendError)
    assert caught.value.__cause__.status_code == status


def test_a_time_out_is_an_embedding_error(local_models: LocalModelServer) -> None:
    with pytest.raises(EmbeddingError, match="did not answer within 0.2 s"):
        embedder(local_models, "slow-5", attempts=1, timeout=0.2).embed(["x"])


def test_long_texts_are_cut_between_characters() -> None:
    assert _cut("日本語", 7) == "日本"
    assert _cut("\ud800", 10) == "?"
    assert _cut("", 10) == " "
