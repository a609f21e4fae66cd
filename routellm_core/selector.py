"""``ModelSelector``: from messages to a decision. It never calls a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Self, TypeAlias

from routellm_core.calibration import CalibrationSource, fitting_calibration, resolve_threshold
from routellm_core.decision import StrongShare, decide, requested_threshold
from routellm_core.errors import ConfigError, RoutingError, ScoringError, UnsupportedPromptError
from routellm_core.memory import ConversationMemory, conversation_key
from routellm_core.prompts import Extract, as_messages, routing_prompt
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router
from routellm_core.scoring import AsyncScorer, scores_or_errors
from routellm_core.types import ChatMessage, ModelPair, RoutingDecision, Tier

__all__ = ["ModelSelector", "ScoringFailurePolicy"]

logger = logging.getLogger(__name__)

ScoringFailurePolicy: TypeAlias = Literal["strong", "weak", "raise"]
Conversation: TypeAlias = str | Sequence[ChatMessage]
"""A bare prompt, or a list of chat messages."""


@dataclass(frozen=True)
class _Question:
    """A text to score and what to compare its score with."""

    prompt: str
    threshold: float
    session: str | None


@dataclass(frozen=True)
class _Settled:
    """A decision that needs no scoring."""

    decision: RoutingDecision
    session: str | None


class ModelSelector:
    """Decides which model of a pair a conversation goes to.

    Args:
        router: a router, or its name (loaded with default options).
        pair: the two models to decide between.
        threshold: in [0, 1]; a score that reaches it goes to the strong model. ``"50%"`` takes the threshold that sends
            half of the calibrated traffic there. May be given per call instead.
        strong_share: another way to say ``threshold="50%"``: 0.5.
        calibration: one's own traffic's scores, or the file of ``routellm calibrate --save``; resolves shares in place
            of the checkpoint's reference quantiles, and its threshold is the default where none is given.
        extract: picks the text to route on out of messages; by default the last user message with text.
        no_prompt_tier: the tier for messages without any user text (an image alone, a summary).
        on_scoring_error: where to go when the score cannot be computed: ``"strong"``, ``"weak"`` or ``"raise"``.
        sticky: ``"conversation"`` keeps a conversation on the strong model once it went there; None decides each
            request afresh.
        memory: the store for ``sticky``, to share it or to set its size and time limit.

    Raises:
        ConfigError: an option outside its allowed values.
        InvalidThresholdError: a threshold that is neither a number in [0, 1] nor a share; or a share, with neither a
            calibration nor reference quantiles.
        CalibrationError: a calibration that is unreadable or for another router or checkpoint.
    """

    def __init__(
        self,
        router: Router | str,
        pair: ModelPair,
        *,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        calibration: CalibrationSource | None = None,
        extract: Extract = routing_prompt,
        no_prompt_tier: Tier = "strong",
        on_scoring_error: ScoringFailurePolicy = "strong",
        sticky: Literal["conversation"] | None = None,
        memory: ConversationMemory | None = None,
    ) -> None:
        _check_choice("no_prompt_tier", no_prompt_tier, ("strong", "weak"))
        _check_choice("on_scoring_error", on_scoring_error, ("strong", "weak", "raise"))
        _check_choice("sticky", sticky, (None, "conversation"))
        self.router = load_router(router) if isinstance(router, str) else router
        self.pair = pair
        self.calibration = fitting_calibration(calibration, self.router)
        requested = requested_threshold(threshold, strong_share)
        if requested is None and self.calibration is not None and self.calibration.result is not None:
            requested = self.calibration.result.threshold.value
        self._prepare()
        self.threshold = None if requested is None else self._resolve(requested)
        self._extract = extract
        self._no_prompt_tier = no_prompt_tier
        self._on_scoring_error = on_scoring_error
        self._memory = (memory or ConversationMemory()) if sticky else None

    def _prepare(self) -> None:
        # Bounded, since model names bring shares from outside.
        self._resolve = lru_cache(maxsize=256)(self._resolved)
        self._async_scorer = AsyncScorer(self.router)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        # Frameworks copy what holds a selector; its router, worker threads and memory are meant to be shared.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Worker threads do not travel, and a memory's conversations stay with the process that had them.
        return {name: value for name, value in self.__dict__.items() if name not in ("_resolve", "_async_scorer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def select(
        self,
        conversation: Conversation,
        *,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        session: str | None = None,
        force: Tier | None = None,
    ) -> RoutingDecision:
        """Decide for one conversation.

        Args:
            conversation: a prompt, or chat messages.
            threshold: overrides the selector's; a number in [0, 1], or a share of strong calls such as ``"50%"``.
            strong_share: the same share as a number in [0, 1].
            session: the conversation's id for stickiness; None derives one from its opening.
            force: skips scoring and takes this tier.

        Raises:
            UnsupportedPromptError: neither a prompt nor well-formed, non-empty messages.
            RoutingError: no threshold here nor in the selector.
            InvalidThresholdError: a threshold outside [0, 1], or a share that nothing resolves.
            ScoringError: the score cannot be computed and ``on_scoring_error`` is ``"raise"``.
        """
        return self.select_batch(
            [conversation], threshold=threshold, strong_share=strong_share, sessions=[session], force=force
        )[0]

    async def aselect(
        self,
        conversation: Conversation,
        *,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        session: str | None = None,
        force: Tier | None = None,
    ) -> RoutingDecision:
        """Decide as :meth:`select` does; scoring runs in a worker thread, batched with other tasks' prompts."""
        requested = requested_threshold(threshold, strong_share)
        question = self._question(conversation, requested, session, force)
        if isinstance(question, _Settled):
            return self._finish(question.decision, question.session)
        started = time.perf_counter()
        try:
            score: float | ScoringError = await self._async_scorer.score(question.prompt)
        except Exception as error:
            score = self._scoring_failure(error)
        return self._finish(self._decide(question, score, time.perf_counter() - started), question.session)

    def select_batch(
        self,
        conversations: Sequence[Conversation],
        *,
        threshold: float | str | StrongShare | None = None,
        strong_share: float | None = None,
        sessions: Sequence[str | None] | None = None,
        force: Tier | None = None,
    ) -> list[RoutingDecision]:
        """Decide for many conversations with one call of the router; the same as :meth:`select` for each.

        Raises:
            UnsupportedPromptError: one of them is no conversation, or ``conversations`` is a text itself.
            ValueError: ``sessions`` has another length than ``conversations``.
        """
        if isinstance(conversations, str):
            raise UnsupportedPromptError("conversations is one text; give a list of conversations, [text]")
        session_ids = [None] * len(conversations) if sessions is None else sessions
        requested = requested_threshold(threshold, strong_share)
        questions = [
            self._question(conversation, requested, session, force)
            for conversation, session in zip(conversations, session_ids, strict=True)
        ]
        prompts = [question.prompt for question in questions if isinstance(question, _Question)]
        started = time.perf_counter()
        scores = iter(self._scores(prompts))
        seconds_each = (time.perf_counter() - started) / max(len(prompts), 1)
        return [
            self._finish(self._decide(question, next(scores), seconds_each), question.session)
            if isinstance(question, _Question)
            else self._finish(question.decision, question.session)
            for question in questions
        ]

    def _question(
        self,
        conversation: Conversation,
        requested: float | StrongShare | None,
        session: str | None,
        force: Tier | None,
    ) -> _Question | _Settled:
        if isinstance(conversation, str):
            messages: Sequence[ChatMessage] = [{"role": "user", "content": conversation}]
        else:
            messages = as_messages(conversation)
        if self._memory is not None and session is None:
            session = conversation_key(messages)
        if force is not None:
            _check_choice("force", force, ("strong", "weak"))
            return _Settled(self._unscored(force, f"the caller asked for the {force} model"), None)
        limit = self._threshold(requested)
        prompt = self._extract(messages)
        if prompt is not None and not isinstance(prompt, str):
            raise UnsupportedPromptError(f"extract returned {type(prompt).__name__}; it must return a string or None")
        if prompt is None or not prompt.strip():
            reason = f"no user text to route on; the default is the {self._no_prompt_tier} model"
            return _Settled(self._unscored(self._no_prompt_tier, reason), session)
        return _Question(prompt, limit, session)

    def _resolved(self, requested: float | StrongShare) -> float:
        return resolve_threshold(requested, self.router, self.calibration)

    def _threshold(self, requested: float | StrongShare | None) -> float:
        if requested is not None:
            return self._resolve(requested)
        if self.threshold is None:
            raise RoutingError("no threshold: give one per call, or threshold=0.116 when building the selector")
        return self.threshold

    def _scores(self, prompts: Sequence[str]) -> list[float | ScoringError]:
        results = scores_or_errors(self.router, prompts)
        return [self._scoring_failure(item) if isinstance(item, Exception) else item for item in results]

    def _scoring_failure(self, error: Exception) -> ScoringError:
        # A router is foreign code as far as a request is concerned: whatever it raises, the policy decides.
        failure = error
        if not isinstance(failure, ScoringError):
            failure = ScoringError(f"router {self.router.name!r} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
        if self._on_scoring_error == "raise":
            raise failure
        logger.warning("scoring failed; taking the %s model: %s", self._on_scoring_error, failure)
        return failure

    def _decide(self, question: _Question, score: float | ScoringError, seconds: float) -> RoutingDecision:
        if isinstance(score, ScoringError):
            tier: Tier = "weak" if self._on_scoring_error == "weak" else "strong"
            decision = self._unscored(tier, f"scoring failed, so the policy takes the {tier} model: {score}")
            return replace(decision, latency_seconds=seconds, threshold=question.threshold)
        return decide(float(score), question.threshold, self.pair, router=self.router.name, latency_seconds=seconds)

    def _unscored(self, tier: Tier, reason: str) -> RoutingDecision:
        return RoutingDecision(
            tier=tier, model=self.pair.of(tier), score=None, threshold=None, router=self.router.name, reason=reason
        )

    def _finish(self, decision: RoutingDecision, session: str | None) -> RoutingDecision:
        if self._memory is not None and session is not None:
            decision = self._stick(self._memory, session, decision)
        if logger.isEnabledFor(logging.INFO):
            names = ("router", "tier", "score", "threshold", "latency_seconds")
            logger.info("routed to %s", decision.tier, extra={name: getattr(decision, name) for name in names})
        return decision

    def _stick(self, memory: ConversationMemory, session: str, decision: RoutingDecision) -> RoutingDecision:
        if decision.tier == "strong":
            if decision.score is not None:  # a default or a failed scoring is no judgement to remember
                memory.remember_strong(session)
            return decision
        if not memory.is_strong(session):
            return decision
        return replace(
            decision,
            tier="strong",
            model=self.pair.strong,
            reason=f"the conversation stays on the strong model ({decision.reason})",
        )


def _check_choice(option: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option}={value!r} must be one of {', '.join(map(repr, allowed))}")
