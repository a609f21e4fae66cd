"""``TurnRouter``: from a call of LlamaIndex to a decision. It never calls a model."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.routellm.questions import ExtractFromMessages, conversation, user_text

from routellm_core.adapters import selection_options
from routellm_core.decision import StrongShare
from routellm_core.errors import UnsupportedPromptError
from routellm_core.selector import ModelSelector
from routellm_core.turns import opening_session
from routellm_core.types import ModelPair, RoutingDecision

__all__ = ["SettledQuestions", "Turn", "TurnRouter"]


@dataclass(frozen=True)
class Turn:
    """What a decision is made from.

    Attributes:
        messages: the conversation; may be empty where the question is known.
        question: the question, where the caller or LlamaIndex names it.
        model: the caller's wish: ``"strong"``, ``"weak"``, a model's name, ``"router-mf-0.116"``, or None.
        session: the conversation's id for stickiness, or None.
    """

    messages: Sequence[ChatMessage]
    question: str | None = None
    model: str | None = None
    session: str | None = None


class SettledQuestions:
    """Decisions of the last moments by question, so that a refine loop or a tool loop never changes its model.

    The question is the same in each step, so its score is too; but a scoring service may fail half-way, and the random
    router draws afresh for each call. Thread-safe.

    Args:
        seconds: a decision is forgotten so long after its last use; 0 keeps none.
        capacity: questions kept; the least recently used is forgotten first.
    """

    def __init__(self, seconds: float, *, capacity: int = 1024) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._decisions: OrderedDict[Any, tuple[float, RoutingDecision]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> RoutingDecision | None:
        """Return the question's decision, and count this as a use of it."""
        with self._lock:
            return self._used(key)

    def settle(self, key: Any, decision: RoutingDecision) -> RoutingDecision:
        """Keep a decision; where a concurrent call settled the question first, return that call's."""
        if self._seconds <= 0:
            return decision
        with self._lock:
            if earlier := self._used(key):
                return earlier
            self._decisions[key] = (time.monotonic(), decision)
            while len(self._decisions) > self._capacity:
                self._decisions.popitem(last=False)
            return decision

    def _used(self, key: Any) -> RoutingDecision | None:
        used, decision = self._decisions.pop(key, (0.0, None))
        if decision is None or time.monotonic() - used > self._seconds:
            return None
        self._decisions[key] = (time.monotonic(), decision)
        return decision


class TurnRouter:
    """Decides for LlamaIndex.

    Args:
        selector: the core's selector; may be shared.
        pair: the names of the models that answer.
        threshold: overrides the selector's, or None.
        extract: picks the text to route on out of messages whose question is not named.
        settled: decisions of the last moments; None decides each call afresh.
        is_sticky: whether the selector may remember conversations.
    """

    def __init__(
        self,
        selector: ModelSelector,
        pair: ModelPair,
        *,
        threshold: float | StrongShare | None = None,
        extract: ExtractFromMessages | None = None,
        settled: SettledQuestions | None = None,
        is_sticky: bool = False,
    ) -> None:
        self.selector = selector
        self.pair = pair
        self.threshold = threshold
        self.is_sticky = is_sticky
        self._extract: Callable[[Sequence[ChatMessage]], str | None] = extract or user_text
        self._settled = settled

    def select(self, turn: Turn) -> RoutingDecision:
        """Decide for one call.

        Raises:
            UnsupportedPromptError: there is neither a message nor a question.
            ConfigError: the wished model is neither of the two.
            UnknownRouterError: a ``router-…`` name asks for a router that is not loaded here.
            ScoringError: scoring failed and the selector's policy is to raise.
        """
        text, options = (
            self._text(turn),
            selection_options(turn.model, self.selector, self.pair, threshold=self.threshold),
        )
        key = self._key(text, options)
        if key and self._settled and (decision := self._settled.get(key)):
            return decision
        messages = conversation(turn.messages, text)
        decision = self._named(self.selector.select(messages, session=self._session(turn, messages), **options))
        return self._settled.settle(key, decision) if key and self._settled else decision

    async def aselect(self, turn: Turn) -> RoutingDecision:
        """Decide as :meth:`select` does without blocking the event loop; concurrent prompts are scored together."""
        text, options = (
            self._text(turn),
            selection_options(turn.model, self.selector, self.pair, threshold=self.threshold),
        )
        key = self._key(text, options)
        if key and self._settled and (decision := self._settled.get(key)):
            return decision
        messages = conversation(turn.messages, text)
        session = self._session(turn, messages)
        decision = self._named(await self.selector.aselect(messages, session=session, **options))
        return self._settled.settle(key, decision) if key and self._settled else decision

    def _text(self, turn: Turn) -> str | None:
        if turn.question is not None:
            return turn.question
        if not turn.messages:
            raise UnsupportedPromptError("there is nothing to route on: no message and no question was given")
        text = self._extract(turn.messages)
        if text is not None and not isinstance(text, str):
            raise UnsupportedPromptError(f"extract returned {type(text).__name__}; it must return a string or None")
        return text

    def _key(self, text: str | None, options: dict[str, Any]) -> Any:
        return (text, str(options.get("threshold"))) if text and "force" not in options else None

    def _session(self, turn: Turn, messages: list[dict[str, Any]]) -> str | None:
        if not self.is_sticky or turn.session is not None:
            return turn.session
        # A chat engine's system text holds the documents of the moment, so only the opening question tells
        # conversations apart.
        return opening_session(messages)

    def _named(self, decision: RoutingDecision) -> RoutingDecision:
        # A shared selector may know the two models under other names than the ones that answer here.
        return replace(decision, model=self.pair.of(decision.tier))
