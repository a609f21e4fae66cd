"""What LlamaIndex's messages say: what a call is routed on, what it needs, and what an answer holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import QueryBundle
from llama_index.llms.routellm.rendered import is_agent_text, question_in
from pydantic_core import to_json

from routellm_core.errors import UnsupportedPromptError
from routellm_core.prompts import Extract, routing_prompt
from routellm_core.providers.events import Emptiness
from routellm_core.turns import Turn

__all__ = [
    "ExtractFromMessages",
    "MessageReading",
    "core_extract",
    "named_question",
    "turn_of",
    "without_foreign_state",
]

ExtractFromMessages = Callable[[Sequence[ChatMessage]], str | None]
"""Picks the text to route on out of LlamaIndex messages, or None when there is none."""

_VARIABLES = ("query_str", "question", "query")
_MESSAGE = "llama_index_message"
_PARTS = {"image": "image_url", "audio": "input_audio", "video": "video_url", "document": "file"}
_COMMON_EXTRAS = frozenset({"tool_calls", "tool_call_id", "name"})


def named_question(prompt: BasePromptTemplate, arguments: Mapping[str, Any]) -> str | None:
    """Return the question among a template's variables, also those fixed by ``partial_format``; or None."""
    given = {**prompt.kwargs, **arguments}
    for name in _VARIABLES:
        value = given.get(name)
        if isinstance(value, QueryBundle):
            value = value.query_str
        if isinstance(value, str) and value.strip():
            return value
    return None


# --- requests ---------------------------------------------------------------------------------------------------------


def turn_of(
    messages: Sequence[ChatMessage],
    parameters: Mapping[str, Any],
    *,
    question: str | None = None,
    session: str | None = None,
) -> Turn:
    """Read a call.

    Args:
        messages: what the model will be sent.
        parameters: the call's others, by OpenAI's names.
        question: the question, where the caller or LlamaIndex names it; it stands in the place of the last user
            message, and alone where nothing was answered yet, for the rest was rendered around it.
        session: the conversation's id, or None.

    Raises:
        UnsupportedPromptError: there is neither a message nor a question.
    """
    sent = [_written(messages, index) for index in range(len(messages))]
    conversation = [_asked(entry) for entry in sent]
    if question is not None and not any(entry["role"] == "assistant" for entry in sent):
        conversation = [{"role": "user", "content": question}]
    elif not sent:
        raise UnsupportedPromptError("there is nothing to route on: no message and no question was given")
    elif question is not None:
        last = max((i for i, entry in enumerate(sent) if entry["role"] == "user"), default=len(sent))
        conversation[last : last + 1] = [{"role": "user", "content": question}]
    # A chat engine's system text holds the documents of the moment, so it does not tell conversations apart.
    conversation = [{**entry, "content": ""} if entry["role"] == "system" else entry for entry in conversation]
    return Turn.of(conversation, {**parameters, "messages": sent}, session=session)


def core_extract(extract: ExtractFromMessages) -> Extract:
    """Let the core call an extractor that reads LlamaIndex messages; where the question is known it is not asked."""

    def read(conversation: Sequence[Mapping[str, Any]]) -> str | None:
        messages = [message for entry in conversation if (message := entry.get(_MESSAGE)) is not None]
        return extract(messages) if len(messages) == len(conversation) else routing_prompt(conversation)

    return read


