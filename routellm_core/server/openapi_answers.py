"""What each path answers with, as JSON schemas. Models may add fields of their own everywhere."""

from __future__ import annotations

from typing import Any

__all__ = ["ANSWERS", "ERROR"]

Schema = dict[str, Any]


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _constant(value: str) -> Schema:
    return {"type": "string", "const": value}


_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_MAYBE_NUMBER: Schema = {"type": ["number", "null"]}

ERROR = _object(error=_object(message=_TEXT, type=_TEXT, param=_MAYBE_TEXT, code=_MAYBE_TEXT))
"""OpenAI's error envelope."""

_CHAT_MESSAGE = _object(role=_constant("assistant"), content=_MAYBE_TEXT, refusal=_MAYBE_TEXT)
_CHAT_CHOICE = _object(index=_COUNT, message=_CHAT_MESSAGE, finish_reason=_TEXT, logprobs={"type": ["object", "null"]})
_CHAT_COMPLETION = _object(
    id=_TEXT, object=_constant("chat.completion"), created=_COUNT, model=_TEXT, choices=_list_of(_CHAT_CHOICE)
)
_TEXT_COMPLETION = _object(
    id=_TEXT,
    object=_constant("text_completion"),
    created=_COUNT,
    model=_TEXT,
    choices=_list_of(_object(index=_COUNT, text=_TEXT, finish_reason=_TEXT)),
)
_RESPONSE = _object(
    id=_TEXT, object=_constant("response"), created_at=_NUMBER, model=_TEXT, output=_list_of(_object(type=_TEXT))
)
_EMBEDDINGS = _object(
    object=_constant("list"),
    model=_TEXT,
    data=_list_of(
        _object(object=_constant("embedding"), index=_COUNT, embedding={"type": ["array", "string"], "items": _NUMBER})
    ),
)
_MODEL = _object(id=_TEXT, object=_constant("model"), created=_COUNT, owned_by=_TEXT)
_DECISION = _object(
    tier={"type": "string", "enum": ["strong", "weak"]},
    model=_TEXT,
    score=_MAYBE_NUMBER,
    threshold=_MAYBE_NUMBER,
    router=_TEXT,
    reason=_TEXT,
    latency_seconds=_NUMBER,
)
_EVENTS: Schema = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": _TEXT, "data": _TEXT},
    "description": "One server-sent event; they come where the request says 'stream': true.",
}


def _generated(schema: Schema) -> dict[str, Schema]:
    return {"application/json": schema, "text/event-stream": _EVENTS}


ANSWERS: dict[str, dict[str, Schema]] = {
    "/v1/chat/completions": _generated(_CHAT_COMPLETION),
    "/v1/completions": _generated(_TEXT_COMPLETION),
    "/v1/responses": _generated(_RESPONSE),
    "/v1/embeddings": {"application/json": _EMBEDDINGS},
    "/v1/route": {"application/json": _DECISION},
    "/v1/models": {"application/json": _object(object=_constant("list"), data=_list_of(_MODEL))},
    "/v1/models/{model}": {"application/json": _MODEL},
    "/health": {"application/json": _object(status=_constant("online"))},
    "/ready": {"application/json": _object(status=_constant("ready"), routers=_list_of(_TEXT))},
    "/metrics": {"text/plain": _TEXT},
}
"""The schema of an answer with status 200, by path and media type."""
