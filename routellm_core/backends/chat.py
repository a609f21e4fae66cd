"""Chat completions as objects: OpenAI-compatible models are called without an SDK, all others through litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import SecretStr, ValidationError

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.completions import ChatCompletion, ChatCompletionChunk
from routellm_core.providers.endpoints import OpenAIEndpoint, openai_endpoint
from routellm_core.providers.errors import broken_stream, not_understood, unusable
from routellm_core.providers.events import Emptiness, emptiness, says_something, whole_answer
from routellm_core.providers.http import ModelClient, shared_client
from routellm_core.providers.litellm import (
    import_litellm,
    is_wanted_by_the_program,
    litellm_arguments,
    translated_errors,
)

_OPERATION = "chat/completions"
# What a call may say of the way to the model; the rest is its body.
_SETTINGS = {"api_base": "api_base", "base_url": "api_base", "timeout": "timeout", "request_timeout": "timeout"}
_EXTRAS = frozenset({"api_version", "extra_body", "extra_headers", "extra_query", "organization"})
# What only litellm understands.
_LITELLM_ONLY = frozenset(
    {
        "additional_drop_params", "allowed_openai_params", "api_type", "base_model", "cache", "caching", "client",
        "context_window_fallback_dict", "custom_llm_provider", "custom_prompt_dict", "drop_params", "fallbacks",
        "headers", "hf_model_name", "input_cost_per_token", "litellm_call_id", "litellm_logging_obj",
        "litellm_metadata", "logger_fn", "merge_reasoning_content_in_choices", "mock_response", "mock_tool_calls",
        "model_list", "no-log", "output_cost_per_token", "shared_session", "verbose",
    }
)  # fmt: skip
_READ = (
    "content", "tool_calls", "function_call", "refusal", "audio", "images", "reasoning_content", "reasoning",
    "reasoning_details", "thinking_blocks",
)  # fmt: skip


class ModelBackend:
    """The default: directly where a model speaks OpenAI's protocol, through litellm otherwise.

    litellm also makes the calls where the program set callbacks or a cache in it, or where a call has an option that
    only litellm understands.

    Args:
        client: the connections to OpenAI-compatible models; by default those that the process shares.
    """

    def __init__(self, client: ModelClient | None = None) -> None:
        self._client = client
        self._litellm = LiteLLMBackend()

    def complete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        call = _direct(model, parameters)
        if call is None:
            return self._litellm.complete(model, parameters)
        answer = (self._client or shared_client()).send(call.model, call.endpoint, _OPERATION, call.body)
        return _completion(answer, model) if isinstance(answer, bytes) else _chunks(answer, model)

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        call = _direct(model, parameters)
        if call is None:
            return await self._litellm.acomplete(model, parameters)
        answer = await (self._client or shared_client()).asend(call.model, call.endpoint, _OPERATION, call.body)
        return _completion(answer, model) if isinstance(answer, bytes) else _achunks(answer, model)


class LiteLLMBackend:
    """Calls models through litellm. Any parameter that litellm or the provider takes is passed through."""

    def complete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        litellm = import_litellm()
        with translated_errors(model):
            response = litellm.completion(**litellm_arguments(model, parameters))
        return _litellm_chunks(response, model) if parameters.get("stream") else _checked(response, model)

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        litellm = await asyncio.to_thread(import_litellm)  # the first import takes seconds
        with translated_errors(model):
            response = await litellm.acompletion(**litellm_arguments(model, parameters))
        return _litellm_achunks(response, model) if parameters.get("stream") else _checked(response, model)


class ChatReading:
    """What chat completions and their chunks say, whichever library's objects they are."""

    def is_content(self, piece: Any) -> bool:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        return any(map(says_something, _choices(piece)))

    def emptiness(self, answer: Any) -> Emptiness | None:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        pieces = answer if isinstance(answer, list) else [answer]
        if not any(_get(piece, "choices") for piece in pieces):
            return None  # a backend of the user's own, whose answers have another shape
        return emptiness([{"choices": _choices(piece)} for piece in pieces])


class _Call(NamedTuple):
    model: ModelSettings
    endpoint: OpenAIEndpoint
    body: Mapping[str, Any]


