"""Between LlamaIndex's messages and litellm's."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.llms.litellm.utils import to_openai_message_dicts, update_tool_calls

__all__ = ["ChunkReader", "to_openai", "token_counts"]


def to_openai(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return the messages in OpenAI's form, also those that another class of LLM answered earlier in a conversation.

    Such a class may keep its tool calls and thoughts as blocks, where ``LiteLLM`` has them in ``additional_kwargs``.
    """
    return to_openai_message_dicts([_without_foreign_blocks(message) for message in messages])


def token_counts(answer: Any) -> dict[str, int]:
    """Return the counts that an answer or a chunk reports, or nothing."""
    usage = getattr(answer, "usage", None)
    if usage is None:
        return {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: getattr(usage, name, None) or 0 for name in names}


class ChunkReader:
    """Puts the chunks of one stream together."""

    def __init__(self) -> None:
        self._content = ""
        self._tool_calls: list[dict[str, Any]] = []

    def read(self, chunk: Any) -> ChatResponse:
        """Return the answer so far; a chunk that only counts tokens adds no text."""
        delta = chunk.choices[0].delta if chunk.choices else None
        text = (delta.content or "") if delta else ""
        self._content += text
        if delta and delta.tool_calls:
            # A copy, or the answers that were given out already would grow too.
            self._tool_calls = update_tool_calls(copy.deepcopy(self._tool_calls), delta.tool_calls)
        message = ChatMessage(
            role=MessageRole.ASSISTANT,
            content=self._content,
            additional_kwargs={"tool_calls": self._tool_calls} if self._tool_calls else {},
        )
        return ChatResponse(message=message, delta=text, raw=chunk, additional_kwargs=token_counts(chunk))


def _without_foreign_blocks(message: ChatMessage) -> ChatMessage:
    foreign = [block for block in message.blocks if block.block_type in ("tool_call", "thinking")]
    if not foreign:
        return message
    kwargs = dict(message.additional_kwargs)
    calls: list[Any] = [_tool_call(block) for block in foreign if block.block_type == "tool_call"]
    if calls:
        kwargs.setdefault("tool_calls", calls)
    kept = [block for block in message.blocks if block not in foreign]
    return ChatMessage(role=message.role, blocks=kept, additional_kwargs=kwargs)


def _tool_call(block: Any) -> dict[str, Any]:
    arguments = block.tool_kwargs if isinstance(block.tool_kwargs, str) else json.dumps(block.tool_kwargs)
    return {
        "id": block.tool_call_id,
        "type": "function",
        "function": {"name": block.tool_name, "arguments": arguments},
    }
