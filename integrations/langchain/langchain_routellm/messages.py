"""What LangChain's messages say: what a conversation is routed on, what it needs, and what an answer holds.

A retrieval prompt stuffs documents into the user's message. What decides how hard a request is, is the question in
it; :func:`mark_question` writes that beside the message, where models do not see it, and :func:`route_on` does so
for a prompt template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic_core import to_json

from routellm_core.adapters import RECORD_KEY, AdapterRequest
from routellm_core.errors import ConfigError
from routellm_core.prompts import Extract, user_text
from routellm_core.providers.events import Emptiness
from routellm_core.turns import Turn

__all__ = [
    "ExtractFromMessages",
    "MessageReading",
    "conversation_of",
    "core_extract",
    "mark_question",
    "request_of",
    "route_on",
    "without_foreign_state",
]

ExtractFromMessages = Callable[[Sequence[BaseMessage]], str | None]
"""Picks the text to route on out of LangChain messages, or None when there is none."""

_MARK = "routing_prompt"
_MESSAGE = "langchain_message"
_SESSION_KEYS = ("thread_id", "session_id", "conversation_id")
_THINKING = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
_SIGNATURES = frozenset({"signature", "thought_signature", "encrypted_content"})
# What every model can read of what another one said.
_COMMON_EXTRAS = frozenset({"refusal", "function_call", "tool_calls"})


# --- the question -----------------------------------------------------------------------------------------------------


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


# --- the conversation -------------------------------------------------------------------------------------------------


def request_of(
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    parameters: Mapping[str, Any],
    *,
    model: str | None = None,
    threshold: Any = None,
) -> AdapterRequest:
    """Read a call.

    Args:
        messages: the conversation.
        config: of the run; its session is where LangGraph and ``RunnableWithMessageHistory`` keep it.
        parameters: the call's further arguments: tools, response format …
        model: the caller's wish.
        threshold: of this call.

    Raises:
        UnsupportedPromptError: there are no messages.
    """
    configurable = config.get("configurable") or {}
    session = next((str(configurable[key]) for key in _SESSION_KEYS if configurable.get(key)), None)
    conversation = conversation_of(messages)
    sent = [{**entry, "content": message.content} for entry, message in zip(conversation, messages, strict=True)]
    given = {**parameters, "messages": sent}
    return AdapterRequest(
        turn=Turn.of(conversation, given, session=session),
        model=model,
        threshold=threshold,
        records=tuple(_records(messages, conversation)),
    )


def conversation_of(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return the messages as the core reads them: role, content (a marked question where there is one), calls, ids."""
    written = []
    for message in messages:
        marked = message.additional_kwargs.get(_MARK)
        entry = {
            "role": _role(message),
            "content": message.content if marked is None else marked,
            _MESSAGE: message,
        }
        if isinstance(message, AIMessage):
            entry["tool_calls"] = [{"id": call["id"]} for call in (*message.tool_calls, *message.invalid_tool_calls)]
            entry["extras"] = message.additional_kwargs
        if isinstance(message, ToolMessage):
            entry["tool_call_id"] = message.tool_call_id
        written.append(entry)
    return written


def core_extract(extract: ExtractFromMessages) -> Extract:
    """Let the core call an extractor that reads LangChain messages."""
    return lambda conversation: extract([message[_MESSAGE] for message in conversation])


def _records(messages: Sequence[BaseMessage], conversation: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    for message, entry in zip(reversed(messages), reversed(conversation), strict=True):
        if entry["role"] == "user" and user_text(entry):
            return
        if isinstance(message, AIMessage):
            yield message.response_metadata.get(RECORD_KEY)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return "user" if message.role == "human" else message.role
    if isinstance(message, HumanMessage):
        # LangChain's summaries are human messages too; the core passes over a role that it does not know.
        return "summary" if message.additional_kwargs.get("lc_source") == "summarization" else "user"
    for kind, role in ((AIMessage, "assistant"), (SystemMessage, "system"), (ToolMessage, "tool")):
        if isinstance(message, kind):
            return role
    return message.type


def without_foreign_state(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return messages without what only the model can read that wrote them: thinking, signatures."""
    return [_plain_answer(message) if isinstance(message, AIMessage) else message for message in messages]


def _plain_answer(message: AIMessage) -> AIMessage:
    content: Any = message.content
    if isinstance(content, list):
        blocks = (block for block in content if not (isinstance(block, dict) and block.get("type") in _THINKING))
        content = [_unsigned(block) for block in blocks]
    extras = {key: value for key, value in message.additional_kwargs.items() if key in _COMMON_EXTRAS}
    return message.model_copy(update={"content": content, "additional_kwargs": extras})


def _unsigned(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    kept = {key: value for key, value in block.items() if key not in _SIGNATURES}
    if isinstance(kept.get("extras"), dict):
        kept["extras"] = {key: value for key, value in kept["extras"].items() if key not in _SIGNATURES}
    return kept


# --- answers ----------------------------------------------------------------------------------------------------------


class MessageReading:
    """What LangChain's answers and chunks say; see :class:`routellm_core.adapters.AnswerReading`.

    An answer is a message, what ``include_raw`` gives, an ``LLMResult``, an agent's ``ModelResponse``, or a typed
    stream. Of anything else, a parsed object, nothing is known.
    """

    def is_content(self, piece: Any) -> bool:
        """Return whether a piece of a stream says something."""
        if not isinstance(piece, AIMessageChunk):
            return True
        return bool(piece.content or piece.tool_call_chunks or piece.additional_kwargs)

    def emptiness(self, answer: Any) -> Emptiness | None:
        """Return why an answer, or a whole stream, holds nothing."""
        messages = _messages(answer)
        if not messages or any(map(_says_something, messages)):
            return None
        finishes = {message.response_metadata.get("finish_reason") for message in messages}
        return "filtered" if "content_filter" in finishes else "empty"

    def marks(self, piece: Any) -> bytes:
        """Return the ids and signatures of a piece as JSON."""
        found: list[Any] = []
        for message in _messages(piece):
            calls = [{"id": call["id"]} for call in message.tool_calls if call.get("id")]
            extras = {key: value for key, value in message.additional_kwargs.items() if key != RECORD_KEY}
            content = message.content if isinstance(message.content, list) else []
            found += [item for item in (calls, extras, content) if item]
            if isinstance(response_id := message.response_metadata.get("id"), str):
                found.append({"id": response_id})
        return to_json(found, fallback=str) if found else b""


def _messages(answer: Any) -> list[AIMessage]:
    if isinstance(answer, (ChatModelStream, AsyncChatModelStream)):
        answer = answer.output_message
    if isinstance(answer, dict):
        answer = answer.get("raw")
    if isinstance(answer, LLMResult):
        answer = [getattr(generation, "message", None) for generation in answer.generations[0]]
    found = answer if isinstance(answer, list) else getattr(answer, "result", [answer])
    return [message for message in found if isinstance(message, AIMessage)] if isinstance(found, list) else []


def _says_something(message: AIMessage) -> bool:
    if message.tool_calls or message.invalid_tool_calls or getattr(message, "tool_call_chunks", None):
        return True
    if any(message.additional_kwargs.get(name) for name in ("refusal", "audio", "function_call", "tool_calls")):
        return True
    if isinstance(message.content, str):
        return bool(message.content.strip())
    return any(_holds(block) for block in message.content)


def _holds(block: Any) -> bool:
    if not isinstance(block, dict):
        return bool(block.strip())
    if block.get("type") in _THINKING:
        return False
    return bool((block.get("text") or "").strip()) if block.get("type") == "text" else True
