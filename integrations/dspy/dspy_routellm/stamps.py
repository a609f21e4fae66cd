"""Decisions on answers and in histories: which model answered each call, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dspy.lm15 import Response, StreamEndEvent

from routellm_core.adapters import RECORD_KEY, is_record, record_of
from routellm_core.types import RoutingDecision

__all__ = ["calls_by_model", "routing_of", "stamped", "stamped_end"]


def stamped(response: Response, decision: RoutingDecision) -> Response:
    """Return the response with the decision in ``provider_data["routing"]``, which DSPy's cache keeps too."""
    return replace(response, provider_data=_with_decision(response.provider_data, decision))


def stamped_end(event: StreamEndEvent, decision: RoutingDecision) -> StreamEndEvent:
    """Return a stream's last event with the decision on it."""
    return replace(event, provider_data=_with_decision(event.provider_data, decision))


def _with_decision(data: Any, decision: RoutingDecision) -> dict[str, Any]:
    own = dict(data) if isinstance(data, Mapping) else {} if data is None else {"provider_data": data}
    inner = own.get(RECORD_KEY)  # where the chosen model is a routing LM itself
    return {**own, RECORD_KEY: record_of(decision, inner if is_record(inner) else None)}


def routing_of(answer: Any) -> dict[str, Any] | None:
    """Return the decision behind an answer, as plain values, or None where it was not routed.

    Args:
        answer: an entry of a history, an ``lm15.Response``, or the prediction of a :class:`~dspy_routellm.Routed`.
    """
    if isinstance(answer, Mapping):
        found = answer.get(RECORD_KEY)
        return found if found is not None else routing_of(answer.get("response"))
    if isinstance(answer, tuple | list):
        return next(filter(None, map(routing_of, answer)), None)
    if isinstance(answer, Response):
        data = answer.provider_data
        return data.get(RECORD_KEY) if isinstance(data, Mapping) else None
    decision = vars(answer).get("_routing") if hasattr(answer, "__dict__") else None
    return decision.as_dict() if isinstance(decision, RoutingDecision) else None


def calls_by_model(history: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count a history's calls by the model that answered; the history of an LM, a program, or DSPy's global one.

    Answers from DSPy's cache count, under the model that gave them. Calls of an LM that does not route count under its
    name.
    """
    routed = ((routing_of(entry), entry) for entry in history)
    return dict(Counter(str(decision["model"] if decision else entry["model"]) for decision, entry in routed))
