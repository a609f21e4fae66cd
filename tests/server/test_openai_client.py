"""OpenAI's own client, unchanged, against the running server: relayed models and models behind litellm."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from routellm_core.testing.local_models import EMBEDDING_DIMENSION, LocalModelServer

HELLO: Any = [{"role": "user", "content": "Hello!"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Call {name}.",
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        },
    }
    for name, properties in [("get_weather", {"city": {"type": "string"}}), ("add_numbers", {"a": {"type": "integer"}})]
]
STRONG, WEAK = "router-random-0", "router-random-1"


class Person(BaseModel):
    name: str
    age: int


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": WEAK, "messages": [{"role": "user", "content": text}], **options})


def streamed_text(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_threshold_chooses_the_model_and_headers_tell(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=STRONG, messages=HELLO)
    assert raw.parse().choices[0].message.content == "big answers: Hello!"
    headers = {name: raw.headers.get(f"x-routellm-{name}") for name in ("model", "tier", "router", "threshold")}
    assert headers == {"model": "openai/big", "tier": "strong", "router": "random", "threshold": "0"}
    assert 0 <= float(raw.headers["x-routellm-score"]) <= 1
    raw = client.chat.completions.with_raw_response.create(model=WEAK, messages=HELLO)
    assert raw.parse().choices[0].message.content == "small answers: Hello!"
    assert raw.headers["x-routellm-tier"] == "weak"


def test_the_two_models_by_name_bypass_routing(client: openai.OpenAI) -> None:
    for name, answering in [("openai/big", "big"), ("openai/small", "small"), ("strong", "big"), ("weak", "small")]:
        raw = client.chat.completions.with_raw_response.create(model=name, messages=HELLO)
        assert raw.parse().choices[0].message.content == f"{answering} answers: Hello!"
        assert "x-routellm-score" not in raw.headers


def test_auto_takes_the_defaults(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
    assert raw.headers["x-routellm-router"] == "random"
    assert raw.headers["x-routellm-threshold"] == "0.116"


def test_a_stream_adds_up_and_its_headers_come_first(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(model=STRONG, messages=HELLO, stream=True) as response:
        assert response.headers["x-routellm-model"] == "openai/big"
        assert response.headers["content-type"].startswith("text/event-stream")
        chunks = list(response.parse())
    assert streamed_text(chunks) == "big answers: Hello!"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_usage_comes_with_a_stream_when_it_is_asked_for_and_not_otherwise(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "Hello!", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in ask(client, "Hello!", stream=True))
    assert all(chunk.choices for chunk in ask(client, "Hello!", stream=True))


async def test_the_asynchronous_client(running: Any) -> None:
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key="EMPTY", max_retries=0) as client:
        answer = await client.chat.completions.create(model=STRONG, messages=HELLO)
        assert answer.choices[0].message.content == "big answers: Hello!"
        stream = await client.chat.completions.create(model=WEAK, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert streamed_text(chunks) == "small answers: Hello!"


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
def test_every_form_of_tool_choice(client: openai.OpenAI, text: str, choice: Any, called: str | None) -> None:
    calls = ask(client, text, tools=TOOLS, tool_choice=choice).choices[0].message.tool_calls
    assert (calls[0].function.name if calls else None) == called
    fragments = [
        call
        for chunk in ask(client, text, tools=TOOLS, tool_choice=choice, stream=True)
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    assert (fragments[0].function.name if fragments else None) == called
    if fragments:
        assert isinstance(json.loads("".join(part.function.arguments or "" for part in fragments)), dict)


def test_a_whole_tool_loop(client: openai.OpenAI, local_models: LocalModelServer) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in 'Paris'?"}]
    first = client.chat.completions.create(model=STRONG, messages=messages, tools=TOOLS).choices[0]
    assert first.finish_reason == "tool_calls"
    call = first.message.tool_calls[0]  # type: ignore[index]
    messages.append(first.message.model_dump(exclude_none=True))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = client.chat.completions.create(model=STRONG, messages=messages, tools=TOOLS)
    assert final.choices[0].message.content == "big read the tool's result: sunny"
    history = local_models.requests[-1]["messages"]
    assert history[1]["tool_calls"][0]["id"] == call.id
    assert json.loads(history[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}


def test_structured_output_is_parsed(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model=WEAK, messages=[{"role": "user", "content": "'Ada' is 36"}], response_format=Person
    )
    assert parsed.choices[0].message.parsed == Person(name="Ada", age=36)
    with client.chat.completions.stream(
        model=WEAK, messages=[{"role": "user", "content": "'Ada' is 36"}], response_format=Person
    ) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Person(name="Ada", age=36)


def test_json_schema_and_json_object(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"type": "json_schema", "json_schema": {"name": "age", "schema": schema, "strict": True}}
    assert json.loads(ask(client, "36 years", response_format=form).choices[0].message.content) == {"age": 36}
    content = ask(client, "Hi", response_format={"type": "json_object"}).choices[0].message.content
    assert json.loads(content) == {"model": "small", "answer": "Hi"}


def test_several_choices(client: openai.OpenAI) -> None:
    answer = ask(client, "Hi", n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {chunk.choices[0].index for chunk in ask(client, "Hi", n=2, stream=True)} == {0, 1}


def test_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, "Hi", logprobs=True, top_logprobs=1)
    tokens = [entry.token for entry in answer.choices[0].logprobs.content]
    assert "".join(tokens) == "small answers: Hi"


def test_multimodal_parts_reach_the_model(client: openai.OpenAI, local_models: LocalModelServer) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    ]
    answer = client.chat.completions.create(model=STRONG, messages=[{"role": "user", "content": parts}])  # type: ignore[list-item,misc]
    assert answer.choices[0].message.content == "big answers: What is this?"
    assert local_models.requests[-1]["messages"][0]["content"] == parts


def test_parameters_reach_the_model(client: openai.OpenAI, local_models: LocalModelServer) -> None:
    given: dict[str, Any] = {
        "temperature": 0.1,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "logit_bias": {"50256": -100},
        "max_completion_tokens": 5,
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "service_tier": "auto",
        "user": "alice",
    }
    ask(client, "one two three four five six", tools=TOOLS, **given)
    sent = local_models.requests[-1]
    assert {name: sent.get(name) for name in given} == given
    assert sent["model"] == "small"


def test_text_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=STRONG, prompt="Once upon a time")
    assert answer.choices[0].text == "big answers: Once upon a time"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    chunks = list(client.completions.create(model=WEAK, prompt="Once upon a time", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "small answers: Once upon a time"


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=STRONG, input="Hello!")
    assert answer.output_text == "big answers: Hello!"
    items: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Hi there"}]}]
    assert client.responses.create(model=WEAK, input=items, instructions="Be brief.").output_text == (
        "small answers: Hi there"
    )
    events = list(client.responses.create(model=WEAK, input="Hello!", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
        "small answers: Hello!"
    )
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


def test_responses_with_tools_and_structured_output(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", **TOOLS[0]["function"], "strict": False}]
    answer = client.responses.create(model=STRONG, input="The weather in 'Oslo'?", tools=tools)
    call: Any = answer.output[0]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})
    history: Any = [
        {"role": "user", "content": "The weather in 'Oslo'?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    assert client.responses.create(model=STRONG, input=history, tools=tools).output_text == (
        "big read the tool's result: rain"
    )
    parsed = client.responses.parse(model=WEAK, input="'Ada' is 36", text_format=Person)
    assert parsed.output_parsed == Person(name="Ada", age=36)


def test_embeddings(client: openai.OpenAI, local_models: LocalModelServer) -> None:
    answer = client.embeddings.create(model="anything", input=["Hello", "world"])
    assert [len(item.embedding) for item in answer.data] == [EMBEDDING_DIMENSION] * 2
    assert local_models.received[-1].body["model"] == "embedder"
    plain = client.embeddings.create(model="anything", input="Hello", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(answer.data[0].embedding)


def test_the_list_of_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "auto",
        "router-random-0.116",
        "openai/big",
        "openai/small",
    ]
    assert client.models.retrieve("router-random-0.5").owned_by == "routellm"
    assert client.models.retrieve("openai/big").owned_by == "openai"
    with pytest.raises(openai.NotFoundError, match="router-random-0.116"):
        client.models.retrieve("gpt-9")


def test_the_reference_s_client_script(running: Any) -> None:
    # RouteLLM: routellm/tests/test_openai_server.py
    client = openai.OpenAI(base_url=running.base_url, api_key="NO_API_KEY_REQUIRED")
    completion = client.chat.completions.create(
        model="router-random-0.7",
        messages=[
            {"role": "system", "content": "You are a helpful assistant. Respond to the questions as best as you can."},
            {"role": "user", "content": "What is heavier, a pound of feathers or a kilogram of steel?"},
        ],
        temperature=0.7,
    )
    assert completion.model in ("big", "small")
    assert completion.choices[0].message.content == (
        f"{completion.model} answers: What is heavier, a pound of feathers or a kilogram of steel?"
    )


def test_the_reference_s_chat_script(serve: Any, upstream: LocalModelServer) -> None:
    # RouteLLM: examples/router_chat.py, with vLLM's parameters in extra_body
    with serve().client() as client:
        stream = client.chat.completions.create(
            model=f"router-random-{1.0}",
            messages=[
                {"role": "system", "content": "You are a helpful AI assistant."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "How are you?"},
            ],
            temperature=0.8,
            stream=True,
            extra_body={"repetition_penalty": 1, "stop_token_ids": []},
        )
        pieces = [(chunk.model, chunk.choices[0].delta.content or "") for chunk in stream]  # every chunk has a choice
    assert pieces[0][0] == "small"
    assert "".join(text for _, text in pieces) == "small answers: How are you?"
    sent = upstream.requests[-1]
    assert (sent["repetition_penalty"], sent["stop_token_ids"], sent["temperature"]) == (1, [], 0.8)
