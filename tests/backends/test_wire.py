"""Answers in bytes, from relayed models and from those behind litellm."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.wire import Operation, WireAnswer, WireBackend
from routellm_core.errors import BackendError
from routellm_core.providers.http import ModelClient
from routellm_core.testing.local_models import LocalModelServer

SAID: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Hello!"}]},
    "completions": {"prompt": "Hello!"},
    "responses": {"input": "Hello!"},
    "embeddings": {"input": "Hello!"},
}


async def call(
    models: LocalModelServer, operation: Any, *, relay: bool | None = None, name: str = "m", **fields: Any
) -> Any:
    model = ModelSettings(model=f"openai/{name}", api_base=models.base_url, api_key="k", relay=relay)  # type: ignore[arg-type]
    client = ModelClient()
    try:
        answer = await WireBackend(operation, client).acomplete(model, {"model": "auto", **SAID[operation], **fields})
        return answer if isinstance(answer, WireAnswer) else [events.raw async for events in answer]
    finally:
        await client.aclose()


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
@pytest.mark.parametrize("operation", get_args(Operation))
async def test_whole_answers(local_models: LocalModelServer, operation: str, relay: bool | None) -> None:
    answer = await call(local_models, operation, relay=relay)
    body = json.loads(answer.content)
    assert body["model"] == "m"
    assert {key: body["usage"][key] for key in answer.usage if not isinstance(answer.usage[key], dict)}
    if operation == "chat/completions":
        (choice,) = body["choices"]
        assert (choice["logprobs"], choice["message"]["refusal"]) == (None, None)
        assert choice["message"]["content"] == "m answers: Hello!"


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
@pytest.mark.parametrize("operation", ["chat/completions", "completions", "responses"])
async def test_streams(local_models: LocalModelServer, operation: str, relay: bool | None) -> None:
    pieces = await call(local_models, operation, relay=relay, stream=True)
    events = [event for event in b"".join(pieces).split(b"\n\n") if event]
    if operation == "responses":
        assert all(event.startswith(b"event: response.") for event in events)
        assert json.loads(events[-1].partition(b"data: ")[2])["response"]["status"] == "completed"
    else:
        assert events[-1] == b"data: [DONE]"
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
        assert {len(chunk["choices"]) for chunk in chunks} == {1}
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
async def test_the_usage_of_a_stream_comes_beside_no_choice(local_models: LocalModelServer, relay: bool | None) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for operation in ("chat/completions", "completions"):
        *_, last, _done = b"".join(await call(local_models, operation, relay=relay, **options)).split(b"\n\n")[:-1]
        chunk = json.loads(last.removeprefix(b"data: "))
        assert chunk["choices"] == []
        assert chunk["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("name", ["garbage", "empty"])
@pytest.mark.parametrize("operation", ["chat/completions", "completions", "responses"])
async def test_answers_that_are_none(local_models: LocalModelServer, operation: str, name: str) -> None:
    with pytest.raises(BackendError, match="no answer of OpenAI's protocol") as caught:
        await call(local_models, operation, name=name)
    assert (caught.value.status_code, caught.value.retryable) == (502, True)


async def test_no_embeddings_of_no_texts_are_an_answer(local_models: LocalModelServer) -> None:
    assert json.loads((await call(local_models, "embeddings", input=[])).content)["data"] == []


@pytest.mark.parametrize(("operation", "field"), [("completions", "prompt"), ("responses", "input")])
async def test_behind_litellm_a_missing_field_is_the_client_s_fault(
    local_models: LocalModelServer, operation: str, field: str
) -> None:
    with pytest.raises(BackendError, match=f"must provide '{field}'") as caught:
        await call(local_models, operation, relay=False, **{field: None})
    assert (caught.value.status_code, caught.value.param) == (400, field)


async def test_behind_litellm_a_parameter_that_the_provider_s_sdk_does_not_know_is_the_client_s_fault(
    local_models: LocalModelServer,
) -> None:
    with pytest.raises(BackendError, match="tools") as caught:
        await call(local_models, "completions", relay=False, tools=[])
    assert (caught.value.status_code, caught.value.retryable) == (400, False)
    assert (caught.value.param, caught.value.code) == ("tools", "unknown_parameter")
