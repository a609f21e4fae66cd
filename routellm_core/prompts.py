"""Which text of a conversation is routed on: what the user typed in the last real user message.

Never system, assistant or tool text: an agent's loop ends with tool output, and routing on that would change the
model in the middle of a task. Because tool calls and their results are passed over, a whole tool loop is routed on
the question that started it and so keeps one model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from routellm_core.errors import UnsupportedPromptError
from routellm_core.typed_text import WRAPPERS, is_confirmation, typed_text
from routellm_core.types import ChatMessage

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
    return "\n".join(_text_parts(message))


def _text_parts(message: ChatMessage) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, Sequence):
        return []
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type", "text") in _TEXT_PART_TYPES:
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
    return texts


def user_text(message: ChatMessage, wrappers: Collection[str] = WRAPPERS) -> str:
    """Return what the user typed of a user message, without what an agent put around it; may be empty."""
    return typed_text(_text_parts(message), wrappers)


def routing_prompt(messages: Sequence[ChatMessage], *, wrappers: Collection[str] = WRAPPERS) -> str | None:
    """Return what the user last asked for, or None when no user message has text.

    That is what they typed of the last user message (see :mod:`routellm_core.typed_text`). A turn in which nothing is
    left, a reminder alone or the result of a tool, is passed over, and so is one that only confirms what is going on
    ("yes", "go on"): it is judged by what it confirms. Where there is nothing else, such a turn counts as it is.

    Args:
        messages: the conversation.
        wrappers: the names of blocks that are not the user's words.

    Raises:
        UnsupportedPromptError: ``messages`` is not a list of chat messages.
    """
    plain = as_messages(messages)
    turn = last_turn(plain, wrappers)
    if turn is not None:
        return user_text(plain[turn], wrappers)
    texts = (message_text(message).strip() for message in reversed(plain) if message["role"] == "user")
    return next(filter(None, texts), None)


def last_turn(messages: Sequence[ChatMessage], wrappers: Collection[str] = WRAPPERS) -> int | None:
    """Return the index of the last message in which the user asks for something; None where there is none."""
    confirmation = None
    for index in reversed(range(len(messages))):
        if messages[index].get("role") != "user" or _is_observation(messages, index):
            continue
        words = user_text(messages[index], wrappers)
        if not words:
            continue
        if not is_confirmation(words):
            return index
        confirmation = index if confirmation is None else confirmation
    return confirmation


def _is_observation(messages: Sequence[ChatMessage], index: int) -> bool:
    """Return whether a user message is the result of a tool that the model asked for in words (ReAct)."""
    if index == 0 or not message_text(messages[index]).startswith("Observation:"):
        return False
    before = messages[index - 1]
    return before.get("role") == "assistant" and "Action:" in message_text(before)


def first_user_text(messages: Sequence[ChatMessage]) -> str:
    """Return the text of the first user message as it is, an empty one where there is none."""
    return next((message_text(message) for message in messages if message.get("role") == "user"), "")


def opening(messages: Sequence[ChatMessage]) -> str:
    """Return what the user typed first; with the system text it tells conversations apart."""
    typed = (user_text(message) for message in messages if message.get("role") == "user")
    return next(filter(None, typed), "")
