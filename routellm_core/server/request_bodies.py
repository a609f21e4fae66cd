"""Reading requests: size, JSON, the few fields that routing needs. Every other field is passed on as it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import ClientDisconnect, Request

from routellm_core.server.error_responses import RequestError
from routellm_core.types import ChatMessage

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "OperationRequest",
    "ResponseRequest",
    "RouteRequest",
    "read_body",
]


class OperationRequest(BaseModel):
    """What the server reads of a request's body."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, description="router-[name]-[threshold], auto, or one of the two models")
    stream: StrictBool | None = None
    stream_options: dict[str, Any] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None

    def conversation(self, body: Mapping[str, Any]) -> Sequence[ChatMessage]:
        """Return the messages of the request whose body this was read from."""
        raise NotImplementedError


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[str | dict[str, Any]] | None = None


class ChatCompletionRequest(OperationRequest):
    """``POST /v1/chat/completions``."""

    messages: list[_Message] = Field(min_length=1)

    def conversation(self, body: Mapping[str, Any]) -> Sequence[ChatMessage]:
        """Return the messages."""
        messages: Sequence[ChatMessage] = body["messages"]
        return messages


class CompletionRequest(OperationRequest):
    """``POST /v1/completions``. Text is routed on; tokens have none, so the default tier answers them."""

    prompt: str | list[str] | list[StrictInt] | list[list[StrictInt]] | None = None

    def conversation(self, body: Mapping[str, Any]) -> Sequence[ChatMessage]:  # noqa: ARG002
        """Return the prompt as one user message."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt or []
        return [{"role": "user", "content": "\n".join(text for text in texts if isinstance(text, str))}]


class ResponseRequest(OperationRequest):
    """``POST /v1/responses``. ``input`` is a text, or items of which the user's messages are routed on."""

    input: str | list[dict[str, Any]] | None = None

    def conversation(self, body: Mapping[str, Any]) -> Sequence[ChatMessage]:  # noqa: ARG002
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


class EmbeddingRequest(BaseModel):
    """``POST /v1/embeddings``."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    input: str | list[str] | list[StrictInt] | list[list[StrictInt]]


class RouteRequest(BaseModel):
    """``POST /v1/route``: a prompt or messages, and the routing to try."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}
    )

    model: str = Field(default="auto", min_length=1, description="router-[name]-[threshold] or auto")
    messages: list[_Message] = Field(default=[], min_length=1)
    prompt: str = ""

    def conversation(self) -> str | Sequence[ChatMessage]:
        """Return the prompt or the messages, of which exactly one must be there."""
        given = self.model_fields_set & {"prompt", "messages"}
        if len(given) != 1:
            raise RequestError("give either 'prompt' or 'messages'", param="messages")
        if "prompt" in given:
            return self.prompt
        return [{"role": message.role, "content": message.content} for message in self.messages]


async def read_body(request: Request, kind: type[BaseModel], *, limit: int) -> tuple[dict[str, Any], Any]:
    """Read and check a request's body.

    Args:
        request: the request.
        kind: what its body must look like.
        limit: bytes.

    Returns:
        the body as it came, and what the server reads of it.

    Raises:
        RequestError: too long, no JSON, or not what ``kind`` asks for.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        # A page of another origin may send other types to a local server without asking it first.
        raise RequestError(f"Content-Type is {content_type!r}; send application/json", status=415)
    try:
        body = from_json(await _content(request, limit), allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, got {type(body).__name__}")
    try:
        return body, kind.model_validate(body)
    except ValidationError as error:
        raise _fault(error.errors(include_url=False, include_input=False)[0]) from None


async def _content(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_long(limit)
    pieces, length = [], 0
    try:
        async for piece in request.stream():
            length += len(piece)
            if length > limit:
                raise _too_long(limit)
            pieces.append(piece)
    except ClientDisconnect:
        raise RequestError("the client left while sending", status=499) from None
    return b"".join(pieces)


def _too_long(limit: int) -> RequestError:
    return RequestError(
        f"the body is longer than {limit} bytes, this server's limit", status=413, code="request_too_large"
    )


def _fault(fault: Mapping[str, Any] | ErrorDetails) -> RequestError:
    # pydantic names the branches of a union between the fields: "str", "list[…]", "dict[…]".
    location = [
        part
        for part in fault["loc"]
        if isinstance(part, int) or not (part == "str" or part.startswith(("list[", "dict[")))
    ]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if fault["type"] == "missing":
        return RequestError(f"you must provide {path!r}", param=path, code="missing_required_parameter")
    return RequestError(f"invalid {path!r}: {fault['msg']}", param=path, code="invalid_value")
