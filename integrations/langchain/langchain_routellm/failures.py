"""Asking the other model when one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from langchain_routellm.turns import TurnRouter
from routellm_core.backends.resilience import fallen_back
from routellm_core.providers.errors import is_retryable
from routellm_core.types import RoutingDecision

__all__ = ["awith_fallback", "with_fallback"]

T = TypeVar("T")


def with_fallback(turn_router: TurnRouter, decision: RoutingDecision, call: Callable[[RoutingDecision], T]) -> T:
    """Call the decided model and, when it fails in a way that may pass, the other one.

    Raises:
        Exception: the decided model's own error; a note tells of the other model's where that failed too.
    """
    try:
        return call(decision)
    except Exception as error:
        other = _fallback(turn_router, decision, error)
        try:
            return call(other)
        except Exception as second:
            _note(error, other, second)
        raise


async def awith_fallback(
    turn_router: TurnRouter, decision: RoutingDecision, call: Callable[[RoutingDecision], Awaitable[T]]
) -> T:
    """Do as :func:`with_fallback` does, without blocking the event loop."""
    try:
        return await call(decision)
    except Exception as error:
        other = _fallback(turn_router, decision, error)
        try:
            return await call(other)
        except Exception as second:
            _note(error, other, second)
        raise


def _fallback(turn_router: TurnRouter, decision: RoutingDecision, error: Exception) -> RoutingDecision:
    pair = turn_router.pair
    if not (turn_router.has_fallback and is_retryable(error)) or pair.strong == pair.weak:
        raise error
    return fallen_back(decision, pair, error)


def _note(error: Exception, other: RoutingDecision, second: Exception) -> None:
    error.add_note(f"The other model, {other.model}, failed too: {type(second).__name__}: {second}")
