"""The same replies in the shapes of OpenAI's other two operations: text completions and the Responses API."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from routellm_core.testing.local_handlers import Operation
from routellm_core.testing.replies import Reply, completion

Json = dict[str, Any]
_MESSAGE_PARTS = {"input_text": "text", "output_text": "text"}


def text_completion(request: Mapping[str, Any], reply: Reply | None = None) -> Json:
    """Answer the body of POST /v1/completions with an object of OpenAI's ``text_completion`` schema."""
    prompts = [request["prompt"]] if isinstance(request["prompt"], str) else request["prompt"]
    chats = [
        completion({**request, "logprobs": None, "messages": [{"role": "user", "content": str(prompt)}]}, reply)
        for prompt in prompts
    ]
    choices = [
        {"text": choice["message"]["content"], "logprobs": None, "finish_reason": choice["finish_reason"]}
        for chat in chats
        for choice in chat["choices"]
    ]
    usage = {
        name: sum(chat["usage"][name] for chat in chats)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    return {
        "id": f"cmpl-{uuid.uuid4().hex[:24]}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
        "usage": usage,
    }


def text_completion_chunks(request: Mapping[str, Any], reply: Reply | None = None) -> Iterator[Json]:
    """Answer the same as a stream: text word by word, finish, usage where it is asked for."""
    whole = text_completion(request, reply)
    base = {key: whole[key] for key in ("id", "object", "created", "model")}
    for choice in whole["choices"]:
        for piece in _words(choice["text"]):
            yield {**base, "choices": [{**choice, "text": piece, "finish_reason": None}]}
        yield {**base, "choices": [{**choice, "text": ""}]}
    if (request.get("stream_options") or {}).get("include_usage"):
        yield {**base, "choices": [], "usage": whole["usage"]}


def response(request: Mapping[str, Any], reply: Reply | None = None) -> Json:
    """Answer the body of POST /v1/responses with an object of OpenAI's ``response`` schema."""
    chat = completion(_as_chat(request), reply)
    usage = chat["usage"]
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": {},
        "model": request["model"],
        "output": _output_items(chat["choices"][0]["message"]),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "temperature": 1.0,
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def response_events(request: Mapping[str, Any], reply: Reply | None = None) -> Iterator[Json]:
    """Answer the same as a stream of OpenAI's response events, in their order."""
    whole = response(request, reply)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    numbers = count()
    for event in _events(whole, begun):
        yield {**event, "sequence_number": next(numbers)}


def _events(whole: Json, begun: Json) -> Iterator[Json]:
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        unfinished = {**item, "status": "in_progress", **({"content": []} if "content" in item else {"arguments": ""})}
        yield {"type": "response.output_item.added", "output_index": index, "item": unfinished}
        yield from _text_events(item, place) if "content" in item else _call_events(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": whole}


def _text_events(item: Json, place: Json) -> Iterator[Json]:
    part = item["content"][0]
    place = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for piece in _words(part["text"]):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


def _call_events(item: Json, place: Json) -> Iterator[Json]:
    arguments = item["arguments"]
    for start in range(0, len(arguments), 6):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": arguments[start : start + 6]}
    yield {"type": "response.function_call_arguments.done", **place, "name": item["name"], "arguments": arguments}


def _output_items(message: Json) -> list[Json]:
    calls = [
        {
            "type": "function_call",
            "id": f"fc_{uuid.uuid4().hex}",
            "call_id": call["id"],
            "status": "completed",
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
        }
        for call in message.get("tool_calls") or []
    ]
    if calls:
        return calls
    text = {"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []}
    identity = f"msg_{uuid.uuid4().hex}"
    return [{"type": "message", "id": identity, "status": "completed", "role": "assistant", "content": [text]}]


def _as_chat(request: Mapping[str, Any]) -> Json:
    items = request.get("input") or ""
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    system = [{"role": "system", "content": request["instructions"]}] if request.get("instructions") else []
    choice = request.get("tool_choice")
    named = isinstance(choice, Mapping) and choice.get("type") == "function"
    form = (request.get("text") or {}).get("format") or {}
    return {
        "model": request["model"],
        "messages": [*system, *map(_message, items)],
        "tools": [{"type": "function", "function": tool} for tool in request.get("tools") or [] if "name" in tool],
        "tool_choice": {"type": "function", "function": {"name": choice["name"]}} if named else choice,  # type: ignore[index]
        "response_format": {"type": "json_schema", "json_schema": form} if form.get("type") == "json_schema" else form,
        "max_tokens": request.get("max_output_tokens"),
    }


def _message(item: Mapping[str, Any]) -> Json:
    if item.get("type") == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
    content = item.get("content")
    if isinstance(content, list):
        content = [{**part, "type": _MESSAGE_PARTS.get(part["type"], part["type"])} for part in content]
    return {"role": item.get("role", "user"), "content": content}


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


OPERATIONS = {
    "completions": Operation(text_completion, text_completion_chunks, "prompt"),
    "responses": Operation(response, response_events, "input", has_names=True),
}
"""What ``LocalModelServer(operations=…)`` takes."""
