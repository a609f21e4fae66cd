"""What the paths answer with, for their description. Models may add fields of their own everywhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt

__all__ = [
    "ANTHROPIC_ERRORS",
    "ERRORS",
    "STREAMED",
    "AnthropicMessage",
    "ChatCompletion",
    "Decision",
    "Embeddings",
    "Health",
    "ModelCard",
    "ModelCards",
    "Readiness",
    "ResponseObject",
    "TextCompletion",
    "TokenCount",
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class _ChatMessage(_Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class _ChatChoice(_Answer):
    index: NonNegativeInt
    message: _ChatMessage
    finish_reason: str
    logprobs: dict[str, Any] | None


class ChatCompletion(_Answer):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: NonNegativeInt
    model: str
    choices: list[_ChatChoice]


class _TextChoice(_Answer):
    index: NonNegativeInt
    text: str
    finish_reason: str


class TextCompletion(_Answer):
    """A whole text completion."""

    id: str
    object: Literal["text_completion"]
    created: NonNegativeInt
    model: str
    choices: list[_TextChoice]


class _OutputItem(_Answer):
    type: str


class ResponseObject(_Answer):
    """An answer of the Responses API."""

    id: str
    object: Literal["response"]
    created_at: float
    model: str
    output: list[_OutputItem]


class _Block(_Answer):
    type: str


class AnthropicMessage(_Answer):
    """A whole answer of the Messages API."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[_Block]
    stop_reason: str | None
    usage: dict[str, Any]


class TokenCount(_Answer):
    """The tokens of a request."""

    input_tokens: NonNegativeInt


class AnthropicError(_Answer):
    """Anthropic's error envelope."""

    type: Literal["error"]
    error: dict[str, Any]


class _Embedding(_Answer):
    object: Literal["embedding"]
    index: NonNegativeInt
    embedding: list[float] | str


class Embeddings(_Answer):
    """Embeddings, in the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[_Embedding]


class ModelCard(_Answer):
    """A name that ``model`` may have."""

    id: str
    object: Literal["model"]
    created: NonNegativeInt
    owned_by: str


class ModelCards(_Answer):
    """All of them."""

    object: Literal["list"]
    data: list[ModelCard]


class Decision(_Answer):
    """Which model a prompt goes to, and why."""

    tier: Literal["strong", "weak"]
    model: str
    score: float | None
    threshold: float | None
    router: str
    reason: str
    latency_seconds: float


class Health(_Answer):
    """The process lives."""

    status: Literal["online"]


class Readiness(_Answer):
    """Requests are taken."""

    status: Literal["ready"]
    routers: list[str]


class ErrorDetails(_Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(_Answer):
    error: ErrorDetails


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": "OpenAI's error envelope"} for status in ("4XX", "5XX")
}
"""What every path answers with where it cannot."""

ANTHROPIC_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": AnthropicError, "description": "Anthropic's error envelope"} for status in ("4XX", "5XX")
}
"""The same for the paths of Anthropic's API."""

_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "description": "One server-sent event; they come where the request says 'stream': true.",
}
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}
"""The other form of an answer that can be streamed."""
