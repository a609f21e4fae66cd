"""Tool loops, stored responses and limits over the real server: the model that has a conversation goes on with it."""

from __future__ import annotations

from typing import Any

import pytest

from routellm_core.testing.local_models import LocalModelServer

QUESTION = "What will the weather be in 3 days, and in the days after that?"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]},
    },
}
WEAK = "router-random-1"


def asked(upstream: LocalModelServer) -> list[str]:
    return [request["model"] for request in upstream.requests]


@pytest.mark.parametrize("sticky", ["conversation", None])
@pytest.mark.parametrize("headers", [{}, {"x-session-id": "loop"}])
def test_a_loop_stays_with_the_model_that_took_over(
    serve: Any, upstream: LocalModelServer, headers: Any, sticky: Any
) -> None:
    running = serve(weak="openai/fail-503", fallback={"attempts": 1, "cooldown_after": 0}, sticky=sticky)
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    body = {"model": WEAK, "tools": [TOOL]}
    first = running.post("/chat/completions", {**body, "messages": messages}, headers=headers)
    assert first.headers["x-routellm-fallback-from"] == "openai/fail-503"
    assert asked(upstream) == ["fail-503", "big"]
    made = first.json()["choices"][0]["message"]
    messages += [made, {"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "rain"}]
    second = running.post("/chat/completions", {**body, "messages": messages}, headers=headers)
    assert second.headers["x-routellm-tier"] == "strong"
    assert asked(upstream) == ["fail-503", "big", "big"]


def test_a_streamed_loop_too(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(weak="openai/fail-503", fallback={"attempts": 1, "cooldown_after": 0})
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with running.client() as client:
        stream = client.chat.completions.create(model=WEAK, messages=messages, tools=[TOOL], stream=True)
        calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or []]
        made = {"id": calls[0].id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
        messages.append({"role": "tool", "tool_call_id": calls[0].id, "content": "rain"})
        client.chat.completions.create(model=WEAK, messages=messages, tools=[TOOL])
    assert asked(upstream) == ["fail-503", "big", "big"]


def test_a_stored_response_is_asked_for_where_it_is(serve: Any, upstream: LocalModelServer) -> None:
    running = serve()
    first = running.post("/responses", {"model": "strong", "input": QUESTION})
    follow = {"model": WEAK, "input": "Why?", "previous_response_id": first.json()["id"]}
    assert running.post("/responses", follow).headers["x-routellm-tier"] == "strong"
    assert (
        running.post("/responses", {**follow, "previous_response_id": "resp_unknown"}).headers["x-routellm-tier"]
        == "weak"
    )


def test_clients_do_not_share_conversations(serve: Any) -> None:
    running = serve(server={"api_keys": ["alice-key", "bobby-key"]})

    def tier(key: str, model: str) -> str:
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": model, "input": "Hello", "previous_response_id": "resp_1"}
        found: str = running.post("/responses", body, headers=headers).headers["x-routellm-tier"]
        return found

    assert tier("alice-key", "router-random-0") == "strong"
    assert (tier("alice-key", WEAK), tier("bobby-key", WEAK)) == ("strong", "weak")


def test_windows_are_told_and_kept(serve: Any, upstream: LocalModelServer) -> None:
    strong = {"model": "openai/big", "context_window": 4096}
    running = serve(strong=strong, weak={"model": "openai/small", "context_window": 1024})
    with running.client() as client:
        cards = {card.id: card.model_extra for card in client.models.list()}
    windows = {name: (extra or {})["context_window"] for name, extra in cards.items()}
    assert windows["auto"] == windows["openai/small"] == 1024
    assert windows["openai/big"] == 4096
    decided = running.chat(WEAK, "word " * 2000)
    assert decided.headers["x-routellm-tier"] == "strong"
    assert "openai/small holds 1024 tokens" in decided.headers["x-routellm-reason"]
    refused = running.chat(WEAK, "word " * 20_000)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "1024" in refused.json()["error"]["message"]
    assert "4096" in refused.json()["error"]["message"]
    assert asked(upstream) == ["big"]
