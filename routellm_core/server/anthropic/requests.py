"""A request of the Messages API as one for a chat completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

__all__ = ["chat_request", "untranslated", "without_foreign_thinking"]

Json = Mapping[str, Any]

_TRANSLATED = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_MEDIUM_BUDGET, _HIGH_BUDGET = 4_000, 16_000  # tokens of thinking, from which on the effort is called so


def untranslated(request: Json, *, reasons: bool) -> list[str]:
    """Return what of a request has no counterpart in a chat completion, and so is left out.

    Args:
        request: of the Messages API.
        reasons: whether the model can be asked to think.
    """
    fields = [name for name in request if name not in _TRANSLATED and not (name == "thinking" and reasons)]
    tools = [str(tool["type"]) for tool in request.get("tools") or () if tool.get("type", "custom") != "custom"]
    return [*fields, *tools]


def chat_request(request: Json, *, reasons: bool) -> dict[str, Any]:
    """Return the parameters of the chat completion.

    Args:
        request: of the Messages API.
        reasons: whether the model can be asked to think.
    """
    system = _text(request.get("system"))
    messages = [{"role": "system", "content": system}] if system else []
    for message in request["messages"]:
        turn = _assistant_turn if message["role"] == "assistant" else _user_turn
        messages.extend(turn(_blocks(message.get("content"))))
    optional = {
        "temperature": request.get("temperature"),
        "top_p": request.get("top_p"),
        "stop": request.get("stop_sequences") or None,
        "user": (request.get("metadata") or {}).get("user_id"),
        "tools": [_tool(tool) for tool in request.get("tools") or () if tool.get("type", "custom") == "custom"] or None,
        "response_format": _response_format(request),
        "reasoning_effort": _effort(request) if reasons else None,
    }
    most = request.get("max_tokens", request.get("max_completion_tokens"))  # as the model's settings may rename it
    chosen = {"model": request["model"], "messages": messages, "max_tokens": most}
    chosen |= {name: value for name, value in optional.items() if value is not None}
    if "tools" in chosen:
        chosen |= _tool_choice(request.get("tool_choice") or {})
    if request.get("stream"):
        chosen |= {"stream": True, "stream_options": {"include_usage": True}}
    return chosen


def without_foreign_thinking(request: Json) -> Json:
    """Return a request for Anthropic without thoughts that another model had, which carry no signature of its own."""
    messages = []
    for message in request["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            kept = [block for block in content if block.get("type") != "thinking" or block.get("signature")]
            message = {**message, "content": kept or ""} if len(kept) < len(content) else message
        messages.append(message)
    return {**request, "messages": messages}


def _user_turn(blocks: Sequence[Json]) -> Iterator[dict[str, Any]]:
    """Results of tools come first: a chat completion wants them directly after the calls."""
    shown: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        content = _blocks(block.get("content"))
        text = _text(content) or ("(an image, shown below)" if content else "")
        text = f"error: {text}" if block.get("is_error") else text
        yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}
        shown.extend(_parts(part for part in content if part.get("type") != "text"))
    parts = [*shown, *_parts(blocks)]
    if parts:
        is_text = len(parts) == 1 and parts[0]["type"] == "text"
        yield {"role": "user", "content": parts[0]["text"] if is_text else parts}


def _assistant_turn(blocks: Sequence[Json]) -> Iterator[dict[str, Any]]:
    calls = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {"name": block.get("name"), "arguments": to_json(block.get("input") or {}).decode()},
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": _text(blocks) or (None if calls else "")}
    yield {**message, "tool_calls": calls} if calls else message


def _parts(blocks: Iterable[Json]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        kind, source = block.get("type"), block.get("source") or {}
        if kind == "text" and block.get("text"):
            yield {"type": "text", "text": block["text"]}
        elif kind == "image":
            yield {"type": "image_url", "image_url": {"url": _address(source)}}
        elif kind == "document" and source.get("type") == "text":
            yield {"type": "text", "text": source.get("data") or ""}
        elif kind == "document" and source.get("type") == "base64":
            file = {"filename": block.get("title") or "document.pdf", "file_data": _address(source)}
            yield {"type": "file", "file": file}


def _address(source: Json) -> str:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return str(source.get("url") or "")


def _blocks(content: Any) -> Sequence[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or () if isinstance(block, Mapping)]


def _text(content: Any) -> str:
    texts = (block.get("text") for block in _blocks(content) if block.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def _tool(tool: Json) -> dict[str, Any]:
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    optional = {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": {**function, **optional}}


def _tool_choice(choice: Json) -> dict[str, Any]:
    kind = choice.get("type")
    chosen: Any = _TOOL_CHOICES.get(str(kind))
    if kind == "tool":
        chosen = {"type": "function", "function": {"name": choice.get("name")}}
    single = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    return single if chosen is None else {"tool_choice": chosen, **single}


def _response_format(request: Json) -> dict[str, Any] | None:
    wanted = request.get("output_format") or (request.get("output_config") or {}).get("format") or {}
    if wanted.get("type") != "json_schema":
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.get("schema"), "strict": True}}


def _effort(request: Json) -> str | None:
    thinking = request.get("thinking") or {}
    if thinking.get("type") not in ("enabled", "adaptive"):
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return str((request.get("output_config") or {}).get("effort") or "medium")
    return "low" if budget < _MEDIUM_BUDGET else "medium" if budget < _HIGH_BUDGET else "high"
