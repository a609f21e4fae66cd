"""Providers that do not speak OpenAI's protocol: called through litellm, answered in OpenAI's bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic_core import to_json

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.errors import BackendError
from routellm_core.providers.endpoints import secrets_of
from routellm_core.providers.errors import backend_error
from routellm_core.providers.events import Events
from routellm_core.providers.litellm import import_litellm, litellm_arguments
from routellm_core.providers.redaction import safe_cause

# What a client may say about a call in litellm's arguments, by operation: what OpenAI's SDK declares, and a few more.
# Others would be litellm's own: api_base, say, would send the provider's key to a server of the client's choice.
_DECLARED = {
    "chat/completions": ("chat.completion_create_params:CompletionCreateParamsBase", "stream thinking top_k"),
    "completions": ("completion_create_params:CompletionCreateParamsBase", "stream"),
    "responses": ("responses.response_create_params:ResponseCreateParamsBase", "stream"),
    "embeddings": ("embedding_create_params:EmbeddingCreateParams", ""),
}
_OPENAI_PROTOCOL = """
    azure custom_openai deepinfra fireworks_ai hosted_vllm litellm_proxy lm_studio openai openrouter together_ai vllm
"""
_TAKE_ANY_FIELD = frozenset(_OPENAI_PROTOCOL.split())
# litellm's own arguments. None of them would reach it; they are refused, since a client that sends one means it.
_OWN_ARGUMENTS = """
    additional_drop_params allowed_openai_params api_base api_key api_version base_model base_url cache caching client
    context_window_fallback_dict custom_llm_provider default_headers drop_params extra_body extra_headers extra_query
    fallbacks headers input_cost_per_token max_retries mock_response model_list num_retries organization
    output_cost_per_token request_timeout retry_strategy ssl_verify success_callback failure_callback timeout
"""
_LITELLM_S_OWN = frozenset(_OWN_ARGUMENTS.split())
_PREFIXES_OF_ITS_OWN = ("aws_", "azure_", "gcp_", "litellm_", "mock_", "oci_", "s3_", "vertex_", "watsonx_")
_REFUSED_BY_THE_SDK = re.compile(r"unexpected keyword argument '(\w+)'")
_NEEDED = {"completions": "prompt", "responses": "input"}  # optional for OpenAI, positional for litellm
_FUNCTIONS = {"completions": "atext_completion", "responses": "aresponses", "embeddings": "aembedding"}


async def send_through_litellm(
    model: ModelSettings, operation: str, parameters: Mapping[str, Any]
) -> bytes | AsyncIterator[Events]:
    """Call ``model`` once.

    Args:
        model: the model and how it is reached.
        operation: the path of OpenAI's operation.
        parameters: the request's body.

    Returns:
        the answer as JSON, or, where the parameters say ``stream``, its events.

    Raises:
        BackendError: the call failed, also from the iterator; or the parameters hold one of litellm's own.
    """
    litellm = await asyncio.to_thread(import_litellm)  # the first import takes seconds, as that of OpenAI's SDK in it
    parameters = _passed(model, operation, parameters)
    needed = _NEEDED.get(operation)
    if needed is not None and parameters.get(needed) in (None, []):
        raise _bad_request(f"you must provide {needed!r}", model.model, needed, "missing_required_parameter")
    try:
        if operation == "chat/completions":
            answer = await LiteLLMBackend().acomplete(model, parameters)
        else:
            answer = await getattr(litellm, _FUNCTIONS[operation])(**litellm_arguments(model, parameters))
    except Exception as error:
        raise _translated(error, model) from safe_cause(error, secrets_of(model))
    if not parameters.get("stream"):
        return to_json(_record(answer, operation))
    return _events(answer, model, operation)


@cache
def _allowed(operation: str) -> frozenset[str]:
    where, further = _DECLARED[operation]
    module, _, name = where.partition(":")
    declared = getattr(import_module(f"openai.types.{module}"), name)
    return frozenset({*declared.__annotations__, *further.split()})


def dropped_fields(model: ModelSettings, operation: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the fields of a request that a model behind litellm would not understand, and does not get.

    Servers of OpenAI's protocol get them beside OpenAI's own, as they would where they are relayed to.
    """
    if model.model.partition("/")[0] in _TAKE_ANY_FIELD:
        return []
    return [name for name in parameters if name not in _allowed(operation)]


def _passed(model: ModelSettings, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return litellm's parameters of a call: those of OpenAI, and what else the model may understand as extra body."""
    others = {name: value for name, value in parameters.items() if name not in _allowed(operation)}
    for name in others:
        if name in _LITELLM_S_OWN or name.startswith(_PREFIXES_OF_ITS_OWN):
            raise _bad_request(
                f"unknown parameter {name!r}: how model {model.model!r} is called is no matter of a request. Set it in "
                "the model's settings where every call should have it",
                model.model,
                name,
                "unknown_parameter",
            )
    if not others:
        return parameters
    known = {name: value for name, value in parameters.items() if name not in others}
    if dropped_fields(model, operation, others):
        return known
    return {**known, "extra_body": {**(model.extra.get("extra_body") or {}), **others}}


async def _events(chunks: AsyncIterator[Any], model: ModelSettings, operation: str) -> AsyncIterator[Events]:
    names_events = operation == "responses"
    try:
        async for chunk in chunks:
            record = _record(chunk, operation)
            name = b"event: " + str(record.get("type", "message")).encode() + b"\n" if names_events else b""
            yield Events(name + b"data: " + to_json(record) + b"\n\n", [record])
    except Exception as error:
        raise _translated(error, model) from safe_cause(error, secrets_of(model))
    finally:
        if hasattr(chunks, "aclose"):  # a client that leaves early must free the connection
            await chunks.aclose()
    if not names_events:
        yield Events(b"data: [DONE]\n\n", [])


def _translated(error: Exception, model: ModelSettings) -> BackendError:
    translated = backend_error(error, model=model.model, secrets=secrets_of(model))
    if isinstance(error, (AttributeError, KeyError, TypeError)):  # litellm looks into parameters as if they were right
        message = f"the parameters do not make a request to model {model.model!r}: {translated.args[0]}"
        return _bad_request(message, model.model, None, "invalid_value")
    if found := _REFUSED_BY_THE_SDK.search(str(translated)):
        return _bad_request(str(translated), model.model, found[1], "unknown_parameter")
    return translated


def _bad_request(message: str, label: str, param: str | None, code: str) -> BackendError:
    return BackendError(
        message,
        model=label,
        status_code=400,
        retryable=False,
        code=code,
        error_type="invalid_request_error",
        param=param,
    )


def _record(value: Any, operation: str) -> dict[str, Any]:
    """Return an answer or a chunk as OpenAI would send it.

    litellm's objects hold a null for every field that the provider did not send, where OpenAI's own hold none; and its
    streams give the usage beside an empty choice.
    """
    is_response = operation == "responses"
    record: dict[str, Any] = value.model_dump(mode="json", warnings=False, exclude_none=not is_response)
    choices = record.get("choices")
    if isinstance(choices, list) and not is_response:
        always = {"finish_reason": None, "logprobs": None, **({"text": ""} if operation == "completions" else {})}
        is_usage = record.get("usage") and not any(_says_something(choice) for choice in choices)
        record["choices"] = [] if is_usage else [{**always, **choice} for choice in choices]
        for choice in record["choices"] if operation == "chat/completions" else ():
            if choice["logprobs"] is not None:
                choice["logprobs"] = {"content": None, "refusal": None, **choice["logprobs"]}
    return record


def _says_something(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or choice.get("text") or any((choice.get("delta") or {}).values()))
