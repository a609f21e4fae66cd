"""Calls models for the Messages API."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import Any

from pydantic_core import from_json, to_json

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.wire import WireAnswer, WireBackend
from routellm_core.pricing import load_price_map
from routellm_core.providers.endpoints import OpenAIEndpoint
from routellm_core.providers.errors import not_understood
from routellm_core.providers.events import Emptiness, Events, Progress
from routellm_core.providers.http import ModelClient
from routellm_core.providers.parameters import fitted
from routellm_core.server.anthropic.answers import as_message, message_events
from routellm_core.server.anthropic.requests import chat_request, untranslated, without_foreign_thinking

__all__ = ["MessagesBackend", "MessagesReading", "anthropic_endpoint", "wanted_betas"]

_VERSION = "2023-06-01"
_FITTING_BETAS = re.compile(r"[\w., -]{1,1000}", re.ASCII)
_TRANSPORT = frozenset({"extra_body", "extra_headers", "extra_query", "max_retries", "num_retries"})

wanted_betas: ContextVar[str | None] = ContextVar("wanted_betas", default=None)
"""The ``anthropic-beta`` header of the request in progress: without it, Anthropic refuses the fields of a beta."""


def anthropic_endpoint(model: ModelSettings) -> OpenAIEndpoint | None:
    """Return where a model of Anthropic's is reached over its own protocol; None for every other model."""
    provider, slash, name = model.model.partition("/")
    if not slash and model.model.startswith("claude-"):
        provider, name = "anthropic", model.model
    if provider != "anthropic" or model.relay is False:
        return None
    variables = os.environ
    base = model.api_base or variables.get("ANTHROPIC_API_BASE") or variables.get("ANTHROPIC_BASE_URL")
    root = (base or "https://api.anthropic.com").rstrip("/").removesuffix("/messages").removesuffix("/v1")
    key = model.api_key.get_secret_value() if model.api_key else variables.get("ANTHROPIC_API_KEY")
    betas = wanted_betas.get()
    return OpenAIEndpoint(
        base_url=f"{root}/v1",
        model=name,
        headers={
            "Content-Type": "application/json",
            "anthropic-version": _VERSION,
            **({"x-api-key": key} if key else {}),
            **({"anthropic-beta": betas} if betas and _FITTING_BETAS.fullmatch(betas) else {}),
            **model.extra.get("extra_headers", {}),
        },
        defaults={
            **{name: value for name, value in model.extra.items() if name not in _TRANSPORT},
            **model.extra.get("extra_body", {}),
        },
    )


class MessagesBackend:
    """Calls a model for the Messages API; see :class:`~routellm_core.backends.base.AsyncBackend`.

    Args:
        client: the connections to Anthropic.
        chat: calls every other model.
    """

    def __init__(self, client: ModelClient, chat: WireBackend) -> None:
        self._client = client
        self._chat = chat

    def dropped_fields(self, model: ModelSettings, parameters: Mapping[str, Any]) -> list[str]:
        """Return what of a request a model does not get, since it would not understand it."""
        return [] if anthropic_endpoint(model) else untranslated(parameters, reasons=_reasons(model))

    async def acomplete(
        self, model: ModelSettings, parameters: Mapping[str, Any]
    ) -> WireAnswer | AsyncIterator[Events]:
        """Call ``model`` once.

        Raises:
            BackendError: the model failed or answered with something else.
        """
        endpoint = anthropic_endpoint(model)
        if endpoint is None:
            request = fitted(model, "chat/completions", chat_request(parameters, reasons=_reasons(model)))
            answer = await self._chat.acomplete(model, request)
            if not isinstance(answer, WireAnswer):
                return message_events(answer)
            message = as_message(from_json(answer.content))
            return WireAnswer(to_json(message), message["usage"], answer.emptiness)
        sent = await self._client.asend(model, endpoint, "messages", without_foreign_thinking(parameters))
        return self._checked(sent, model.model) if isinstance(sent, bytes) else sent

    async def count_tokens(self, model: ModelSettings, parameters: Mapping[str, Any]) -> bytes | None:
        """Return what Anthropic says of a request's tokens; None where the model is another's.

        Raises:
            BackendError: the model failed.
        """
        endpoint = anthropic_endpoint(model)
        if endpoint is None:
            return None
        body = without_foreign_thinking(parameters)
        answer = await self._client.asend(model, endpoint, "messages/count_tokens", body)
        return answer if isinstance(answer, bytes) else None

    def _checked(self, content: bytes, label: str) -> WireAnswer:
        try:
            body = from_json(content)
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("content"), list):
            raise not_understood(label, content)
        usage = body.get("usage")
        return WireAnswer(content, usage if isinstance(usage, dict) else {}, None if body["content"] else "empty")


class MessagesReading:
    """What answers of the Messages API say; see :class:`~routellm_core.backends.resilience.Reading`."""

    def is_content(self, piece: Events) -> bool:
        """Return whether a piece of a stream says something."""
        progress = Progress("messages")
        for data in piece.data:
            progress.note(data)
        return progress.has_content

    def emptiness(self, answer: WireAnswer | list[Events]) -> Emptiness | None:
        """Return why an answer holds nothing; None where it holds something."""
        if isinstance(answer, WireAnswer):
            return answer.emptiness
        return None if any(map(self.is_content, answer)) else "empty"


def _reasons(model: ModelSettings) -> bool:
    """Return whether a model can be asked to think: others refuse a request that does."""
    prices = load_price_map()
    entries = (prices.get(name, {}) for name in (model.model, model.model.partition("/")[2]))
    return "reasoning_effort" in model.extra or any(entry.get("supports_reasoning") for entry in entries)