def without_foreign_state(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Return messages without what only the model can read that wrote them: thinking, signatures."""
    return [_plain_answer(message) if message.role == MessageRole.ASSISTANT else message for message in messages]


def _plain_answer(message: ChatMessage) -> ChatMessage:
    extras = {name: value for name, value in message.additional_kwargs.items() if name in _COMMON_EXTRAS}
    kept = [block for block in message.blocks if block.block_type != "thinking"]
    return message.model_copy(update={"blocks": kept, "additional_kwargs": extras})


def _written(messages: Sequence[ChatMessage], index: int) -> dict[str, Any]:
    """Return a message as the core reads it."""
    message = messages[index]
    role = str(message.role.value)
    if role == "user" and not _is_persons(messages, index):
        role = "tool"
    extras = message.additional_kwargs
    entry: dict[str, Any] = {"role": role, "content": [_part(block) for block in message.blocks]}
    calls = [{"id": _call_id(call)} for call in extras.get("tool_calls") or ()]
    calls += [{"id": block.tool_call_id} for block in message.blocks if block.block_type == "tool_call"]
    if calls:
        entry["tool_calls"] = calls
    if role == "assistant":
        entry["extras"] = extras
    if extras.get("tool_call_id"):
        entry["tool_call_id"] = extras["tool_call_id"]
    return {**entry, _MESSAGE: message}


def _asked(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a user's message with the question alone where LlamaIndex rendered a template around it."""
    if entry["role"] != "user":
        return entry
    parts = ({**part, "text": question_in(part["text"])} if "text" in part else part for part in entry["content"])
    return {**entry, "content": list(parts)}


def _part(block: Any) -> dict[str, Any]:
    kind = block.block_type
    if kind == "text":
        return {"type": "text", "text": block.text}
    if kind == "thinking":
        return {"type": "thinking", **block.additional_information}
    return {"type": _PARTS.get(kind, kind)}


def _call_id(call: Any) -> Any:
    return call.get("id") if isinstance(call, Mapping) else getattr(call, "id", None)


def _is_persons(messages: Sequence[ChatMessage], index: int) -> bool:
    """Return whether a person wrote a message in the user's role, and not an agent (tool output, complaints)."""
    message = messages[index]
    if message.role != MessageRole.USER:
        return False
    if index == 0 or not is_agent_text(message.content or ""):
        return True
    # Such a text comes after the model's own, or after another one of its kind.
    previous = messages[index - 1].role
    return previous != MessageRole.ASSISTANT and (previous != MessageRole.USER or _is_persons(messages, index - 1))


# --- answers ----------------------------------------------------------------------------------------------------------


class MessageReading:
    """What LlamaIndex's answers say; see :class:`routellm_core.adapters.AnswerReading`.

    Of a parsed object nothing is known, so it is content.
    """

    def is_content(self, piece: Any) -> bool:
        """Return whether a piece of a stream says something, be it a thought."""
        if not isinstance(piece, ChatResponse):
            return bool(_text(piece))
        return bool(piece.delta or _holds(piece.message) or piece.additional_kwargs.get("thinking_delta"))

    def emptiness(self, answer: Any) -> Emptiness | None:
        """Return why an answer, or all pieces of a stream, hold nothing."""
        pieces = answer if isinstance(answer, list) else [answer]
        for piece in pieces:
            if _holds(piece.message) if isinstance(piece, ChatResponse) else _text(piece).strip():
                return None
        return (
            "filtered" if any(_finish(getattr(piece, "raw", None)) == "content_filter" for piece in pieces) else "empty"
        )

    def marks(self, piece: Any) -> bytes:
        """Return the ids and signatures of an answer as JSON."""
        if not isinstance(piece, ChatResponse):
            return b""
        message = piece.message
        entry = _written([message], 0)
        kept = {name: entry[name] for name in ("tool_calls", "extras") if entry.get(name)}
        thoughts = [part for part in entry["content"] if part["type"] == "thinking"]
        return to_json({**kept, "thoughts": thoughts}, fallback=str) if kept or thoughts else b""


def _text(piece: Any) -> str:
    if isinstance(piece, CompletionResponse):
        return piece.delta or piece.text or ""
    return piece if isinstance(piece, str) else str(type(piece))


def _holds(message: ChatMessage) -> bool:
    if message.additional_kwargs.get("tool_calls"):
        return True
    return any(
        block.text.strip() if block.block_type == "text" else block.block_type != "thinking" for block in message.blocks
    )


def _finish(raw: Any) -> Any:
    choices = raw.get("choices") if isinstance(raw, Mapping) else getattr(raw, "choices", None)
    choice = choices[0] if choices else None
    return choice.get("finish_reason") if isinstance(choice, Mapping) else getattr(choice, "finish_reason", None)
