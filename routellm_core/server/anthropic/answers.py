"""A chat completion as an answer of the Messages API, whole or in events."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from routellm_core.providers.events import Events

__all__ = ["as_message", "message_events"]

Json = Mapping[str, Any]

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_REASONING = ("reasoning_content", "reasoning")


def as_message(completion: Json) -> dict[str, Any]:
    """Return the message that a chat completion holds."""
    choice = completion["choices"][0]
    said = choice.get("message") or {}
    content: list[dict[str, Any]] = []
    if thoughts := _reasoning(said):
        content.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    if text := said.get("content") or said.get("refusal"):
        content.append({"type": "text", "text": text})
    for call in said.get("tool_calls") or ():
        function = call.get("function") or {}
        name, arguments = function.get("name"), _arguments(function.get("arguments"))
        content.append({"type": "tool_use", "id": call.get("id") or _new_id("toolu"), "name": name, "input": arguments})
    stopped = _stop_reason(choice.get("finish_reason"), has_calls=bool(said.get("tool_calls")))
    return {
        **_head(completion),
        "content": content,
        "stop_reason": "refusal" if said.get("refusal") else stopped,
        "usage": _usage(completion.get("usage") or {}),
    }


async def message_events(chunks: AsyncIterator[Events]) -> AsyncIterator[Events]:
    """Yield the events of a message while those of a chat completion come."""
    writer = _Writer()
    try:
        async for chunk in chunks:
            if events := [event for data in chunk.data for event in writer.write(data)]:
                yield _sent(events)
        yield _sent([*writer.end()])
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]  # a client that leaves early must free the connection


def _sent(events: list[dict[str, Any]]) -> Events:
    return Events(b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), to_json(e)) for e in events), events)


class _Writer:
    """Opens and closes blocks as the kind of what is said changes."""

    def __init__(self) -> None:
        self._index = -1
        self._open: Any = None
        self._has_begun = self._has_calls = False
        self._finish: str | None = None
        self._usage: Json = {}

    def write(self, data: Json) -> Iterator[dict[str, Any]]:
        """Yield what a chunk says."""
        if not self._has_begun:
            self._has_begun = True
            message = {**_head(data), "content": [], "stop_reason": None, "usage": _usage(data.get("usage") or {})}
            yield {"type": "message_start", "message": message}
        self._usage = data.get("usage") or self._usage
        for choice in data.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            self._finish = choice.get("finish_reason") or self._finish
            delta = choice.get("delta") or {}
            if thoughts := _reasoning(delta):
                yield from self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta({"type": "thinking_delta", "thinking": thoughts})
            if text := delta.get("content") or delta.get("refusal"):
                yield from self._block("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            for call in delta.get("tool_calls") or ():
                yield from self._call(call)

    def end(self) -> Iterator[dict[str, Any]]:
        """Yield the end of the message."""
        yield from self._close()
        delta = {"stop_reason": _stop_reason(self._finish, has_calls=self._has_calls), "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": _usage(self._usage)}
        yield {"type": "message_stop"}

    def _call(self, call: Json) -> Iterator[dict[str, Any]]:
        function = call.get("function") or {}
        self._has_calls = True
        call_id = call.get("id") or _new_id("toolu")
        block: dict[str, Any] = {"type": "tool_use", "id": call_id, "name": function.get("name") or "", "input": {}}
        yield from self._block(("tool_use", call.get("index", 0)), block)
        if function.get("arguments"):
            yield self._delta({"type": "input_json_delta", "partial_json": function["arguments"]})

    def _block(self, kind: Any, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._open == kind:
            return
        yield from self._close()
        self._index += 1
        self._open = kind
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._index}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _head(completion: Json) -> dict[str, Any]:
    identity = str(completion.get("id") or uuid.uuid4().hex)
    return {
        "id": f"msg_{identity.removeprefix('chatcmpl-')}",
        "type": "message",
        "role": "assistant",
        "model": completion.get("model") or "",
        "stop_sequence": None,
    }


def _usage(usage: Json) -> dict[str, int]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": (usage.get("prompt_tokens") or 0) - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.get("completion_tokens") or 0,
    }


def _stop_reason(finish: Any, *, has_calls: bool) -> str:
    # Some servers finish with "stop" after a call.
    return "tool_use" if has_calls and finish == "stop" else _STOP_REASONS.get(str(finish), "end_turn")


def _reasoning(said: Json) -> str:
    return next((said[name] for name in _REASONING if isinstance(said.get(name), str) and said[name]), "")


def _arguments(text: Any) -> dict[str, Any]:
    try:
        value = from_json(text or "{}")
    except ValueError:
        return {"arguments": text}  # what a model made that is no JSON is for the client to judge
    return value if isinstance(value, dict) else {"arguments": value}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:24]}"