def _direct(model: ModelSettings, parameters: Mapping[str, Any]) -> _Call | None:
    """Return how the model is called without litellm; None where litellm is needed."""
    if _LITELLM_ONLY & parameters.keys() or isinstance(parameters.get("response_format"), type):
        return None
    if is_wanted_by_the_program():
        return None
    model, body = _with_call_options(model, parameters)
    endpoint = openai_endpoint(model)
    return None if endpoint is None else _Call(model, endpoint, body)


def _with_call_options(model: ModelSettings, parameters: Mapping[str, Any]) -> tuple[ModelSettings, Mapping[str, Any]]:
    """Move what a call says of the way to the model into its settings."""
    if not (parameters.keys() & (_SETTINGS.keys() | _EXTRAS | {"api_key"})):
        return model, parameters
    given = {name: value for name, value in parameters.items() if value is not None}
    changes: dict[str, Any] = {_SETTINGS[name]: given[name] for name in _SETTINGS if name in given}
    if "api_key" in given:
        changes["api_key"] = SecretStr(given["api_key"])
    changes["extra"] = {**model.extra, **{name: given[name] for name in _EXTRAS if name in given}}
    changed = model.model_copy(update=changes)
    names = _SETTINGS.keys() | _EXTRAS | {"api_key"}
    return changed, {name: value for name, value in parameters.items() if name not in names}


def _completion(content: bytes, model: ModelSettings) -> ChatCompletion:
    body = whole_answer(content, _OPERATION, model.model)
    try:
        return ChatCompletion.model_validate(body)
    except ValidationError:
        raise not_understood(model.model, content) from None


def _chunks(stream: Iterator[Any], model: ModelSettings) -> Iterator[ChatCompletionChunk]:
    try:
        for events in stream:
            for data in events.data:
                yield _chunk(data, model)
    finally:
        stream.close()  # type: ignore[attr-defined]  # a reader that stops early must free the connection


async def _achunks(stream: AsyncIterator[Any], model: ModelSettings) -> AsyncIterator[ChatCompletionChunk]:
    try:
        async for events in stream:
            for data in events.data:
                yield _chunk(data, model)
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _chunk(data: Mapping[str, Any], model: ModelSettings) -> ChatCompletionChunk:
    try:
        return ChatCompletionChunk.model_validate(data)
    except ValidationError:
        raise broken_stream(model.model, "a chunk in it is none of OpenAI's protocol") from None


def _checked(response: Any, model: ModelSettings) -> Any:
    if not getattr(response, "choices", None):
        raise unusable(model.model, "answered without choices")
    return response


def _litellm_chunks(stream: Any, model: ModelSettings) -> Iterator[Any]:
    try:
        with translated_errors(model):
            for number, chunk in enumerate(stream):
                _check_chunk(chunk, stream, model, is_first=number == 0)
                yield chunk
    finally:
        if hasattr(stream, "close"):  # a reader that stops early must free the connection
            stream.close()


async def _litellm_achunks(stream: Any, model: ModelSettings) -> AsyncIterator[Any]:
    is_first = True
    try:
        with translated_errors(model):
            async for chunk in stream:
                _check_chunk(chunk, stream, model, is_first=is_first)
                is_first = False
                yield chunk
    finally:
        await stream.aclose()


def _check_chunk(chunk: Any, stream: Any, model: ModelSettings, *, is_first: bool) -> None:
    """Refuse a finish that litellm made up, where a stream holds nothing readable (an HTML page, say) or broke off.

    A model's own first chunk carries a role or something said.
    """
    choice = chunk.choices[0] if chunk.choices else None
    if choice is None or choice.finish_reason is None:
        return
    if is_first and not (choice.delta.role or any(map(says_something, _choices(chunk)))):
        raise unusable(model.model, "sent a stream without chat completion chunks")
    finishes = ("received_finish_reason", "intermittent_finish_reason", "received_any_finish_reason", "is_mock")
    if hasattr(stream, finishes[0]) and not any(getattr(stream, name, None) for name in finishes):
        raise broken_stream(model.model)


def _choices(answer: Any) -> list[dict[str, Any]]:
    """Return the choices of an answer or a chunk as far as emptiness is read from them."""
    found = []
    for choice in _get(answer, "choices") or ():
        said = _get(choice, "delta") or _get(choice, "message")
        message = {name: value for name in _READ if (value := _get(said, name))}
        found.append({"delta": message, "finish_reason": _get(choice, "finish_reason")})
    return found


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
