"""Chat completions as objects, for models that are called without an SDK: the shape of OpenAI's and litellm's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer


class _Record(BaseModel):
    """An object of the API: attributes, and items as well; what a server adds is kept, and what it left out is None.

    Dumped, it holds what the server sent and no more, so that it can be sent on to any other.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _as_sent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name in self.model_fields_set}

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __contains__(self, name: str) -> bool:
        return name in self.model_fields_set

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or ``default`` where there is none."""
        return getattr(self, name, default)

    def keys(self) -> Iterator[str]:
        """Return the names of the fields that were sent."""
        return iter(self.model_fields_set)


class Function(_Record):
    """The function of a tool call; its arguments are JSON."""

    name: Any = None
    arguments: Any = None


class ToolCall(_Record):
    """A tool call, or a fragment of one in a stream."""

    id: Any = None
    type: Any = None
    index: Any = None
    function: Function | None = None


class Message(_Record):
    """What a model said, or a piece of it in a stream."""

    role: Any = None
    content: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    refusal: Any = None


class Choice(_Record):
    """One of the answers, or a piece of it in a stream."""

    index: Any = 0
    finish_reason: Any = None
    logprobs: Any = None


class _WholeChoice(Choice):
    message: Message = Field(default_factory=Message)


class _StreamedChoice(Choice):
    delta: Message = Field(default_factory=Message)


class Usage(_Record):
    """The tokens that a model counted."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: _Record | None = None
    completion_tokens_details: _Record | None = None


class _Answer(_Record):
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    usage: Usage | None = None
    system_fingerprint: Any = None
    service_tier: Any = None


class ChatCompletion(_Answer):
    """A whole answer."""

    choices: list[_WholeChoice]


class ChatCompletionChunk(_Answer):
    """A piece of a streamed answer."""

    choices: list[_StreamedChoice] = Field(default_factory=list)
