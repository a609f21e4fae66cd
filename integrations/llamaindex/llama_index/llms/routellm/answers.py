"""Writing the decision on answers: ``additional_kwargs["routing"]``, ``raw["routing"]``, and an event."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events import BaseEvent
from pydantic import BaseModel

from routellm_core.adapters import RECORD_KEY, is_record, record_of
from routellm_core.types import RoutingDecision, Tier

__all__ = ["RoutingDecisionEvent", "chosen_tier", "report", "stamped", "without_outer_stamp"]

T = TypeVar("T")
_dispatcher = get_dispatcher(__name__)


class RoutingDecisionEvent(BaseEvent):
    """A call was routed; sent before the model is called, and once more where the other model takes over.

    Attributes:
        decision: the decision as plain values; see :meth:`routellm_core.RoutingDecision.as_dict`.
    """

    decision: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Return the name in traces."""
        return "RoutingDecisionEvent"


def report(decision: RoutingDecision) -> None:
    """Send the event to the handlers of the current span."""
    _dispatcher.event(RoutingDecisionEvent(decision=decision.as_dict()))


def stamped(response: T, decision: RoutingDecision) -> T:
    """Return ``response`` with the decision on it, where it is a chat or completion response.

    The answer is copied, because a model that caches may hand out one object twice. The message stays as it is: some
    LLM classes send its ``additional_kwargs`` to the provider with the next turn. An agent's output carries ``raw``
    only, so the decision is there too, if ``raw`` is a dictionary or an object of litellm or the OpenAI SDK.
    """
    if not isinstance(response, (ChatResponse, CompletionResponse)):
        return response
    extras = response.additional_kwargs
    record = record_of(decision, _record(extras))
    updates = {"additional_kwargs": {**extras, RECORD_KEY: record}, "raw": _routed(response.raw, record)}
    return cast(T, response.model_copy(update=updates))


def chosen_tier(response: ChatResponse) -> Tier | None:
    """Return the tier of the model that answered, or None for an answer that was not routed."""
    record = _record(response.additional_kwargs)
    return None if record is None else cast(Tier, record["tier"])


def without_outer_stamp(response: ChatResponse) -> ChatResponse:
    """Return the answer as the chosen model gave it, with the record of an inner router if it is one."""
    others = {key: value for key, value in response.additional_kwargs.items() if key != RECORD_KEY}
    record = _record(response.additional_kwargs)
    if record is not None and "inner" in record:
        others[RECORD_KEY] = record["inner"]
    return response.model_copy(update={"additional_kwargs": others})


def _record(extras: dict[str, Any]) -> dict[str, Any] | None:
    record = extras.get(RECORD_KEY)
    return record if is_record(record) else None


def _routed(raw: Any, record: dict[str, Any]) -> Any:
    if isinstance(raw, dict):
        return {**raw, RECORD_KEY: record}
    if isinstance(raw, BaseModel) and raw.model_config.get("extra") == "allow":
        return raw.model_copy(update={RECORD_KEY: record})
    return raw
