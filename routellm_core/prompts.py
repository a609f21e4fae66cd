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

__all__ = ["Extract", "first_user_text", "message_text", "plain_messages", "routing_prompt", "validate_messages"]

Extract: TypeAlias = Callable[[Sequence[ChatMessage]], str | None]
"""Picks the text to route on out of a conversation, or None when there is none."""

_TEXT_PART_TYPES = frozenset({"text", "input_text"})


def plain_messages(messages: Any) -> Any:
    """Return messages in which every object of an SDK is the mapping that it stands for, parts of a content included.

    ``response.choices[0].message`` of litellm and of the openai package can so be sent back as it is. What is plain
    already is returned as it came.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        return messages
    plain = [_plain(message) for message in messages]
    return messages if all(new is old for new, old in zip(plain, messages, strict=True)) else plain


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump") and not isinstance(value, type):
        dumped = value.model_dump(mode="json", exclude_none=True, warnings=False)
        # A tool call has no content, which some servers want to be told.
        return {"content": None, **dumped} if isinstance(dumped, dict) and "role" in dumped else dumped
    if isinstance(value, Mapping):
        plain = {key: _plain(item) for key, item in value.items()}
        return value if all(plain[key] is item for key, item in value.items()) else plain
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def validate_messages(messages: Any) -> Sequence[ChatMessage]:
    """Return ``messages``, made plain, when it is a non-empty list of mappings that each have a role.

    Raises:
        UnsupportedPromptError: it is not; the message says which entry and why.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UnsupportedPromptError(
            f"messages must be a list such as [{{'role': 'user', 'content': 'Hello'}}], got {type(messages).__name__}"
        )
    messages = plain_messages(messages)
    if not messages:
        raise UnsupportedPromptError("messages is empty; give at least one, such as {'role': 'user', 'content': 'Hi'}")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UnsupportedPromptError(
                f"messages[{index}] must be a mapping with 'role' and 'content', got {type(message).__name__}"
            )
        if not isinstance(message.get("role"), str):
            raise UnsupportedPromptError(f"messages[{index}] has no 'role' (system, user, assistant or tool)")
    plain: Sequence[ChatMessage] = messages
    return plain


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
    for message in reversed(validate_messages(messages)):
        if message["role"] == "user":
            text = message_text(message)
            if text.strip():
                return text
    return None


def first_user_text(messages: Sequence[ChatMessage]) -> str:
    """Return the text of the first user message, which together with the system text identifies a conversation."""
    return next((message_text(message) for message in messages if message.get("role") == "user"), "")
