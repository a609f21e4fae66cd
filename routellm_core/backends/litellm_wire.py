"""Providers that do not speak OpenAI's protocol: called through litellm, answered in OpenAI's bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic_core import to_json

from routellm_core._litellm import backend_error, import_litellm
from routellm_core.backends.base import ModelSettings
from routellm_core.backends.litellm import LiteLLMBackend, litellm_arguments
from routellm_core.errors import BackendError

__all__ = ["send_through_litellm"]

# What a client may say about a call. Anything else would be an argument of litellm's own: api_base, say, would send
# the provider's key to a server of the client's choice.
_OPENAI_PARAMETERS = """
    audio background dimensions echo encoding_format frequency_penalty function_call functions include input
    instructions logit_bias logprobs max_completion_tokens max_output_tokens max_tool_calls max_tokens messages metadata
    modalities model moderation n parallel_tool_calls prediction presence_penalty previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning reasoning_effort response_format
    safety_identifier seed service_tier stop store stream stream_options suffix temperature text thinking tool_choice
    tools top_k top_logprobs top_p truncation user verbosity web_search_options
"""
_ALLOWED = frozenset(_OPENAI_PARAMETERS.split())
_FUNCTIONS = {"completions": "atext_completion", "responses": "aresponses", "embeddings": "aembedding"}


async def send_through_litellm(
    model: ModelSettings, operation: str, parameters: Mapping[str, Any]
) -> bytes | AsyncIterator[bytes]:
    """Call ``model`` once.

    Args:
        model: the model and how it is reached.
        operation: the path of OpenAI's operation.
        parameters: the request's body.

    Returns:
        the answer as JSON, or, where the parameters say ``stream``, its events.

    Raises:
        BackendError: the call failed, also from the iterator; or the parameters hold one that OpenAI does not have.
    """
    for name in parameters:
        if name not in _ALLOWED:
            raise _unknown_parameter(name, model.model)
    if operation == "chat/completions":
        answer = await LiteLLMBackend().acomplete(model, parameters)
    else:
        litellm = await asyncio.to_thread(import_litellm)  # the first import takes seconds
        try:
            answer = await getattr(litellm, _FUNCTIONS[operation])(**litellm_arguments(model, parameters))
        except Exception as error:
            raise backend_error(error, model=model.model) from error
    if not parameters.get("stream"):
        return to_json(_record(answer))
    return _events(answer, model.model, names_events=operation == "responses")


async def _events(chunks: AsyncIterator[Any], label: str, *, names_events: bool) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            record = _record(chunk)
            name = b"event: " + str(record.get("type", "message")).encode() + b"\n" if names_events else b""
            yield name + b"data: " + to_json(record) + b"\n\n"
    except Exception as error:
        raise backend_error(error, model=label) from error
    finally:
        if hasattr(chunks, "aclose"):  # a client that leaves early must free the connection
            await chunks.aclose()
    if not names_events:
        yield b"data: [DONE]\n\n"


def _unknown_parameter(name: str, label: str) -> BackendError:
    return BackendError(
        f"unknown parameter {name!r}: model {label!r} is reached through litellm, which takes OpenAI's parameters "
        "only. Set it in the model's `extra` where every call should have it",
        model=label,
        status_code=400,
        retryable=False,
        code="unknown_parameter",
        type="invalid_request_error",
        param=name,
    )


def _record(value: Any) -> dict[str, Any]:
    record: dict[str, Any] = value.model_dump(mode="json", warnings=False)
    return record
