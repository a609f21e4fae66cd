"""The default backend: any provider that litellm knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from routellm_core.backends.base import ModelSettings
from routellm_core.errors import BackendError
from routellm_core.providers.litellm import backend_error, import_litellm

__all__ = ["LiteLLMBackend", "litellm_arguments"]


class LiteLLMBackend:
    """Calls models through litellm. Any parameter that litellm or the provider takes is passed through."""

    def complete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        litellm = import_litellm()
        try:
            response = litellm.completion(**litellm_arguments(model, parameters))
        except Exception as error:
            raise backend_error(error, model=model.model) from error
        return _chunks(response, model.model) if parameters.get("stream") else _checked(response, model.model)

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        litellm = await asyncio.to_thread(import_litellm)  # the first import takes seconds
        try:
            response = await litellm.acompletion(**litellm_arguments(model, parameters))
        except Exception as error:
            raise backend_error(error, model=model.model) from error
        return _achunks(response, model.model) if parameters.get("stream") else _checked(response, model.model)


_OPENAI_PROTOCOL = frozenset({"openai", "azure", "hosted_vllm"})
_NOT_IN_THE_BODY = frozenset(
    {"messages", "extra_body", "extra_headers", "extra_query", "api_base", "api_key", "timeout"}
)


def litellm_arguments(model: ModelSettings, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a litellm call."""
    settings = {
        "api_base": model.api_base,
        "api_key": model.api_key.get_secret_value() if model.api_key else None,
        "timeout": model.timeout,
        **model.extra,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    if model.model.partition("/")[0] in _OPENAI_PROTOCOL or "/" not in model.model:
        # litellm knows which parameters OpenAI's own models take and drops or refuses others; an OpenAI-compatible
        # server may serve any model under any name, so what the caller gave is passed on as it is.
        given["allowed_openai_params"] = [name for name in parameters if name not in _NOT_IN_THE_BODY]
    # One mechanism for retries: resilience. litellm's own and the SDK's would multiply with it.
    return {**given, **parameters, "model": model.model, "num_retries": 0, "max_retries": 0}


def _checked(response: Any, model: str) -> Any:
    if not getattr(response, "choices", None):
        raise _unreadable(model, "answered without choices")
    return response


def _chunks(stream: Any, model: str) -> Iterator[Any]:
    is_first = True
    try:
        for chunk in stream:
            if is_first and _is_made_up(chunk):
                raise _unreadable(model, "sent a stream without chat completion chunks")
            is_first = False
            yield chunk
    except Exception as error:
        raise backend_error(error, model=model) from error


async def _achunks(stream: Any, model: str) -> AsyncIterator[Any]:
    is_first = True
    try:
        async for chunk in stream:
            if is_first and _is_made_up(chunk):
                raise _unreadable(model, "sent a stream without chat completion chunks")
            is_first = False
            yield chunk
    except Exception as error:
        raise backend_error(error, model=model) from error
    finally:
        await stream.aclose()  # a reader that stops early must free the connection


def _is_made_up(chunk: Any) -> bool:
    # Where a stream holds nothing readable (an HTML page, say), litellm ends it with a finish of its own making. A
    # model's own first chunk carries a role or something said.
    choice = chunk.choices[0] if chunk.choices else None
    if choice is None or choice.finish_reason is None:
        return False
    delta = choice.delta
    return not (delta.role or delta.content or delta.tool_calls)


def _unreadable(model: str, what: str) -> BackendError:
    return BackendError(f"model {model!r} {what}", model=model, status_code=502, retryable=True)
