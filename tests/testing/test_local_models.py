"""The local process speaks OpenAI's protocol: OpenAI's own client is the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from routellm_core.testing.local_models import LocalModelServer
from routellm_core.testing.replies import json_from_schema

TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    for name, properties in [("get_weather", {"city": {"type": "string"}}), ("add_numbers", {"a": {"type": "integer"}})]
]


@pytest.fixture
def client(local_models: LocalModelServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=local_models.base_url, api_key="k", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **options)


def test_plain_answers(client: openai.OpenAI) -> None:
    answer = ask(client, "Hello", n=2)
    assert [choice.message.content for choice in answer.choices] == ["m answers: Hello"] * 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert ask(client, "one two three", stop="two").choices[0].message.content == "m answers: one "
    assert ask(client, "one two three", max_tokens=2).choices[0].finish_reason == "length"


def test_streams_add_up_to_the_plain_answer(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "Hello big world", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "m answers: Hello big world"
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("What is the weather?", "auto", "get_weather"),
        ("Tell me a joke", "auto", None),
        ("What is the weather?", "none", None),
        ("Tell me a joke", "required", "get_weather"),
        ("x", {"type": "function", "function": {"name": "add_numbers"}}, "add_numbers"),
    ],
)
def test_tool_choice_is_honoured(client: openai.OpenAI, text: str, choice: Any, called: str | None) -> None:
    calls = ask(client, text, tools=TOOLS, tool_choice=choice).choices[0].message.tool_calls
    assert (calls[0].function.name if calls else None) == called
    fragments = [
        call
        for chunk in ask(client, text, tools=TOOLS, tool_choice=choice, stream=True)
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    assert (fragments[0].function.name if fragments else None) == called
    if fragments:
        json.loads("".join(fragment.function.arguments for fragment in fragments))


def test_after_a_tool_s_result_it_speaks(client: openai.OpenAI) -> None:
    call = ask(client, "What is the weather?", tools=TOOLS).choices[0].message
    messages: Any = [
        {"role": "user", "content": "What is the weather?"},
        call.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sunny"},
    ]
    final = client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    assert final.choices[0].message.content == "m read the tool's result: sunny"
    forced = client.chat.completions.create(model="m", messages=messages, tools=TOOLS, tool_choice="required")
    assert forced.choices[0].message.tool_calls[0].function.name == "add_numbers"  # type: ignore[index, union-attr]


def test_json_is_filled_from_the_schema() -> None:
    schema = {
        "$defs": {"Size": {"enum": ["small", "large"]}},
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer"},
            "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "size": {"$ref": "#/$defs/Size"},
            "tags": {"type": "array", "items": {"type": "boolean"}},
            "optional": {"type": "string"},
        },
        "required": ["name", "count", "price", "size", "tags"],
    }
    assert json_from_schema(schema, "3 large boxes of 'tea' at 2.5") == {
        "name": "tea",
        "count": 3,
        "price": 2.5,
        "size": "large",
        "tags": [True],
    }


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("fail-429", openai.RateLimitError),
        ("fail-500", openai.InternalServerError),
        ("drop", openai.APIConnectionError),
    ],
)
def test_trouble_is_as_asked(client: openai.OpenAI, model: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])


def test_a_wrong_key_is_refused() -> None:
    with (
        LocalModelServer(api_key="right") as server,
        openai.OpenAI(base_url=server.base_url, api_key="wrong") as client,
    ):
        with pytest.raises(openai.AuthenticationError):
            ask(client, "x")
        assert server.requests == []


def test_an_echo_says_what_it_is_told_and_a_drip_streams_all_of_its_answer(client: openai.OpenAI) -> None:
    told = "<b>as it\n\nis</b>"
    messages: Any = [{"role": "user", "content": told}]
    assert client.chat.completions.create(model="echo-x", messages=messages).choices[0].message.content == told
    chunks = list(client.chat.completions.create(model="drip-0.001", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == f"drip-0.001 answers: {told}"
