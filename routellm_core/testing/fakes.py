"""In-process doubles: a router that scores as told and a backend that answers without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from routellm_core.backends.base import ModelSettings
from routellm_core.errors import BackendError
from routellm_core.routers.base import Router
from routellm_core.testing.replies import completion, completion_chunks
from routellm_core.types import FloatArray


class FixedScoreRouter(Router):
    """Scores each prompt as it is told.

    Args:
        score: one score for all prompts, or a function from prompt to score.

    Attributes:
        batches: the batches it was given, in order.
    """

    name: ClassVar[str] = "fixed"

    def __init__(self, *, score: float | Callable[[str], float] = 0.5) -> None:
        self._score = score
        self.batches: list[list[str]] = []

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return the told scores, shape (n,)."""
        self.batches.append(list(prompts))
        rule = self._score
        return np.array([rule(prompt) if callable(rule) else rule for prompt in prompts], dtype=np.float64)


class FakeBackend:
    """Answers in OpenAI's shape, echoing the model, with attribute access all the way down.

    Args:
        failures: errors to raise, by model: each call of that model takes the next one, until none is left.

    Attributes:
        calls: (settings, parameters) of every call, in order.
    """

    def __init__(self, *, failures: Mapping[str, Sequence[BackendError]] | None = None) -> None:
        self._failures = {model: list(errors) for model, errors in (failures or {}).items()}
        self.calls: list[tuple[ModelSettings, dict[str, Any]]] = []

    def complete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        request = self._request(model, parameters)
        return self._chunks(request) if request.get("stream") else _namespace(completion(request))

    async def acomplete(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        """See :class:`~routellm_core.backends.base.ChatBackend`."""
        request = self._request(model, parameters)
        return self._achunks(request) if request.get("stream") else _namespace(completion(request))

    def _request(self, model: ModelSettings, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((model, dict(parameters)))
        if self._failures.get(model.model):
            raise self._failures[model.model].pop(0)
        return {**parameters, "model": model.model}

    def _chunks(self, request: Mapping[str, Any]) -> Iterator[Any]:
        yield from map(_namespace, completion_chunks(request))

    async def _achunks(self, request: Mapping[str, Any]) -> AsyncIterator[Any]:
        for chunk in completion_chunks(request):
            yield _namespace(chunk)


def _namespace(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(item) for key, item in value.items()})
    return [_namespace(item) for item in value] if isinstance(value, list) else value
