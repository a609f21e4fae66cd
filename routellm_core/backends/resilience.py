"""Retries on one model, then fallback to the other model of the pair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.errors import BackendError, ConfigError
from routellm_core.providers.failures import fallen_back
from routellm_core.providers.retries import async_retrying, retrying
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["ResiliencePolicy", "ResilientCaller"]


@dataclass(frozen=True)
class ResiliencePolicy:
    """What to do when a model fails with a retryable error (time-out, lost connection, 408, 409, 425, 429, 5xx).

    Attributes:
        attempts: calls of one model, at least 1.
        wait_initial: seconds before the first retry; each further one waits twice as long, with jitter.
        wait_max: the longest wait in seconds, also where the provider asks for longer with ``Retry-After``.
        fallback: after the last attempt, ask the other model of the pair.
    """

    attempts: int = 2
    wait_initial: float = 0.5
    wait_max: float = 8.0
    fallback: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts={self.attempts!r} must be at least 1")
        if self.wait_initial < 0 or self.wait_max < self.wait_initial:
            raise ConfigError(
                f"wait_initial={self.wait_initial!r} and wait_max={self.wait_max!r} must be ascending and not negative"
            )


class ResilientCaller:
    """Calls the decided model, and the other one when that is called for.

    A stream counts as answered when its first chunk has arrived; a failure after that cannot be repaired, because
    the caller has seen part of the answer, and surfaces as :class:`BackendError`.

    Args:
        backend: makes the single attempts.
        models: the settings of both tiers.
        policy: retries and fallback.
    """

    def __init__(
        self, backend: ChatBackend, models: Mapping[Tier, ModelSettings], *, policy: ResiliencePolicy | None = None
    ) -> None:
        self._backend = backend
        self._models = dict(models)
        self._policy = policy or ResiliencePolicy()
        self._waits: Any = {
            "attempts": self._policy.attempts,
            "wait_initial": self._policy.wait_initial,
            "wait_max": self._policy.wait_max,
        }

    def call(self, decision: RoutingDecision, parameters: Mapping[str, Any]) -> tuple[Any, RoutingDecision]:
        """Return the answer and the decision as it ended (see ``fallback_from``).

        Raises:
            BackendError: not retryable, or both models failed.
        """
        try:
            return self._attempts(decision.tier, parameters), decision
        except BackendError as error:
            other = self._fallback(decision, error)
            try:
                return self._attempts(other.tier, parameters), other
            except BackendError as second:
                raise _both_failed(error, second) from error

    async def acall(self, decision: RoutingDecision, parameters: Mapping[str, Any]) -> tuple[Any, RoutingDecision]:
        """Do as :meth:`call` does, without blocking the event loop."""
        try:
            return await self._aattempts(decision.tier, parameters), decision
        except BackendError as error:
            other = self._fallback(decision, error)
            try:
                return await self._aattempts(other.tier, parameters), other
            except BackendError as second:
                raise _both_failed(error, second) from error

    def _attempts(self, tier: Tier, parameters: Mapping[str, Any]) -> Any:
        return retrying(**self._waits)(self._attempt, self._models[tier], parameters)

    async def _aattempts(self, tier: Tier, parameters: Mapping[str, Any]) -> Any:
        model = self._models[tier]
        try:
            return await self._aattempt(model, parameters)
        except BackendError as error:
            if not error.retryable:
                raise
            failures = [error]

        async def attempt() -> Any:
            if failures:
                raise failures.pop()
            return await self._aattempt(model, parameters)

        # Only now, with the failure as the first of its attempts: tenacity costs as much as relaying a small answer.
        return await async_retrying(**self._waits)(attempt)

    def _attempt(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        answer = self._backend.complete(model, parameters)
        return _opened(answer, model.model) if parameters.get("stream") else answer

    async def _aattempt(self, model: ModelSettings, parameters: Mapping[str, Any]) -> Any:
        answer = await self._backend.acomplete(model, parameters)
        return await _aopened(answer, model.model) if parameters.get("stream") else answer

    def _fallback(self, decision: RoutingDecision, error: BackendError) -> RoutingDecision:
        pair = ModelPair(strong=self._models["strong"].model, weak=self._models["weak"].model)
        if not (self._policy.fallback and error.retryable) or pair.strong == pair.weak:
            raise error
        return fallen_back(decision, pair, error)


def _both_failed(first: BackendError, second: BackendError) -> BackendError:
    return BackendError(
        f"both models failed: {first}; then {second}",
        model=first.model,
        status_code=first.status_code,
        retryable=first.retryable,
        provider=first.provider,
        code=first.code,
        error_type=first.error_type,
        param=first.param,
        retry_after=first.retry_after,
    )


def _opened(stream: Iterator[Any], model: str) -> Iterator[Any]:
    try:
        first = next(stream)
    except StopIteration:
        raise _empty_stream(model) from None
    return _resumed(first, stream)


def _resumed(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


async def _aopened(stream: AsyncIterator[Any], model: str) -> AsyncIterator[Any]:
    try:
        first = await anext(stream)
    except StopAsyncIteration:
        raise _empty_stream(model) from None
    return _aresumed(first, stream)


async def _aresumed(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        if hasattr(rest, "aclose"):  # unlike `yield from`, `async for` does not close what it iterates over
            await rest.aclose()


def _empty_stream(model: str) -> BackendError:
    return BackendError(f"model {model!r} sent an empty stream", model=model, status_code=502, retryable=True)
