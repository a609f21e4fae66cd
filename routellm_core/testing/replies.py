"""What the local models answer: deterministic replies in OpenAI's chat shape, from the request alone.

A reply honours ``tools`` with every form of ``tool_choice``, ``response_format``, ``stop``, ``n`` and ``max_tokens``,
so that agents, chains and structured output can be run against it for real. Two answers that `routellm data label` has
compared get a verdict: the one that holds the reference answer is preferred, where one is given, else the longer one; a
model named ``…-first`` always prefers what it reads first, ``…-vague`` decides nothing.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from routellm_core.prompts import message_text

Json = dict[str, Any]
Reply: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""From the body of a chat completion request to the text to answer, or None to answer as usual."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_COMPARED = re.compile(r"<answer of assistant ([AB])>\n(.*?)\n</answer of assistant \1>", re.DOTALL)
_REFERENCE = re.compile(r"<reference answer>\n(.*?)\n</reference answer>", re.DOTALL)
_QUOTED = re.compile(r"\"([^\"]+)\"|'([^']+)'")


def completion(request: Mapping[str, Any], reply: Reply | None = None) -> Json:
    """Answer a chat completion request (not streamed).

    Args:
        request: the body of POST /v1/chat/completions.
        reply: asked first what to say; None for every request where it is left out.

    Returns:
        an object of OpenAI's ``chat.completion`` schema that echoes the request's model.
    """
    message, finish_reason = _message(request, reply)
    prompt_tokens = sum(_count_tokens(message_text(item)) + 3 for item in request["messages"])
    spoken = message["content"] or json.dumps(message.get("tool_calls"))
    completion_tokens = _count_tokens(spoken)
    logprobs = _logprobs(message["content"] or "") if request.get("logprobs") else None
    choice = {"message": message, "finish_reason": finish_reason, "logprobs": logprobs}
    copies = int(request.get("n") or 1)
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": index, **choice} for index in range(copies)],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens * copies,
            "total_tokens": prompt_tokens + completion_tokens * copies,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    }


def completion_chunks(request: Mapping[str, Any], reply: Reply | None = None) -> Iterator[Json]:
    """Answer the same request as a stream: role, content word by word or tool calls in fragments, finish, usage."""
    whole = completion(request, reply)
    base = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    wants_usage = (request.get("stream_options") or {}).get("include_usage")
    usage_field: Json = {"usage": None} if wants_usage else {}

    def chunk(index: int, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**base, "choices": [choice], **usage_field}

    for choice in whole["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": "" if message["content"] else None})
        for piece in re.findall(r"\S+\s*|\s+", message["content"] or ""):
            yield chunk(index, {"content": piece})
        for position, call in enumerate(message.get("tool_calls") or []):
            yield from (chunk(index, {"tool_calls": [part]}) for part in _call_fragments(position, call))
        yield chunk(index, {}, choice["finish_reason"])
    if wants_usage:
        yield {**base, "choices": [], "usage": whole["usage"]}


def json_from_schema(schema: Mapping[str, Any], text: str) -> Any:
    """Return a value that is valid under a JSON schema, filled from ``text`` where it offers something.

    Numbers are taken from the text in their order; strings from its quotations, else the text itself.
    """
    return _Filler(schema, text).value(schema)


class _Filler:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._numbers = iter(_NUMBER.findall(text))
        self._quoted = iter(first or second for first, second in _QUOTED.findall(text))

    def value(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            mentioned = [item for item in schema["enum"] if str(item).lower() in self._text.lower()]
            return (mentioned or schema["enum"])[0]
        for union in ("anyOf", "oneOf", "allOf"):
            if schema.get(union):
                return self.value(schema[union][0])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) else kind
        return self._of_type(kind, schema)

    def _of_type(self, kind: str, schema: Mapping[str, Any]) -> Any:
        if kind == "object":
            properties = schema.get("properties", {})
            required = schema.get("required", list(properties))
            return {name: self.value(item) for name, item in properties.items() if name in required}
        if kind == "array":
            return [self.value(schema.get("items", {"type": "string"})) for _ in range(schema.get("minItems", 1))]
        if kind in ("integer", "number"):
            number = float(next(self._numbers, schema.get("minimum", 1)))
            return int(number) if kind == "integer" else number
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        return next(self._quoted, None) or self._text.strip()[:80] or "text"

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found  # type: ignore[no-any-return]


def _message(request: Mapping[str, Any], reply: Reply | None) -> tuple[Json, str]:
    messages = request["messages"]
    text = next((message_text(item) for item in reversed(messages) if item.get("role") == "user"), "")
    if chosen := _chosen_tool(request, messages, text):
        arguments = json_from_schema(chosen.get("parameters") or {"type": "object", "properties": {}}, text)
        call = {
            "id": f"call_{uuid.uuid4().hex[:20]}",
            "type": "function",
            "function": {"name": chosen["name"], "arguments": json.dumps(arguments)},
        }
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}, "tool_calls"
    content = (reply(request) if reply else None) or _content(request, messages, text)
    content, finish_reason = _limited(content, request)
    return {"role": "assistant", "content": content, "refusal": None}, finish_reason


def _chosen_tool(request: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], text: str) -> Json | None:
    tools: list[Json] = [tool["function"] for tool in request.get("tools") or [] if tool.get("type") == "function"]
    choice = request.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return None
    if isinstance(choice, Mapping):
        named = choice.get("function", {}).get("name")
        return next((tool for tool in tools if tool["name"] == named), None)
    called = {
        call["function"]["name"]
        for message in messages
        for call in message.get("tool_calls") or []
        if "function" in call
    }
    if choice == "required":  # a tool that was not called yet, else an agent's loop would never end
        return next((tool for tool in tools if tool["name"] not in called), tools[0])
    if messages[-1].get("role") == "tool":
        return None
    words = set(re.findall(r"[a-z]+", text.lower()))
    return next((tool for tool in tools if words & set(re.findall(r"[a-z]{4,}", tool["name"].lower()))), None)


def _content(request: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], text: str) -> str:
    response_format = request.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"].get("schema", {})
        return json.dumps(json_from_schema(schema, text))
    if response_format.get("type") == "json_object":
        return json.dumps(_json_object(request["model"], text))
    if len(compared := dict(_COMPARED.findall(text))) == 2:
        return _verdict(request["model"], text, compared)
    if messages[-1].get("role") == "tool":
        return f"{request['model']} read the tool's result: {message_text(messages[-1])}"
    return text if request["model"].startswith("echo") else f"{request['model']} answers: {text}"


def _verdict(model: str, text: str, compared: Mapping[str, str]) -> str:
    if model.endswith("-vague"):
        return "Both answers have their merits."
    if model.endswith("-first"):
        return "The first answer convinces at once.\n[[A]]"
    reference = _REFERENCE.search(text)
    quality = {name: reference[1] in answer if reference else len(answer) for name, answer in compared.items()}
    verdict = "C" if quality["A"] == quality["B"] else max(quality, key=lambda name: quality[name])
    return f"{model} compared both answers.\n[[{verdict}]]"


def _json_object(model: str, text: str) -> Json:
    # JSON mode has no schema: a prompt names the keys that it wants, as in "with 'setup' and 'punchline' keys".
    names = [first or second for first, second in _QUOTED.findall(text)] if re.search(r"\bkeys?\b", text) else []
    return dict.fromkeys(names, text[:80]) if names else {"model": model, "answer": text[:200]}


def _limited(content: str, request: Mapping[str, Any]) -> tuple[str, str]:
    stops = request.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        content = content.partition(stop)[0]
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    pieces = re.findall(r"\S+\s*|\s+", content)
    if limit and len(pieces) > limit:
        return "".join(pieces[:limit]), "length"
    return content, "stop"


def _logprobs(content: str) -> Json:
    tokens = re.findall(r"\S+\s*|\s+", content)
    entry = {"logprob": -0.5, "top_logprobs": []}
    return {"content": [{"token": token, "bytes": [*token.encode()], **entry} for token in tokens], "refusal": None}


def _call_fragments(position: int, call: Json) -> Iterator[Json]:
    function = call["function"]
    yield {**call, "index": position, "function": {"name": function["name"], "arguments": ""}}
    arguments = function["arguments"]
    for start in range(0, len(arguments), 6):
        yield {"index": position, "function": {"arguments": arguments[start : start + 6]}}


def _count_tokens(text: str) -> int:
    return max(1, len(text) // 4)
