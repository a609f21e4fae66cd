"""Anthropic's own SDK, unchanged, before models of OpenAI's protocol, models behind litellm, and Anthropic's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from routellm_core.prompts import routing_prompt
from routellm_core.server.request_bodies import MessagesRequest
from routellm_core.testing.local_models import LocalModelServer

from .local_anthropic import LocalAnthropic

HELLO: Any = [{"role": "user", "content": "Hello!"}]
PNG = "iVBORw0KGgo="
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "Tell the weather.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


@pytest.fixture(scope="module")
def claude() -> Iterator[LocalAnthropic]:
    with LocalAnthropic() as server:
        yield server


@pytest.fixture(scope="module", params=["relayed", "litellm"])
def running(request: pytest.FixtureRequest, build: Any, local_models: LocalModelServer, claude: LocalAnthropic) -> Any:
    """The weak model is one of OpenAI's protocol, the strong one Anthropic's own."""
    strong = {"model": "anthropic/claude-opus-5", "api_base": claude.base_url, "api_key": "claude-key"}
    weak = {"model": "openai/small", "relay": None if request.param == "relayed" else False}
    with build(local_models, strong=strong, weak=weak, fallback={"enabled": False}) as server:
        yield server


@pytest.fixture
def client(running: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key="EMPTY", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, content: Any = "Hello!", **options: Any) -> Any:
    messages = content if isinstance(content, list) and "role" in content[0] else [{"role": "user", "content": content}]
    return client.messages.create(**{"model": "weak", "max_tokens": 500, "messages": messages, **options})


def test_a_message(client: anthropic.Anthropic, local_models: LocalModelServer) -> None:
    more = {"temperature": 0.5}
    answer = ask(client, system="Be brief.", extra_body=more, stop_sequences=["END"], metadata={"user_id": "u"})
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert [block.text for block in answer.content] == ["small answers: Hello!"]
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    sent = local_models.requests[-1]
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
    expected = {"max_tokens": 500, "temperature": 0.5, "stop": ["END"], "user": "u", "model": "small"}
    assert {name: sent.get(name) for name in expected} == expected


def test_the_strong_model_gets_it_as_it_came(client: anthropic.Anthropic, claude: LocalAnthropic) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    raw = client.messages.with_raw_response.create(
        model="strong",
        max_tokens=50,
        messages=HELLO,
        system=system,
        extra_body={"top_k": 3},
        extra_headers={"anthropic-beta": "b-1,c-2"},
    )
    answer = raw.parse()
    assert [block.text for block in answer.content if block.type == "text"] == ["claude-opus-5 answers: Hello!"]
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (10, 5)
    assert raw.headers["x-routellm-model"] == "anthropic/claude-opus-5"
    path, headers, body = claude.received[-1]
    assert path == "/v1/messages"
    assert headers["x-api-key"] == "claude-key"
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2023-06-01", "b-1,c-2")
    assert "EMPTY" not in str(headers)
    assert body == {"model": "claude-opus-5", "max_tokens": 50, "messages": HELLO, "system": system, "top_k": 3}


@pytest.mark.parametrize("model", ["weak", "strong"])
def test_a_stream_adds_up(client: anthropic.Anthropic, running: Any, model: str) -> None:
    name = {"weak": "small", "strong": "claude-opus-5"}[model]
    with client.messages.stream(model=model, max_tokens=500, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].text == f"{name} answers: Hello!"  # type: ignore[union-attr]
    assert (final.stop_reason, final.role) == ("end_turn", "assistant")
    assert final.usage.output_tokens > 1
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
    tokens = running.metric("routellm_tokens_total", kind="output")
    assert tokens >= final.usage.output_tokens


async def test_the_asynchronous_client(running: Any) -> None:
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="EMPTY", max_retries=0) as client:
        answer = await client.messages.create(model="weak", max_tokens=10, messages=HELLO)
    assert answer.content[0].text == "small answers: Hello!"  # type: ignore[union-attr]


@pytest.mark.parametrize("model", ["weak", "strong"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_a_whole_tool_loop(client: anthropic.Anthropic, model: str, is_streamed: bool) -> None:
    def answered(messages: Any) -> Any:
        options: Any = {"model": model, "max_tokens": 500, "messages": messages, "tools": TOOLS}
        if not is_streamed:
            return client.messages.create(**options)
        with client.messages.stream(**options) as stream:
            return stream.get_final_message()

    messages: Any = [{"role": "user", "content": "What is the weather in 'Paris'?"}]
    first = answered(messages)
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    messages += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [result]},
    ]
    final = answered(messages)
    assert final.stop_reason == "end_turn"
    assert "sunny" in final.content[0].text


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "get_weather"}, {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_every_form_of_tool_choice(
    client: anthropic.Anthropic, local_models: LocalModelServer, choice: Any, sent: Any
) -> None:
    ask(
        client,
        "x",
        tools=TOOLS,
        tool_choice={**choice, "disable_parallel_tool_use": True} if sent == "auto" else choice,
    )
    request = local_models.requests[-1]
    assert request["tool_choice"] == sent
    assert request["tools"][0]["function"]["parameters"] == TOOLS[0]["input_schema"]
    assert request.get("parallel_tool_calls") == (False if sent == "auto" else None)


def test_history_images_and_documents(client: anthropic.Anthropic, local_models: LocalModelServer) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A document."}}
    call = {"type": "tool_use", "id": "toolu_9", "name": "look", "input": {"at": "it"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    result = {"type": "tool_result", "tool_use_id": "toolu_9", "is_error": True, "content": [image]}
    ask(
        client,
        [
            {"role": "user", "content": [{"type": "text", "text": "Look."}, image, linked, document]},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "I look."}, call]},
            {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
        ],
    )
    data_url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    first, second, third, fourth = local_models.requests[-1]["messages"]
    assert first["content"] == [
        {"type": "text", "text": "Look."},
        data_url,
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "text", "text": "A document."},
    ]
    assert second["content"] == "I look."
    assert second["tool_calls"][0]["id"] == "toolu_9"
    assert json.loads(second["tool_calls"][0]["function"]["arguments"]) == {"at": "it"}
    assert (third["role"], third["tool_call_id"]) == ("tool", "toolu_9")
    assert third["content"].startswith("error: ")
    assert fourth == {"role": "user", "content": [data_url, {"type": "text", "text": "And?"}]}


class TestThinking:
    def test_of_anthropic_s_own_model(self, client: anthropic.Anthropic, claude: LocalAnthropic) -> None:
        wanted: Any = {"type": "enabled", "budget_tokens": 2000}
        for answer in (
            ask(client, model="strong", thinking=wanted, max_tokens=5000),
            streamed(client, model="strong", thinking=wanted, max_tokens=5000),
        ):
            assert [block.type for block in answer.content] == ["thinking", "text"]
            assert (answer.content[0].thinking, answer.content[0].signature) == ("Let me think.", "signed")
        assert claude.received[-1][2]["thinking"] == wanted

    def test_thoughts_without_its_signature_are_kept_from_it(
        self, client: anthropic.Anthropic, claude: LocalAnthropic
    ) -> None:
        foreign = {"type": "thinking", "thinking": "Another's.", "signature": ""}
        own = {"type": "thinking", "thinking": "Its own.", "signature": "signed"}
        said = {"type": "text", "text": "Hi."}
        turns = [*HELLO, {"role": "assistant", "content": [foreign, own, said]}, *HELLO]
        ask(client, turns, model="strong")
        assert claude.received[-1][2]["messages"][1]["content"] == [own, said]

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_of_other_models(self, name: str) -> None:
        from routellm_core.server.anthropic.answers import _Writer, as_message

        said = {name: "Hm.", "content": "Yes."}
        completion = {"id": "chatcmpl-1", "model": "m", "choices": [{"message": said, "finish_reason": "stop"}]}
        assert as_message(completion)["content"] == [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "Yes."},
        ]
        writer = _Writer()
        chunks: Any = [{"choices": [{"delta": {part: text}}]} for part, text in said.items()]
        events = [event for chunk in chunks for event in writer.write(chunk)] + [*writer.end()]
        assert [event["type"] for event in events] == [
            "message_start",
            *("content_block_start", "content_block_delta", "content_block_stop"),
            *("content_block_start", "content_block_delta", "content_block_stop"),
            *("message_delta", "message_stop"),
        ]

    @pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (8000, "medium"), (32_000, "high")])
    def test_it_is_asked_of_models_that_can(
        self, serve: Any, upstream: LocalModelServer, budget: int, effort: str
    ) -> None:
        running = serve(weak="openai/gpt-5-nano")
        body = {"model": "weak", "max_tokens": 40_000, "messages": HELLO}
        thinking = {"type": "enabled", "budget_tokens": budget}
        assert running.post("/messages", {**body, "thinking": thinking}).status_code == 200
        assert upstream.requests[-1]["reasoning_effort"] == effort


def streamed(client: anthropic.Anthropic, **options: Any) -> Any:
    with client.messages.stream(**{"max_tokens": 500, "messages": HELLO, **options}) as stream:
        return stream.get_final_message()


def test_what_has_no_counterpart_is_dropped_and_named(client: anthropic.Anthropic) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    raw = client.messages.with_raw_response.create(
        model="weak", max_tokens=50, messages=HELLO, tools=[*TOOLS, search], extra_body={"top_k": 5}
    )
    assert raw.headers["x-routellm-dropped"] == "top_k, web_search_20250305"
    assert raw.parse().stop_reason == "end_turn"


def test_structured_output(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    answer = ask(
        client, "36 years", extra_body={"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    )
    assert json.loads(answer.content[0].text) == {"age": 36}


def test_the_length_ends_it(client: anthropic.Anthropic) -> None:
    assert ask(client, "one two three four five six", max_tokens=3).stop_reason == "max_tokens"
    assert streamed(client, model="weak", max_tokens=1).stop_reason == "max_tokens"


def test_routing_goes_by_the_user_s_last_words() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "a long result"}
    call = {"type": "tool_use", "id": "t", "name": "get_weather", "input": {}}
    turns = [*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body = {"model": "auto", "max_tokens": 9, "messages": turns, "system": "Be brief."}
    assert routing_prompt(MessagesRequest.model_validate(body).keep(body).conversation()) == "Hello!"


class TestCountTokens:
    def test_anthropic_counts_for_its_own(self, client: anthropic.Anthropic, claude: LocalAnthropic) -> None:
        counted = client.messages.count_tokens(model="strong", messages=HELLO, system="Be brief.", tools=TOOLS)
        assert counted.input_tokens == 4242
        assert claude.received[-1][0] == "/v1/messages/count_tokens"
        assert claude.received[-1][2]["model"] == "claude-opus-5"

    def test_for_others_it_is_estimated(self, client: anthropic.Anthropic) -> None:
        counted = client.messages.count_tokens(model="weak", messages=[{"role": "user", "content": "word " * 400}])
        assert counted.input_tokens == pytest.approx(500, abs=5)


class TestErrors:
    def test_they_are_anthropic_s(self, client: anthropic.Anthropic, running: Any) -> None:
        with pytest.raises(anthropic.NotFoundError) as missing:
            ask(client, model="claude-nobody")
        assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            ask(client, max_tokens=0)
        answer = running.post("/messages", {"model": "weak", "messages": HELLO})
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert httpx.get(f"{running.base_url}/messages").json()["type"] == "error"

    @pytest.mark.parametrize(
        ("status", "kind"), [(400, anthropic.BadRequestError), (529, anthropic.InternalServerError)]
    )
    def test_of_models(self, serve: Any, claude: LocalAnthropic, status: int, kind: type[Exception]) -> None:
        model = {"model": f"anthropic/claude-fail-{status}", "api_base": f"{claude.base_url}/v1"}
        running = serve(strong=model, weak=model)
        with anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=0) as client:
            for call in (lambda: ask(client), lambda: streamed(client, model="weak")):
                with pytest.raises(kind):
                    call()

    def test_in_the_middle_of_a_stream(self, serve: Any) -> None:
        running = serve(weak="openai/broken")
        text = "one two three four five six seven"
        client = anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=0)
        with client, pytest.raises(anthropic.APIError):
            streamed(client, model="weak", messages=[{"role": "user", "content": text}])

    def test_keys_in_the_header_of_its_sdk(self, serve: Any) -> None:
        running = serve(server={"api_keys": ["right"]})
        for options in ({"api_key": "right"}, {"auth_token": "right", "api_key": None}):
            with anthropic.Anthropic(base_url=running.url, max_retries=0, **options) as client:
                assert ask(client).role == "assistant"
        client = anthropic.Anthropic(base_url=running.url, api_key="wrong", max_retries=0)
        with client, pytest.raises(anthropic.AuthenticationError):
            ask(client)


def test_the_other_model_answers_where_one_fails(serve: Any, claude: LocalAnthropic) -> None:
    failing = {"model": "anthropic/claude-fail-529", "api_base": claude.base_url}
    running = serve(strong=failing, fallback={"attempts": 1})
    with anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=0) as client:
        assert ask(client, model="strong").content[0].text == "small answers: Hello!"
        assert streamed(client, model="strong").content[0].text == "small answers: Hello!"
