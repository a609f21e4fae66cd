"""What a call is routed on: the question that LlamaIndex names, else the last message that a person wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import QueryBundle
from llama_index.llms.routellm.rendered import is_agent_text, question_in

__all__ = ["ExtractFromMessages", "conversation", "named_question", "user_text"]

ExtractFromMessages = Callable[[Sequence[ChatMessage]], str | None]
"""Picks the text to route on out of LlamaIndex messages, or None when there is none."""

_VARIABLES = ("query_str", "question", "query")


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


def user_text(messages: Sequence[ChatMessage]) -> str | None:
    """Return the text of the last message that a person wrote, without the template around it; None without any.

    Tool output and complaints about the output's form, which ReAct agents put into the user's role, are passed over: a
    tool loop is routed on what it was started with, and so keeps one model.
    """
    for index in reversed(range(len(messages))):
        text = messages[index].content
        if _is_persons(messages, index) and text and text.strip():
            return question_in(text)
    return None


def conversation(messages: Sequence[ChatMessage], text: str | None) -> list[dict[str, Any]]:
    """Return the messages as the core reads them, with ``text`` in place of the last user message.

    Without a text nothing is left in the user's role, so that the core takes its default tier.
    """
    result: list[dict[str, Any]] = []
    last_user = None
    for index, message in enumerate(messages):
        is_persons = _is_persons(messages, index)
        if is_persons and message.content:
            last_user = len(result)
        role = "user" if is_persons and text is not None else _other_role(message)
        result.append({"role": role, "content": message.content or ""})
    if text is not None:
        asked = {"role": "user", "content": text}
        if last_user is None:
            result.append(asked)
        else:
            result[last_user] = asked
    return result


def _is_persons(messages: Sequence[ChatMessage], index: int) -> bool:
    message = messages[index]
    if message.role != MessageRole.USER:
        return False
    if index == 0 or not is_agent_text(message.content or ""):
        return True
    # Such a text comes after the model's own, or after another one of its kind.
    previous = messages[index - 1].role
    return previous != MessageRole.ASSISTANT and (previous != MessageRole.USER or _is_persons(messages, index - 1))


def _other_role(message: ChatMessage) -> str:
    # A role that the core passes over.
    return "other" if message.role == MessageRole.USER else str(message.role.value)
