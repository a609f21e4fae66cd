"""Models given by name: what is sent, and what is made of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_routellm import LiteLLMChat
from langchain_routellm.litellm_messages import ChunkReader, to_generation, to_openai, usage_metadata
from pydantic import BaseModel

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.errors import BackendError
from routellm_core.testing import FakeBackend
from routellm_core.testing.local_models import LocalModelServer


@pytest.fixture
def model(local_models: LocalModelServer) -> Callable[..., LiteLLMChat]:
    def build(name: str = "openai/big", **options: Any) -> LiteLLMChat:
        return LiteLLMChat(model=name, api_base=local_models.base_url, api_key="local", **options)  # type: ignore[arg-type]

    return build


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return place


def test_messages_in_openais_form() -> None:
    call = {"name": "get_weather", "args": {"place": "Rome"}, "id": "1"}
    blocks = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_call", **call},
    ]
    broken = {"name": "get_weather", "args": "{place", "id": "2", "error": "no JSON", "type": "invalid_tool_call"}
    written = to_openai(
        [
            SystemMessage("Be brief."),
            HumanMessage(
                [{"type": "text", "text": "Hi"}, {"type": "image", "base64": "AA==", "mime_type": "image/png"}]
            ),
            AIMessage(blocks, tool_calls=[call], additional_kwargs={"thinking_blocks": [{"thinking": "hm"}]}),
            ToolMessage("sunny", tool_call_id="1"),
            AIMessage("", invalid_tool_calls=[broken]),
            AIMessage(""),
        ]
    )
    function = {"name": "get_weather", "arguments": '{"place": "Rome"}'}
    assert written[0] == {"role": "system", "content": "Be brief."}
    assert written[1]["content"][1]["image_url"]["url"] == "data:image/png;base64,AA=="
    assert written[2] == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [{"type": "function", "id": "1", "function": function}],
        "thinking_blocks": [{"thinking": "hm"}],
    }
    assert written[3] == {"role": "tool", "content": "sunny", "tool_call_id": "1"}
    assert written[4]["tool_calls"][0]["function"]["arguments"] == "{place"
    assert written[5] == {"role": "assistant", "content": ""}


def test_an_answer_in_langchains_form() -> None:
    def call(number: str, arguments: str) -> SimpleNamespace:
        return SimpleNamespace(id=number, function=SimpleNamespace(name="f", arguments=arguments))

    answer = SimpleNamespace(
        content=None, tool_calls=[call("1", '{"a": 1}'), call("2", "{a"), call("3", "")], reasoning_content="hm"
    )
    choice = SimpleNamespace(message=answer, finish_reason="tool_calls", logprobs={"content": []})
    message: Any = to_generation(choice, None, "openai/big").message
    assert [(item["id"], item["args"]) for item in message.tool_calls] == [("1", {"a": 1}), ("3", {})]
    assert message.invalid_tool_calls[0]["args"] == "{a"
    assert message.additional_kwargs["reasoning_content"] == "hm"
    assert message.usage_metadata is None


def test_usage_with_its_details() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": None},
    }
    assert usage_metadata(usage) == {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }


def test_merged_chunks_say_nothing_twice() -> None:
    reader = ChunkReader("openai/big")
    finish = SimpleNamespace(delta=SimpleNamespace(content="b"), finish_reason="stop")
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunks = [
        SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content="a"), finish_reason=None)]),
        SimpleNamespace(choices=[finish], usage=usage),
        SimpleNamespace(choices=[finish], usage=usage),
        SimpleNamespace(choices=[]),
    ]
    read = [reader.read(chunk) for chunk in chunks]
    whole: Any = sum(read[1:], read[0])
    assert whole.generation_info == {"finish_reason": "stop", "model_name": "big"}
    assert whole.message.usage_metadata["total_tokens"] == 2


async def test_any_backend_will_do() -> None:
    backend = FakeBackend(failures={"m": [BackendError("busy", model="m", status_code=503, retryable=True)]})
    no_wait = ResiliencePolicy(wait_initial=0, wait_max=0)
    fake = LiteLLMChat(model="m", backend=backend, resilience=no_wait, temperature=0.5, stop="x")
    assert fake.invoke("Hello").content == "m answers: Hello"
    assert len(backend.calls) == 2, "a failure that may pass was not retried"
    assert "".join([chunk.text async for chunk in fake.astream("Hello")]) == "m answers: Hello"
    settings, parameters = backend.calls[-1]
    assert settings.model == "m"
    assert parameters["stream_options"] == {"include_usage": True}
    assert (parameters["temperature"], parameters["stop"]) == (0.5, "x")
    assert fake.invoke("Hello", model="other").response_metadata["model_name"] == "other"


def test_errors_are_the_cores(model: Callable[..., LiteLLMChat]) -> None:
    with pytest.raises(BackendError, match=r"failed with status 401.*Set the provider's key") as raised:
        model("openai/fail-401").invoke("Hello")
    assert not raised.value.retryable
    with pytest.raises(BackendError, match=r"did not answer within 0.2 s") as raised:
        model("openai/slow-3", timeout=0.2, max_retries=0).invoke("Hello")
    assert raised.value.status_code == 504
    with pytest.raises(BackendError):
        list(model("openai/garbage", max_retries=0).stream("Hello"))


def test_several_answers_at_once(model: Callable[..., LiteLLMChat]) -> None:
    result = model().generate([[HumanMessage("Hello")]], n=2)
    assert [generation.text for generation in result.generations[0]] == ["big answers: Hello"] * 2


def test_the_key_stays_secret(model: Callable[..., LiteLLMChat]) -> None:
    keyed = LiteLLMChat(model="m", api_key="sk-secret")  # type: ignore[arg-type]
    assert "sk-secret" not in repr(keyed) + str(keyed.asdict()) + str(keyed._serialized)
    assert not keyed.is_lc_serializable()


@pytest.mark.parametrize("tool_choice", [{"type": "function", "function": {"name": "get_weather"}}, "required"])
def test_tool_choices_of_openais_own(model: Callable[..., LiteLLMChat], tool_choice: Any) -> None:
    answer = model().bind_tools([get_weather], tool_choice=tool_choice, strict=True).invoke("'Rome'")
    assert answer.tool_calls[0]["args"] == {"place": "Rome"}


def test_what_cannot_be_is_refused(model: Callable[..., LiteLLMChat]) -> None:
    with pytest.raises(ValueError, match=r"tool_choice='get_wether' must be .* a tool's name: get_weather"):
        model().bind_tools([get_weather], tool_choice="get_wether")
    with pytest.raises(ValueError, match="method='yaml'"):
        model().with_structured_output({"title": "x", "type": "object"}, method="yaml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strict is not supported"):
        model().with_structured_output({"title": "x", "type": "object"}, method="json_mode", strict=True)


def test_response_formats(model: Callable[..., LiteLLMChat], local_models: LocalModelServer) -> None:
    class Place(BaseModel):
        name: str

    for given in (Place, {"type": "json_schema", "json_schema": {"name": "P", "schema": Place.model_json_schema()}}):
        answer = model().bind_tools([], response_format=given).invoke("'Rome'")
        assert json.loads(answer.text) == {"name": "Rome"}
    model().with_structured_output(Place, method="json_schema", strict=True).invoke("'Rome'")
    sent = local_models.requests[-1]["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]["additionalProperties"]) == (True, False)
    with pytest.raises(OutputParserException):
        model().with_structured_output(Place, method="json_mode").invoke("no keys")
