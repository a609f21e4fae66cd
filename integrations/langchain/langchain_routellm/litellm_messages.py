"""Between LangChain's messages and chat completions in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

__all__ = ["ChunkReader", "combined", "plain", "short_name", "to_generation", "to_openai", "usage_metadata"]

PROVIDER = "litellm"

# Blocks of an assistant's message that say again what its tool_calls say, or that only the model that wrote them
# can read.
_NOT_CONTENT = frozenset(
    {"tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "function_call", "reasoning", "thinking"}
    | {"redacted_thinking", "reasoning_content", "non_standard", "server_tool_call", "server_tool_result"}
)
_EXTRAS = ("reasoning_content", "thinking_blocks", "refusal", "audio", "function_call")


def to_openai(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Write messages in OpenAI's chat format.

    Raises:
        ValueError: a content block in a form that LangChain does not know.
    """
    written: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AIMessage):
            written.append(_assistant(message))
        else:
            written.extend(convert_to_openai_messages([message]))  # a message with tool results becomes several
    return written


def _assistant(message: AIMessage) -> dict[str, Any]:
    kept = message
    if isinstance(message.content, list):
        blocks = [block for block in message.content if isinstance(block, str) or block.get("type") not in _NOT_CONTENT]
        kept = message.model_copy(update={"content": blocks})
    written: dict[str, Any] = convert_to_openai_messages([kept])[0]
    # Calls that could not be parsed stay, since the tool messages that say so refer to them.
    for call in message.invalid_tool_calls:
        function = {"name": call["name"] or "", "arguments": call["args"] or ""}
        written.setdefault("tool_calls", []).append({"type": "function", "id": call["id"] or "", "function": function})
    written["content"] = written.get("content") or ("" if "tool_calls" not in written else None)
    # Anthropic wants its signed reasoning back between tool calls; no other model could read it.
    if thinking := message.additional_kwargs.get("thinking_blocks"):
        written["thinking_blocks"] = thinking
    return written


def to_generation(choice: Any, usage: Any, model: str) -> ChatGeneration:
    """Read one choice of a chat completion."""
    answer = choice.message
    tool_calls, invalid_tool_calls = [], []
    for call in getattr(answer, "tool_calls", None) or []:
        raw = {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments or "{}"},
        }
        try:
            tool_calls.append(parse_tool_call(raw, return_id=True))
        except Exception as error:
            invalid_tool_calls.append(make_invalid_tool_call(raw, str(error)))
    message = AIMessage(
        content=answer.content or "",
        additional_kwargs=_extras(answer),
        tool_calls=[call for call in tool_calls if call],
        invalid_tool_calls=invalid_tool_calls,
        usage_metadata=usage_metadata(usage),
        response_metadata={"model_name": short_name(model), "model_provider": PROVIDER},
    )
    details: dict[str, Any] = {"finish_reason": choice.finish_reason}
    if logprobs := getattr(choice, "logprobs", None):
        details["logprobs"] = plain(logprobs)
    return ChatGeneration(message=message, generation_info=details)


class ChunkReader:
    """Reads the chunks of one streamed chat completion.

    What merging would repeat (the model's name, the finish reason, the usage) is given once.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._has_finished = False
        self._has_usage = False

    def read(self, chunk: Any) -> ChatGenerationChunk:
        """Return LangChain's form of a chunk."""
        choice = chunk.choices[0] if chunk.choices else None
        delta = choice.delta if choice is not None else None
        message = AIMessageChunk(
            content=(getattr(delta, "content", None) or ""),
            additional_kwargs=_extras(delta) if delta is not None else {},
            tool_call_chunks=[_fragment(call) for call in getattr(delta, "tool_calls", None) or []],
            response_metadata={"model_provider": PROVIDER},
        )
        if not self._has_usage and (usage := usage_metadata(getattr(chunk, "usage", None))):
            self._has_usage = True
            message.usage_metadata = usage
        details: dict[str, Any] = {}
        reason = choice.finish_reason if choice is not None else None
        if reason and not self._has_finished:
            self._has_finished = True
            details = {"finish_reason": reason, "model_name": short_name(self._model)}
        if logprobs := getattr(choice, "logprobs", None):
            details["logprobs"] = plain(logprobs)
        return ChatGenerationChunk(message=message, generation_info=details or None)


def usage_metadata(usage: Any) -> UsageMetadata | None:
    """Read token counts, with what was cached, reasoned or spoken where the provider says so."""
    if usage is None:
        return None
    given = usage if isinstance(usage, dict) else plain(usage)
    prompt, completion = given.get("prompt_tokens") or 0, given.get("completion_tokens") or 0
    asked = given.get("prompt_tokens_details") or {}
    answered = given.get("completion_tokens_details") or {}
    inputs = {
        "audio": asked.get("audio_tokens"),
        "cache_read": asked.get("cached_tokens"),
        "cache_creation": asked.get("cache_creation_tokens"),
    }
    outputs = {"audio": answered.get("audio_tokens"), "reasoning": answered.get("reasoning_tokens")}
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=given.get("total_tokens") or prompt + completion,
        input_token_details=InputTokenDetails(**{key: value for key, value in inputs.items() if value is not None}),  # type: ignore[typeddict-item]
        output_token_details=OutputTokenDetails(**{key: value for key, value in outputs.items() if value is not None}),  # type: ignore[typeddict-item]
    )


def _fragment(call: Any) -> Any:
    function = call.function
    return tool_call_chunk(
        name=getattr(function, "name", None) or None,
        args=getattr(function, "arguments", None) or "",
        id=getattr(call, "id", None) or None,
        index=getattr(call, "index", 0),
    )


def _extras(answer: Any) -> dict[str, Any]:
    found = {name: getattr(answer, name, None) for name in _EXTRAS}
    return {name: plain(value) for name, value in found.items() if value}


def short_name(model: str) -> str:
    """Return the provider's own name of a model, which LangChain's price tables know it under."""
    return model.partition("/")[2] or model


def plain(value: Any) -> Any:
    """Return JSON-ready values of a response object: pydantic's, or a plain one as in the fakes."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return json.loads(json.dumps(value, default=vars))


def combined(outputs: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Put ``llm_output`` of several calls together; counts of tokens add up, and several models are a list."""
    each = [output or {} for output in outputs]
    together: dict[str, Any] = {key: value for output in each for key, value in output.items()}
    usages = [output["token_usage"] for output in each if isinstance(output.get("token_usage"), dict)]
    if usages:
        together["token_usage"] = _summed(usages)
    names = list(dict.fromkeys(output["model_name"] for output in each if isinstance(output.get("model_name"), str)))
    if len(names) > 1:
        together["model_name"] = names
    return together


def _summed(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for usage in usages:
        for key, value in usage.items():
            if isinstance(value, dict):
                total[key] = _summed([total.get(key) or {}, value])
            elif isinstance(value, (int, float)):
                total[key] = (total.get(key) or 0) + value
            else:
                total.setdefault(key, value)
    return total
