"""The decision as an event of LlamaIndex's instrumentation."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events import BaseEvent

from routellm_core.types import RoutingDecision

__all__ = ["RoutingDecisionEvent", "report"]

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
