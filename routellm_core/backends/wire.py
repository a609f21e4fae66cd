"""``WireBackend``: calls a model and answers in bytes, as a server relays them.

OpenAI-compatible models are relayed to directly; every other provider goes through litellm, whose objects are written
out in the same form.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

from pydantic_core import to_json

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.errors import BackendError
from routellm_core.providers.endpoints import OpenAIEndpoint, openai_endpoint, secrets_of
from routellm_core.providers.errors import backend_error, refusal
from routellm_core.providers.events import Emptiness, EventReader, Events, emptiness, whole_answer
from routellm_core.providers.http import ModelClient
from routellm_core.providers.litellm import import_litellm, litellm_arguments
from routellm_core.providers.redaction import safe_cause

__all__ = ["Operation", "WireAnswer", "WireBackend", "WireReading"]

Operation: TypeAlias = Literal["chat/completions", "completions", "responses", "embeddings"]

_REMEMBERED_MODELS = 16


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """A whole answer.

    Attributes:
        content: its JSON, as the client gets it.
        usage: the tokens that the model counted, as it names them; empty where it did not.
        emptiness: why it holds nothing; None where it holds something.
    """

    content: bytes
    usage: Mapping[str, Any]
    emptiness: Emptiness | None = None


class WireBackend:
    """Calls models for one operation of OpenAI's API.

    Args:
        operation: the operation's path.
        client: the connections to OpenAI-compatible models.
    """

    def __init__(self, operation: Operation, client: ModelClient) -> None:
        self._operation = operation
        self._client = client
        # Where the last models are, by identity: settings hold mappings and so have no hash. They are kept beside the
        # endpoint, so that no other settings can take their identity.
        self._endpoints: dict[int, tuple[ModelSettings, OpenAIEndpoint | None]] = {}

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> WireAnswer | AsyncIterator[bytes]:
        """Call ``model`` once.

        Returns:
            the answer, or, where ``parameters`` say ``stream``, the bytes of its events, each piece whole events.

        Raises:
            BackendError: the model failed or answered with something else.
        """
        endpoint = self._endpoint(model)
        if endpoint is None:
            answer = await _send_through_litellm(model, self._operation, parameters)
            return self._checked(answer, model.model) if isinstance(answer, bytes) else answer
        sent = await self._client.asend(model, endpoint, self._operation, parameters)
        return self._checked(sent, model.model) if isinstance(sent, bytes) else _relayed(sent)

    def _endpoint(self, model: ModelSettings) -> OpenAIEndpoint | None:
        if id(model) not in self._endpoints:
            if len(self._endpoints) >= _REMEMBERED_MODELS:
                self._endpoints.clear()
            self._endpoints[id(model)] = model, openai_endpoint(model)
        return self._endpoints[id(model)][1]

    def _checked(self, content: bytes, label: str) -> WireAnswer:
        body = whole_answer(content, self._operation, label)
        nothing = None if self._operation == "embeddings" else emptiness([body])
        if self._operation == "responses" and body.get("status") == "failed":
            raise refusal(200, {}, to_json(body), label)
        if self._operation == "chat/completions" and _complete_choices(body["choices"]):
            content = to_json(body)
        usage = body.get("usage")
        return WireAnswer(content, usage if isinstance(usage, dict) else {}, nothing)


class WireReading:
    """What answers in bytes say.

    Args:
        operation: the operation's path.
    """

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def is_content(self, piece: bytes) -> bool:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        reader = EventReader(self._operation, "")
        reader.feed(piece)
        return reader.has_content

    def emptiness(self, answer: WireAnswer | list[bytes]) -> Emptiness | None:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        if isinstance(answer, WireAnswer):
            return answer.emptiness
        return emptiness(EventReader(self._operation, "").feed(b"".join(answer)).data)


async def _relayed(stream: AsyncIterator[Events]) -> AsyncIterator[bytes]:
    try:
        async for events in stream:
            yield events.raw
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # a client that leaves early must free the connection


def _complete_choices(choices: Any) -> bool:
    """Add the keys that OpenAI's schema requires and some servers leave out; return whether any was missing."""
    was_incomplete = False
    for choice in choices if isinstance(choices, list) else []:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        for owner, key in ((choice, "logprobs"), (message, "refusal"), (message, "content")):
            if key not in owner:
                owner[key] = None
                was_incomplete = True
    return was_incomplete


# --- providers that do not speak OpenAI's protocol: called through litellm, answered in OpenAI's bytes -----------------

# What a client may say about a call, by operation: what OpenAI's SDK declares. Anything else would be an argument of
# litellm's own: api_base, say, would send the provider's key to a server of the client's choice.
_DECLARED = {
    "chat/completions": ("chat.completion_create_params:CompletionCreateParamsBase", "stream thinking top_k"),
    "completions": ("completion_create_params:CompletionCreateParamsBase", "stream"),
    "responses": ("responses.response_create_params:ResponseCreateParamsBase", "stream"),
    "embeddings": ("embedding_create_params:EmbeddingCreateParams", ""),
}
_REFUSED_BY_THE_SDK = re.compile(r"unexpected keyword argument '(\w+)'")
_NEEDED = {"completions": "prompt", "responses": "input"}  # optional for OpenAI, positional for litellm
_FUNCTIONS = {"completions": "atext_completion", "responses": "aresponses", "embeddings": "aembedding"}


async def _send_through_litellm(
    model: ModelSettings, operation: str, parameters: Mapping[str, Any]
) -> bytes | AsyncIterator[bytes]:
    """Return the answer as JSON, or, where the parameters say ``stream``, its events."""
    litellm = await asyncio.to_thread(import_litellm)  # the first import takes seconds
    for name in parameters:
        if name not in _allowed(operation):
            raise _bad_request(
                f"unknown parameter {name!r}: model {model.model!r} is reached through litellm, which takes OpenAI's "
                "parameters of this operation only. Set it in the model's `extra` where every call should have it",
                model.model,
                name,
                "unknown_parameter",
            )
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


async def _events(chunks: AsyncIterator[Any], model: ModelSettings, operation: str) -> AsyncIterator[bytes]:
    names_events = operation == "responses"
    try:
        async for chunk in chunks:
            record = _record(chunk, operation)
            name = b"event: " + str(record.get("type", "message")).encode() + b"\n" if names_events else b""
            yield name + b"data: " + to_json(record) + b"\n\n"
    except Exception as error:
        raise _translated(error, model) from safe_cause(error, secrets_of(model))
    finally:
        if hasattr(chunks, "aclose"):  # a client that leaves early must free the connection
            await chunks.aclose()
    if not names_events:
        yield b"data: [DONE]\n\n"


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
    return record


def _says_something(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or choice.get("text") or any((choice.get("delta") or {}).values()))
