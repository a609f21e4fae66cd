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

__all__ = ["Extract", "first_user_text", "message_text", "routing_prompt", "validate_messages"]

Extract: TypeAlias = Callable[[Sequence[ChatMessage]], str | None]
"""Picks the text to route on out of a conversation, or None when there is none."""

_TEXT_PART_TYPES = frozenset({"text", "input_text"})


def validate_messages(messages: Any) -> Sequence[ChatMessage]:
    """Return ``messages`` when it is a non-empty list of mappings that each have a role.

    Raises:
        UnsupportedPromptError: it is not; the message says which entry and why.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UnsupportedPromptError(
            f"messages must be a list such as [{{'role': 'user', 'content': 'Hello'}}], got {type(messages).__name__}"
        )
    if not messages:
        raise UnsupportedPromptError("messages is empty; give at least one, such as {'role': 'user', 'content': 'Hi'}")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UnsupportedPromptError(
                f"messages[{index}] must be a mapping with 'role' and 'content', got {type(message).__name__}"
            )
        if not isinstance(message.get("role"), str):
            raise UnsupportedPromptError(f"messages[{index}] has no 'role' (system, user, assistant or tool)")
    return messages


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
