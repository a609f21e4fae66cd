"""What the server reads of a request's body. Every other field is passed on as it came.

Lists are given up at their first fault: a thousand errors tell a client no more than one, and cost a thousand times as
much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, PrivateAttr, StrictBool, StrictInt

from routellm_core.server.error_responses import RequestError
from routellm_core.types import ChatMessage

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "MessagesRequest",
    "OperationRequest",
    "Received",
    "ResponseRequest",
    "RouteRequest",
    "TokenCountRequest",
]

_MOST_MESSAGES = 20_000

_Item = TypeVar("_Item")


class _FirstFault(FailFast):
    def __hash__(self) -> int:  # a union hashes its members
        return hash(self.fail_fast)


Items: TypeAlias = Annotated[list[_Item], _FirstFault()]


class Received(BaseModel):
    """A body, checked as far as the server reads it."""

    model_config = ConfigDict(extra="allow")

    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def sent(self) -> dict[str, Any]:
        """The body as it came."""
        return self._sent

    def keep(self, body: dict[str, Any]) -> Self:
        """Remember the body as it came."""
        self._sent = body
        return self


class OperationRequest(Received):
    """What the server reads of a request that a model answers with text."""

    model: str = Field(min_length=1, description="router-[name]-[threshold], auto, or one of the two models")
    stream: StrictBool | None = None
    stream_options: dict[str, Any] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None

    def conversation(self) -> Sequence[ChatMessage]:
        """Return the messages."""
        raise NotImplementedError


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | Items[str | dict[str, Any]] | None = None


class ChatCompletionRequest(OperationRequest):
    """``POST /v1/chat/completions``."""

    messages: Items[Message] = Field(min_length=1, max_length=_MOST_MESSAGES)

    def conversation(self) -> Sequence[ChatMessage]:
        """Return the messages."""
        messages: Sequence[ChatMessage] = self.sent["messages"]
        return messages


class CompletionRequest(OperationRequest):
    """``POST /v1/completions``. Text is routed on; tokens have none, so the default tier answers them."""

    prompt: str | Items[str] | Items[StrictInt] | Items[Items[StrictInt]] | None = None

    def conversation(self) -> Sequence[ChatMessage]:
        """Return the prompt as one user message."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt or []
        return [{"role": "user", "content": "\n".join(text for text in texts if isinstance(text, str))}]


class ResponseRequest(OperationRequest):
    """``POST /v1/responses``. ``input`` is a text, or items of which the user's messages are routed on."""

    input: str | Items[dict[str, Any]] | None = None

    def conversation(self) -> Sequence[ChatMessage]:
        """Return the input's messages; tool calls and their outputs are messages of the assistant's and of tools."""
        if not isinstance(self.input, list):
            return [{"role": "user", "content": self.input or ""}]
        return [message for item in self.input if (message := _as_message(item))] or [{"role": "user", "content": ""}]


def _as_message(item: Mapping[str, Any]) -> ChatMessage | None:
    kind, call = str(item.get("type") or ""), item.get("call_id")
    if isinstance(item.get("role"), str):
        return item
    if kind.endswith("_call_output"):
        return {"role": "tool", "tool_call_id": call, "content": ""}
    if kind.endswith("_call"):
        return {"role": "assistant", "content": "", "tool_calls": [{"id": call}] if call else []}
    return {"role": "assistant", "content": "", "reasoning": item} if kind == "reasoning" else None


class TokenCountRequest(OperationRequest):
    """``POST /v1/messages/count_tokens``, of Anthropic's API. Results of tools are no text of a user."""

    messages: Items[Message] = Field(min_length=1, max_length=_MOST_MESSAGES)
    system: str | Items[dict[str, Any]] | None = None
    tools: Items[dict[str, Any]] | None = None

    def conversation(self) -> Sequence[ChatMessage]:
        """Return the messages, the system text first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.sent["messages"]]


class MessagesRequest(TokenCountRequest):
    """``POST /v1/messages``."""

    max_tokens: StrictInt = Field(ge=1)
    thinking: dict[str, Any] | None = None
    tool_choice: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None


class EmbeddingRequest(Received):
    """``POST /v1/embeddings``."""

    model: str = Field(min_length=1)
    input: str | Items[str] | Items[StrictInt] | Items[Items[StrictInt]]


class RouteRequest(Received):
    """``POST /v1/route``: a prompt or messages, and the routing to try."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}
    )

    model: str = Field(default="auto", min_length=1, description="router-[name]-[threshold] or auto")
    messages: Items[Message] = Field(default=[], min_length=1, max_length=_MOST_MESSAGES)
    prompt: str = ""

    def conversation(self) -> str | Sequence[ChatMessage]:
        """Return the prompt or the messages, of which exactly one must be there."""
        given = self.model_fields_set & {"prompt", "messages"}
        if len(given) != 1:
            raise RequestError("give either 'prompt' or 'messages'", param="messages")
        if "prompt" in given:
            return self.prompt
        return [{"role": message.role, "content": message.content} for message in self.messages]
