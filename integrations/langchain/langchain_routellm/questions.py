"""What a LangChain conversation is routed on: the last real user message, or the question it is marked with.

A retrieval prompt stuffs documents into the user's message. What decides how hard a request is, is the question in
it; :func:`mark_question` writes that beside the message, where models do not see it, and :func:`route_on` does so
for a prompt template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from routellm_core.errors import ConfigError
from routellm_core.prompts import Extract

__all__ = ["ExtractFromMessages", "core_extract", "is_user_message", "mark_question", "route_on", "to_conversation"]

ExtractFromMessages = Callable[[Sequence[BaseMessage]], str | None]
"""Picks the text to route on out of LangChain messages, or None when there is none."""

_MARK = "routing_prompt"
_MESSAGE = "langchain_message"


def mark_question(message: HumanMessage, question: str) -> HumanMessage:
    """Return a copy of ``message`` that is routed on ``question`` instead of on its own text."""
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, _MARK: question}})


def route_on(prompt: BasePromptTemplate[Any], variable: str) -> Runnable[dict[str, Any], PromptValue]:
    """Wrap a prompt template so that its last user message is routed on one of its variables.

    ::

        chain = route_on(prompt, "question") | RouteLLMChat() | StrOutputParser()

    Args:
        prompt: the template, usually a ``ChatPromptTemplate`` with context and question.
        variable: the input variable that holds the question.

    Raises:
        ConfigError: the template has no such variable.
    """
    allowed = [*prompt.input_variables, *prompt.optional_variables]
    if variable not in allowed:
        raise ConfigError(f"the prompt has no variable {variable!r}; its variables are {', '.join(allowed)}")

    def marked(value: PromptValue, inputs: dict[str, Any]) -> PromptValue:
        messages = list(value.to_messages())
        for index in reversed(range(len(messages))):
            message = messages[index]
            if isinstance(message, HumanMessage):
                messages[index] = mark_question(message, str(inputs[variable]))
                break
        return ChatPromptValue(messages=messages)

    def format_and_mark(inputs: dict[str, Any]) -> PromptValue:
        return marked(prompt.invoke(inputs), inputs)

    async def aformat_and_mark(inputs: dict[str, Any]) -> PromptValue:
        return marked(await prompt.ainvoke(inputs), inputs)

    return RunnableLambda(format_and_mark, aformat_and_mark, name="route_on")


def is_user_message(message: BaseMessage) -> bool:
    """Return whether a person wrote the message; LangChain's summaries also come as human messages."""
    if isinstance(message, ChatMessage):
        return message.role in ("user", "human")
    return isinstance(message, HumanMessage) and message.additional_kwargs.get("lc_source") != "summarization"


def to_conversation(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return the messages as the core reads them: role and content, with a marked question as the content."""
    return [
        {
            "role": _role(message),
            "content": message.additional_kwargs.get(_MARK, message.content),
            _MESSAGE: message,
        }
        for message in messages
    ]


def core_extract(extract: ExtractFromMessages) -> Extract:
    """Let the core call an extractor that reads LangChain messages."""
    return lambda conversation: extract([message[_MESSAGE] for message in conversation])


def _role(message: BaseMessage) -> str:
    if is_user_message(message):
        return "user"
    if isinstance(message, ChatMessage):
        return message.role
    if isinstance(message, HumanMessage):
        return "summary"  # a role that the core passes over
    for kind, role in ((AIMessage, "assistant"), (SystemMessage, "system"), (ToolMessage, "tool")):
        if isinstance(message, kind):
            return role
    return message.type
