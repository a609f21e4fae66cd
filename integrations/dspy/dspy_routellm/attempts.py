"""Calling the decided model, again where that may help, and then the other model of the pair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from dspy.lm15 import (
    LM15Error,
    LockTimeoutError,
    ProviderError,
    RateLimitError,
    ServerError,
    TransportError,
)
from dspy.lm15 import TimeoutError as ProviderTimeoutError
from dspy.utils.exceptions import LMError, is_retryable_lm_error

from dspy_routellm.children import ChildModel
from dspy_routellm.routing import Routing
from routellm_core.errors import BackendError
from routellm_core.types import RoutingDecision, Tier

__all__ = ["UnreadableAnswerError", "acall_model", "call_model", "is_retryable"]

T = TypeVar("T")

_PASSING = (RateLimitError, ServerError, ProviderTimeoutError, TransportError, LockTimeoutError)
_PASSING_STATUSES = frozenset({408, 409, 425, 429})


def is_retryable(error: Exception) -> bool:
    """Return whether the same request can succeed again or elsewhere: time-out, lost connection, 408/409/425/429, 5xx.

    So can one whose answer was unreadable. A bad request, a missing key, an exhausted budget or a mistake in the
    program would fail again or be hidden.
    """
    if isinstance(error, BackendError):
        return error.retryable
    if isinstance(error, _PASSING) or is_retryable_lm_error(error):
        return True
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in _PASSING_STATUSES or status >= 500
    return isinstance(error, UnreadableAnswerError)


class UnreadableAnswerError(ProviderError):
    """A model answered with something that is no chat completion."""


def call_model(
    routing: Routing, decision: RoutingDecision, call: Callable[[ChildModel], T]
) -> tuple[T, RoutingDecision]:
    """Call the decided model and, where that is called for, the other one.

    Args:
        routing: the models and the policy.
        decision: which model.
        call: makes one attempt.

    Returns:
        what ``call`` returned, and the decision as it ended.

    Raises:
        LM15Error: the decided model's error; where the other one failed too, its text tells of both.
    """
    try:
        return _attempts(routing, decision.tier, call), decision
    except Exception as error:
        other = _fallen_back(routing, decision, error)
        try:
            return _attempts(routing, other.tier, call), other
        except Exception as second:
            raise _both(error, decision.model, second, other.model) from error


async def acall_model(
    routing: Routing, decision: RoutingDecision, call: Callable[[ChildModel], Awaitable[T]]
) -> tuple[T, RoutingDecision]:
    """Do as :func:`call_model` does, without blocking the event loop."""
    try:
        return await _aattempts(routing, decision.tier, call), decision
    except Exception as error:
        other = _fallen_back(routing, decision, error)
        try:
            return await _aattempts(routing, other.tier, call), other
        except Exception as second:
            raise _both(error, decision.model, second, other.model) from error


def _attempts(routing: Routing, tier: Tier, call: Callable[[ChildModel], T]) -> T:
    for failed in range(1, routing.resilience.attempts):
        try:
            return call(routing.models[tier])
        except Exception as error:
            if not is_retryable(error):
                raise
            time.sleep(_wait(routing, failed, error))
    return call(routing.models[tier])


async def _aattempts(routing: Routing, tier: Tier, call: Callable[[ChildModel], Awaitable[T]]) -> T:
    for failed in range(1, routing.resilience.attempts):
        try:
            return await call(routing.models[tier])
        except Exception as error:
            if not is_retryable(error):
                raise
            await asyncio.sleep(_wait(routing, failed, error))
    return await call(routing.models[tier])


def _wait(routing: Routing, failed: int, error: Exception) -> float:
    policy = routing.resilience
    hint = getattr(error, "retry_after", None)
    return float(min(policy.wait_initial * 2 ** (failed - 1) if hint is None else hint, policy.wait_max))


def _fallen_back(routing: Routing, decision: RoutingDecision, error: Exception) -> RoutingDecision:
    other: Tier = "weak" if decision.tier == "strong" else "strong"
    model = routing.models[other].name
    if not (routing.resilience.fallback and is_retryable(error)) or model == decision.model:
        raise error
    said = _first_line(error)
    return replace(
        decision,
        tier=other,
        model=model,
        fallback_from=decision.model,
        reason=f"{decision.reason}; {decision.model} failed ({said}), so {model} answered",
        details={**decision.details, "fallback_error": said},
    )


def _both(first: Exception, model: str, second: Exception, other: str) -> Exception:
    text = f"both models failed: {model}: {_first_line(first)}; then {other}: {_first_line(second)}"
    combined: Exception = ProviderError(text)
    if isinstance(first, LM15Error):
        combined = type(first)(text, provider=first.provider, status=first.status, retry_after=first.retry_after)
    elif isinstance(first, LMError):
        first.add_note(text)
        combined = first
    return combined


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
