"""``TurnRouter``: from LangChain messages to a decision, one per human turn. It never calls a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_routellm.questions import is_user_message, to_conversation
from routellm_core.adapters import selection_options
from routellm_core.decision import StrongShare
from routellm_core.selector import ModelSelector
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["Turn", "TurnRouter", "other_tier"]

_SESSION_KEYS = ("thread_id", "session_id", "conversation_id")


@dataclass(frozen=True)
class Turn:
    """What a decision is made from.

    Attributes:
        messages: the conversation.
        model: the caller's wish: ``"strong"``, ``"weak"``, a model's name, ``"router-mf-0.116"``, or None.
        session: the conversation's id for stickiness, or None.
    """

    messages: Sequence[BaseMessage]
    model: str | None = None
    session: str | None = None

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], config: RunnableConfig, model: str | None) -> Turn:
        """Take the session from where LangGraph and ``RunnableWithMessageHistory`` keep it."""
        configurable = config.get("configurable") or {}
        session = next((str(configurable[key]) for key in _SESSION_KEYS if configurable.get(key)), None)
        return cls(messages, model, session)


@dataclass(frozen=True)
class TurnRouter:
    """Decides for LangChain messages.

    Args:
        selector: the core's selector; may be shared.
        pair: the names of the models that answer.
        threshold: overrides the selector's, or None.
        has_fallback: ask the other model when the decided one fails in a way that may pass.
    """

    selector: ModelSelector
    pair: ModelPair
    threshold: float | str | StrongShare | None = None
    has_fallback: bool = True

    def select(self, turn: Turn) -> RoutingDecision:
        """Decide for one conversation.

        Raises:
            UnsupportedPromptError: there are no messages.
            ConfigError: the wished model is neither of the two.
            UnknownRouterError: a ``router-…`` name asks for a router that is not loaded here.
            ScoringError: scoring failed and the selector's policy is to raise.
        """
        options = selection_options(turn.model, self.selector, self.pair, threshold=self.threshold)
        if kept := self._kept(turn):
            return kept
        decision = self.selector.select(to_conversation(turn.messages), session=turn.session, **options)
        return self._named(decision)

    async def aselect(self, turn: Turn) -> RoutingDecision:
        """Decide as :meth:`select` does without blocking the event loop; concurrent prompts are scored together."""
        options = selection_options(turn.model, self.selector, self.pair, threshold=self.threshold)
        if kept := self._kept(turn):
            return kept
        decision = await self.selector.aselect(to_conversation(turn.messages), session=turn.session, **options)
        return self._named(decision)

    def _named(self, decision: RoutingDecision) -> RoutingDecision:
        # A shared selector may know the two models under other names than the ones that answer here.
        return replace(decision, model=self.pair.of(decision.tier))

    def _kept(self, turn: Turn) -> RoutingDecision | None:
        """Return the decision of an earlier call in the same human turn, so that a tool loop keeps one model.

        The question is the same, so the score would be too; but a scoring service may fail half-way, and the random
        router draws afresh for each call.
        """
        if turn.model is not None:
            return None
        for message in reversed(turn.messages):
            if is_user_message(message):
                return None
            record = message.response_metadata.get("routing") if isinstance(message, AIMessage) else None
            if isinstance(record, dict) and (tier := self._decided_tier(record)):
                return RoutingDecision(
                    tier=tier,
                    model=self.pair.of(tier),
                    score=record.get("score"),
                    threshold=record.get("threshold"),
                    router=record["router"],
                    reason="the turn stays on the model that it began with",
                )
        return None

    def _decided_tier(self, record: dict[str, Any]) -> Tier | None:
        tier = record.get("tier")
        if tier not in ("strong", "weak") or record.get("router") != self.selector.router.name:
            return None
        if record.get("model") != self.pair.of(tier):
            return None  # another pair's answer, in a conversation that several agents share
        return str(tier)


def other_tier(tier: Tier) -> Tier:
    """Return the tier that ``tier`` is not."""
    return "weak" if tier == "strong" else "strong"
