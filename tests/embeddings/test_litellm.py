"""The hosted embedder, over HTTP to the local process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from routellm_core.embeddings.cache import CachedEmbedder
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


LIMIT = 1000  # words of a text that the service below takes
TOGETHER = 1500  # words of all texts of a request


def limited(requests: list[list[str]]) -> Any:
    """A service with limits, whose vector of a text is its number of words."""

    async def handler(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        requests.append(texts)
        words = [len(text.split()) for text in texts]
        if max(words) > LIMIT:
            message = f"This model's maximum context length is {LIMIT} tokens, however you requested {max(words)}"
            return web.json_response({"error": {"message": message, "type": "x", "code": None}}, status=400)
        if sum(words) > TOGETHER:
            message = f"Requested {sum(words)} tokens, max {TOGETHER} tokens per request"
            error = {"message": message, "type": "max_tokens_per_request", "code": "max_tokens_per_request"}
            return web.json_response({"error": error}, status=400)
        data = [{"index": index, "embedding": [float(count), 1.0]} for index, count in enumerate(words)]
        return web.json_response({"data": data})

    return handler


def test_one_long_text_leaves_its_neighbours_whole(scripted: Any) -> None:
    requests: list[list[str]] = []
    hosted = LiteLLMEmbedder(model="openai/e", api_base=scripted(limited(requests)), api_key="k")
    texts = ["word " * 600, "word " * 1800, "word " * 800, "word"]
    vectors, lasting = hosted.embed_and_tell(texts)
    assert [vectors[index, 0] for index in (0, 2, 3)] == [600, 800, 1]
    assert 800 <= vectors[1, 0] <= 1000
    assert lasting.tolist() == [True, False, True, True]


def test_a_request_beyond_what_the_service_takes_at_once_is_split(scripted: Any) -> None:
    requests: list[list[str]] = []
    hosted = LiteLLMEmbedder(model="openai/e", api_base=scripted(limited(requests)), api_key="k")
    texts = [f"{'word ' * 400}" for _ in range(8)]
    vectors, lasting = hosted.embed_and_tell(texts)
    assert vectors[:, 0].tolist() == [400.0] * 8
    assert lasting.all()
    sizes = LiteLLMEmbedder(model="openai/e", api_base=scripted(plain_vectors(requests)), api_key="k")
    requests.clear()
    sizes.embed(["x" * 20_000] * 100)
    assert max(sum(map(len, texts)) for texts in requests) <= 600_000


def plain_vectors(requests: list[list[str]]) -> Any:
    async def handler(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        requests.append(texts)
        return web.json_response({"data": [{"index": index, "embedding": [1.0]} for index in range(len(texts))]})

    return handler


def test_a_cut_vector_is_not_kept_under_the_whole_text_s_key(scripted: Any, tmp_path: Path) -> None:
    requests: list[list[str]] = []
    hosted = LiteLLMEmbedder(model="openai/e", api_base=scripted(limited(requests)), api_key="k")
    cached = CachedEmbedder(hosted, path=tmp_path / "cache.sqlite")
    long, short = "word " * 1800, "word " * 600
    first = cached.embed([long, short])
    requests.clear()
    np.testing.assert_array_equal(cached.embed([short]), first[1:])
    assert requests == []
    np.testing.assert_array_equal(cached.embed([long]), first[:1])
    assert requests != []


def test_a_limit_of_one_s_own_has_vectors_of_its_own() -> None:
    assert LiteLLMEmbedder(max_bytes=10).cache_namespace != LiteLLMEmbedder().cache_namespace


def test_a_text_that_is_refused_however_short_is_an_error(scripted: Any) -> None:
    async def refuses(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "input is too long"}}, status=400)

    hosted = LiteLLMEmbedder(model="openai/e", api_base=scripted(refuses), api_key="k")
    with pytest.raises(EmbeddingError, match="too long"):
        hosted.embed(["word " * 1000, "x"])


def test_a_key_that_the_service_quotes_is_not_repeated(scripted: Any) -> None:
    async def quotes(request: web.Request) -> web.Response:
        message = f"Incorrect API key provided: {request.headers['Authorization']}"
        return web.json_response({"error": {"message": message}}, status=401)

    base, secret = scripted(quotes), "-".join(["my", "own", "key"])  # not in the source lines of a traceback
    for extra in ({}, {"drop_params": True}):
        with pytest.raises(EmbeddingError) as caught:
            LiteLLMEmbedder(model="openai/e", api_base=base, api_key=secret, extra=extra).embed(["x"])
        assert secret not in "".join(traceback.format_exception(caught.value))


def embed_many(hosted: LiteLLMEmbedder, first: int, results: Any) -> None:
    wrong = 0
    for number in range(first, first + 60):
        wrong += int(hosted.embed(["word " * number])[0, 0] != number)
    results.put(wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_processes_never_receive_each_other_s_vectors(scripted: Any) -> None:
    hosted = LiteLLMEmbedder(model="openai/e", api_base=scripted(counting), api_key="k", timeout=20)
    hosted.embed(["warm"])  # the connection that the children inherit
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=embed_many, args=(hosted, 1 + 60 * child, results)) for child in range(3)]
    for child in children:
        child.start()
    embed_many(hosted, 300, results)
    assert [results.get(timeout=60) for _ in range(4)] == [0] * 4
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 3


async def counting(request: web.Request) -> web.Response:
    texts = (await request.json())["input"]
    data = [{"index": index, "embedding": [float(len(text.split()))]} for index, text in enumerate(texts)]
    return web.json_response({"data": data})
