"""Usage and cost under the model that answered, where DSPy would book them under the routing LM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dspy
from dspy.clients.call_result import usage_dict
from dspy.lm15 import Response, Usage

from routellm_core.pricing import Price

__all__ = ["attributed_usage", "cost_of", "record_usage"]

_calls: ContextVar[list[tuple[str, dict[str, Any]]] | None] = ContextVar("dspy_routellm_usage", default=None)


def record_usage(model: str, usage: Usage | None) -> None:
    """Note what an answer used; engines do so for each."""
    calls = _calls.get()
    if calls is not None and usage is not None:
        calls.append((model, usage_dict(_Used(usage))))


class _Used:
    """What DSPy reads of a response to tell its usage."""

    def __init__(self, usage: Usage) -> None:
        self.usage = usage


@contextmanager
def attributed_usage() -> Iterator[None]:
    """Book the usage of the calls within under the models that answered, also of those that end in an error.

    DSPy books an LM's usage under that LM's name. Its tracker is therefore set aside for the duration of the call; an
    answer from the cache uses nothing.
    """
    tracker = dspy.settings.usage_tracker
    if tracker is None:
        yield
        return
    calls: list[tuple[str, dict[str, Any]]] = []
    token = _calls.set(calls)
    try:
        with dspy.context(usage_tracker=None):
            yield
    finally:
        _calls.reset(token)
        for model, usage in calls:
            tracker.add_usage(model, usage)


def cost_of(responses: Any, prices: dict[str, Price | None]) -> float | None:
    """Return what answers cost in dollars, or None where a price or a number of tokens is not known.

    Args:
        responses: one stamped response or several.
        prices: by the models' names.
    """
    total = 0.0
    for response in responses if isinstance(responses, tuple | list) else [responses]:
        routing = (
            response.provider_data.get("routing") if isinstance(response, Response) and response.provider_data else None
        )
        price = prices.get(routing["model"]) if routing else None
        used = response.usage if price else None
        if price is None or used is None or used.input_tokens is None or used.output_tokens is None:
            return None
        total += price.dollars(used.input_tokens, used.output_tokens)
    return total
