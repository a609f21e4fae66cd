"""Which text of a conversation is routed on: the last real user message.

Never system, assistant or tool text: an agent's loop ends with tool output, and routing on that would change the
model in the middle of a task. Because tool calls and their results are passed over, a whole tool loop is routed on
the question that started it and so keeps one model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from routellm_core.errors import UnsupportedPromptError
from routellm_core.types import ChatMessage

__all__ = ["Extract", "as_messages", "first_user_text", "message_text", "routing_prompt"]

Extract: TypeAlias = Callable[[Sequence[ChatMessage]], str | None]
"""Picks the text to route on out of a conversation, or None when there is none."""

_TEXT_PART_TYPES = frozenset({"text", "input_text"})
_NESTED_FIELDS = frozenset({"content", "tool_calls", "function_call"})


def as_messages(messages: Any) -> list[dict[str, Any]]:
    """Return chat messages as plain dictionaries: the one entry of every door of the library.

    Whatever has a ``model_dump()`` is a message too (what the openai package and litellm return), so are content parts
    and tool calls. Fields that such an object holds as None are left out, as a provider would refuse them.

    Raises:
        UnsupportedPromptError: not a non-empty list of messages that each have a role; says which entry and why.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UnsupportedPromptError(
            f"messages must be a list such as [{{'role': 'user', 'content': 'Hello'}}], got {type(messages).__name__}"
        )
    if not messages:
        raise UnsupportedPromptError("messages is empty; give at least one, such as {'role': 'user', 'content': 'Hi'}")
    return [_as_message(message, index) for index, message in enumerate(messages)]


def _as_message(message: Any, index: int) -> dict[str, Any]:
    dumped = _dumped(message)
    if not isinstance(dumped, Mapping):
        raise UnsupportedPromptError(
            f"messages[{index}] must be a mapping with 'role' and 'content', or an object with model_dump(), "
            f"got {type(message).__name__}"
        )
    if not isinstance(dumped.get("role"), str):
        raise UnsupportedPromptError(f"messages[{index}] has no 'role' (system, user, assistant or tool)")
    plain = dict(dumped)
    for field in _NESTED_FIELDS & plain.keys():
        plain[field] = _plain(plain[field])
    if dumped is not message:
        plain.setdefault("content", None)
    return plain


def _plain(value: Any) -> Any:
    value = _dumped(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _dumped(value: Any) -> Any:
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    if not callable(dump):
        return value
    try:
        return dump(mode="json", exclude_none=True, warnings=False)
    except TypeError:  # another library's, with options of its own or none
        return {key: item for key, item in dump().items() if item is not None}


def message_text(message: ChatMessage) -> str:
    """Return a message's text: its string content, or its text parts joined by newlines (images … are passed over)."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and part.get("type", "text") in _TEXT_PART_TYPES:
            text = part.get("text")
            if isinstance(text, str):
                parts.append(text)
    return "\n".join(parts)


def routing_prompt(messages: Sequence[ChatMessage]) -> str | None:
    """Return the text of the last user message that has any, or None when no user message has text.

    Raises:
        UnsupportedPromptError: ``messages`` is not a list of chat messages.
    """
    for message in reversed(as_messages(messages)):
        if message["role"] == "user":
            text = message_text(message)
            if text.strip():
                return text
    return None


def first_user_text(messages: Sequence[ChatMessage]) -> str:
    """Return the text of the first user message, which together with the system text identifies a conversation."""
    return next((message_text(message) for message in messages if message.get("role") == "user"), "")
