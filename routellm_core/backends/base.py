"""What a backend is: it calls one model, in OpenAI's chat shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from routellm_core.providers.settings import ModelSettings

__all__ = ["AsyncBackend", "ChatBackend", "ModelSettings"]


class AsyncBackend(Protocol):
    """Calls a model, asynchronously."""

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """Call ``model`` without blocking the event loop."""
        ...


class ChatBackend(AsyncBackend, Protocol):
    """Calls a model.

    Both methods return a chat completion in OpenAI's shape, or, with ``stream=True`` among the parameters, an
    iterator (asynchronous iterator) of chat completion chunks. They make one attempt: retries and fallback are
    :mod:`routellm_core.backends.resilience`'s. Whatever goes wrong, before or during a stream, is a
    :class:`~routellm_core.errors.BackendError`.
    """

    def complete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """Call ``model`` with OpenAI's chat completion parameters (``messages``, ``tools``, ``stream`` …)."""
        ...
