"""``SettledQuestions``: decisions of the last moments, so that a refine loop or a tool loop never changes its model."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from routellm_core.adapters import AdapterRequest
from routellm_core.prompts import last_turn, message_text
from routellm_core.types import RoutingDecision

__all__ = ["SettledQuestions"]


class SettledQuestions:
    """Decisions by question, and by what was said before it.

    The question is the same in each step of a loop, so its score is too; but a scoring service may fail half-way, and
    the random router draws afresh for each call. What was decided because scoring failed is not kept: the next step
    may be able to score. Thread-safe.

    Args:
        seconds: a decision is forgotten so long after its last use; 0 keeps none.
        capacity: questions kept; the least recently used is forgotten first.
    """

    def __init__(self, seconds: float, *, capacity: int = 1024) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._decisions: OrderedDict[Hashable, tuple[float, RoutingDecision]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return SettledQuestions, (self._seconds,)

    def get(self, request: AdapterRequest) -> RoutingDecision | None:
        """Return the question's decision, and count this as a use of it; within a turn, that of the model in it."""
        key = _key(request)
        with self._lock:
            took_over = self._used((key, True)) if request.turn.keys.is_within_turn else None
            return took_over or self._used((key, False))

    def settle(self, request: AdapterRequest, decision: RoutingDecision) -> RoutingDecision:
        """Keep a decision; where a concurrent call settled the question first, return that call's."""
        if decision.score is None:
            return decision
        key = (_key(request), False)
        with self._lock:
            return self._used(key) or self._kept(key, decision)

    def took_over(self, request: AdapterRequest, decision: RoutingDecision) -> None:
        """Keep that the other model answers, for the rest of the turn; the next question is decided as ever."""
        with self._lock:
            self._kept((_key(request), True), decision)

    def _kept(self, key: Hashable, decision: RoutingDecision) -> RoutingDecision:
        if self._seconds > 0:
            self._decisions[key] = (time.monotonic(), decision)
            while len(self._decisions) > self._capacity:
                self._decisions.popitem(last=False)
        return decision

    def _used(self, key: Hashable) -> RoutingDecision | None:
        used, decision = self._decisions.pop(key, (0.0, None))
        if decision is None or time.monotonic() - used > self._seconds:
            return None
        self._decisions[key] = (time.monotonic(), decision)
        return decision


def _key(request: AdapterRequest) -> Hashable:
    messages = request.turn.messages
    index = last_turn(messages)
    asked = messages[: 0 if index is None else index + 1]
    said = tuple((message["role"], message_text(message)) for message in asked if message["role"] != "system")
    return said, request.model, str(request.threshold), request.turn.context.session
