"""``ModelSelector``: from messages to a decision. It never calls a model.

What it decides, in this order: a model that the caller names; the model that alone can go on with what the request
refers to, or whose turn it is; the score, and with it the model that the conversation needed before; and in all of it
only models that can take the request. Which model answered it learns by :meth:`ModelSelector.record`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, Self, TypeAlias

from routellm_core.backends.base import ModelSettings
from routellm_core.calibration import CalibrationSource, calibrations_by_router, resolve_threshold
from routellm_core.capabilities import Capabilities, capabilities_of, misfits
from routellm_core.decision import StrongShare, decide, requested_threshold
from routellm_core.errors import BackendError, ConfigError, RoutingError, ScoringError, UnsupportedPromptError
from routellm_core.memory import ConversationMemory
from routellm_core.pricing import Price, price_of
from routellm_core.prompts import Extract, routing_prompt
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router
from routellm_core.scoring import AsyncScorer, scores_or_errors
from routellm_core.turns import Recorder, Turn, without_state
from routellm_core.typed_text import WRAPPERS, tag_name
from routellm_core.types import ChatMessage, ModelPair, RoutingDecision, Tier

__all__ = ["ConversationMemory", "ModelSelector", "ScoringFailurePolicy", "Turn"]

logger = logging.getLogger(__name__)

ScoringFailurePolicy: TypeAlias = Literal["strong", "weak", "raise"]
Conversation: TypeAlias = str | Sequence[ChatMessage] | Turn
"""A bare prompt, a list of chat messages, or a request that was read already."""

_FRESH_BYTES = 24
"""A question that is shorter ("why?", "and in Rust?") lives on the conversation and does not stand on its own."""
_ANSWER_TOKENS = 500
"""How long an answer is taken to be where the prices of two models are compared."""


@dataclass(frozen=True)
class _Question:
    """A text to score, and what its score is compared with.

    Attributes:
        turn: the request.
        prompt: its text.
        threshold: in [0, 1].
        known: what the memory knows of it, by key.
        misfits: models that cannot take it, and why.
    """

    turn: Turn
    prompt: str
    threshold: float
    known: Mapping[str, Tier]
    misfits: Mapping[Tier, str]


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
        wrappers: further names of blocks that are not the user's words, beside
            :data:`~routellm_core.typed_text.WRAPPERS`; with ``extract`` they have no effect.
        sticky: ``"auto"`` keeps a conversation on the strong model once it needed that, until an easy question of its
            own; ``"conversation"`` keeps it there for good; None decides each of the user's turns afresh. Within a
            turn, and for what only one model can go on with, the model never changes.
        sticky_release: with ``"auto"``, a question is easy that scores below this share of the threshold.
        memory: which model has which conversation, to share it or to set its limits.
        models: how the models are reached, by tier; says what they can take and cost where litellm's map does not.

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
        wrappers: Collection[str] = (),
        sticky: Literal["auto", "conversation"] | None = "auto",
        sticky_release: float = 0.5,
        memory: ConversationMemory | None = None,
        models: Mapping[Tier, ModelSettings] | None = None,
    ) -> None:
        _check_choice("no_prompt_tier", no_prompt_tier, ("strong", "weak"))
        _check_choice("on_scoring_error", on_scoring_error, ("strong", "weak", "raise"))
        _check_choice("sticky", sticky, (None, "auto", "conversation"))
        if not 0 <= sticky_release <= 1:
            raise ConfigError(f"sticky_release={sticky_release!r} must be a share of the threshold, from 0 to 1")
        self.router = load_router(router) if isinstance(router, str) else router
        self.pair = pair
        name = self.router.name
        self.calibration = calibrations_by_router(calibration, {name: self.router}).get(name)
        requested = requested_threshold(threshold, strong_share)
        if requested is None and self.calibration is not None and self.calibration.result is not None:
            requested = self.calibration.result.threshold.value
        self._prepare()
        self.threshold = None if requested is None else self._resolve(requested)
        if wrappers and extract is routing_prompt:
            extract = partial(routing_prompt, wrappers=WRAPPERS | set(map(tag_name, wrappers)))
        self._extract = extract
        self.no_prompt_tier = no_prompt_tier
        self.on_scoring_error = on_scoring_error
        self.sticky = sticky
        self._is_sticky = sticky is not None
        self._sticky_release = sticky_release if sticky == "auto" else 0.0
        self.memory = ConversationMemory() if memory is None else memory
        self._models = {tier: (models or {}).get(tier, pair.of(tier)) for tier in pair.tiers}

    def _prepare(self) -> None:
        # Bounded, since model names bring shares from outside.
        resolved = partial(resolve_threshold, router=self.router, calibration=self.calibration)
        self._resolve: Callable[[float | StrongShare], float] = lru_cache(maxsize=256)(resolved)
        self._async_scorer = AsyncScorer(self.router)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        # Frameworks copy what holds a selector; its router, worker threads and memory are meant to be shared.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Worker threads do not travel, and a memory's conversations stay with the process that had them.
        left = ("_resolve", "_async_scorer", "capabilities", "_prices")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @cached_property
    def capabilities(self) -> dict[Tier, Capabilities]:
        """What each of the models can take."""
        return {tier: capabilities_of(model) for tier, model in self._models.items()}

    @cached_property
    def _prices(self) -> dict[Tier, Price | None]:
        return {tier: price_of(model) for tier, model in self._models.items()}

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
            conversation: a prompt, chat messages, or a :class:`~routellm_core.turns.Turn`.
            threshold: overrides the selector's; a number in [0, 1], or a share of strong calls such as ``"50%"``.
            strong_share: the same share as a number in [0, 1].
            session: the conversation's id; None derives one from its opening, where that is distinctive.
            force: skips scoring and takes this tier.

        Raises:
            UnsupportedPromptError: neither a prompt nor well-formed, non-empty messages.
            UnfittingRequestError: no model can take the request.
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
        question = await self._apart(self._question, _turn(conversation, session), requested, force)
        if isinstance(question, RoutingDecision):
            return self._logged(question)
        started = time.perf_counter()
        try:
            score: float | Exception = await self._async_scorer.score(question.prompt)
        except Exception as error:
            score = error
        decision = self._decide(question, score, time.perf_counter() - started)
        kept: RoutingDecision = await self._apart(self._kept_in_mind, question, decision)
        return kept

    async def _apart(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do what may ask a shared memory without blocking the event loop."""
        return work(*arguments) if self.memory.is_local else await asyncio.to_thread(work, *arguments)

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
            self._question(_turn(conversation, session), requested, force)
            for conversation, session in zip(conversations, session_ids, strict=True)
        ]
        prompts = [question.prompt for question in questions if isinstance(question, _Question)]
        started = time.perf_counter()
        scores = iter(scores_or_errors(self.router, prompts))
        seconds_each = (time.perf_counter() - started) / max(len(prompts), 1)
        decisions = [
            self._decide(question, next(scores), seconds_each) if isinstance(question, _Question) else question
            for question in questions
        ]
        return [
            self._kept_in_mind(question, decision) if isinstance(question, _Question) else self._logged(decision)
            for question, decision in zip(questions, decisions, strict=True)
        ]

    def recorder(self, turn: Turn, decision: RoutingDecision) -> Recorder:
        """Return what takes in the answer, so that its model goes on with what only that model can go on with.

        Args:
            turn: the request.
            decision: as it ended, after a fallback too.
        """
        return Recorder(self.memory, turn, decision.tier)

    def request_for(self, turn: Turn, parameters: Mapping[str, Any]) -> Callable[[Tier], Mapping[str, Any]]:
        """Return a function from a tier to the parameters that are sent to it.

        To another than the one that wrote it, the history goes without what only that one can read (signatures,
        encrypted reasoning).

        The function raises :class:`~routellm_core.errors.BackendError` for a tier that cannot go on, because the
        request refers to something that another one holds (an earlier response, a file, a container).
        """
        known = self._recall((*turn.keys.state, *turn.signatures))

        def sent(tier: Tier) -> Mapping[str, Any]:
            held = {known[key] for key in turn.keys.state if key in known}
            if held and tier not in held:
                holders = " and ".join(repr(self.pair.of(holder)) for holder in sorted(held))
                raise BackendError(
                    f"model {self.pair.of(tier)!r} cannot go on: {', '.join(turn.context.state)} is kept by {holders}. "
                    "Send the whole conversation, without such references, to have another model answer",
                    model=self.pair.of(tier),
                    status_code=409,
                    retryable=False,
                    code="state_at_another_model",
                )
            is_foreign = any(known.get(key, tier) != tier for key in turn.signatures)
            return without_state(parameters) if is_foreign else parameters

        return sent

    async def arequest_for(self, turn: Turn, parameters: Mapping[str, Any]) -> Callable[[Tier], Mapping[str, Any]]:
        """Do as :meth:`request_for` does, without blocking the event loop."""
        made: Callable[[Tier], Mapping[str, Any]] = await self._apart(self.request_for, turn, parameters)
        return made

    def _question(
        self, turn: Turn, requested: float | StrongShare | None, force: Tier | None
    ) -> _Question | RoutingDecision:
        if force is not None:
            _check_choice("force", force, self.pair.tiers)
            return self._unscored(force, f"the caller asked for the {force} model")
        limit = self._threshold(requested)
        unfit = misfits(turn.needs, self.capabilities, self.pair)
        known = self._recalled(turn)
        if (bound := self._bound(turn, known, unfit)) is not None:
            return bound
        prompt = self._extract(turn.messages)
        if prompt is not None and not isinstance(prompt, str):
            raise UnsupportedPromptError(f"extract returned {type(prompt).__name__}; it must return a string or None")
        if prompt is None or not prompt.strip():
            reason = f"no user text to route on; the default is the {self.no_prompt_tier} model"
            return self._placed(_Question(turn, "", limit, known, unfit), self._unscored(self.no_prompt_tier, reason))
        return _Question(turn, prompt, limit, known, unfit)

    def _recalled(self, turn: Turn) -> Mapping[str, Tier]:
        if len(turn.messages) == 1 and turn.context.session is None and not turn.context.state:
            return {}  # the beginning of a conversation
        keys = turn.keys
        conversation = () if keys.conversation is None else (f"{keys.conversation}:has", f"{keys.conversation}:held")
        return self._recall((*keys.bound, *filter(None, (keys.turn,)), *conversation))

    def _recall(self, keys: Sequence[str]) -> Mapping[str, Tier]:
        # A shared memory may hold the tiers of another configuration.
        return {key: tier for key, tier in self.memory.recall(keys).items() if tier in self.pair.tiers}

    def _bound(self, turn: Turn, known: Mapping[str, Tier], unfit: Mapping[Tier, str]) -> RoutingDecision | None:
        """Return the decision for the one model that can go on, where there is one."""
        if not known:
            return None
        keys = turn.keys
        if state := next((known[key] for key in keys.state if key in known), None):
            return self._unscored(state, f"the request refers to what the {state} model keeps")
        if not keys.is_within_turn:
            return None
        began = next((known[key] for key in (*keys.bound, keys.turn or "") if key in known), None)
        if began is None or began in unfit:
            return None
        return self._unscored(began, f"the turn stays on the {began} model, which is answering it")

    def _threshold(self, requested: float | StrongShare | None) -> float:
        if requested is not None:
            return self._resolve(requested)
        if self.threshold is None:
            raise RoutingError("no threshold: give one per call, or threshold=0.116 when building the selector")
        return self.threshold

    def _decide(self, question: _Question, score: float | Exception, seconds: float) -> RoutingDecision:
        if isinstance(score, Exception):
            decision = replace(self._after_failure(score), latency_seconds=seconds, threshold=question.threshold)
        else:
            router = self.router.name
            decision = decide(float(score), question.threshold, self.pair, router=router, latency_seconds=seconds)
        return self._placed(question, decision)

    def _after_failure(self, error: Exception) -> RoutingDecision:
        # A router is foreign code as far as a request is concerned: whatever it raises, the policy decides.
        tier = self.on_scoring_error
        failure = error
        if not isinstance(failure, ScoringError):
            failure = ScoringError(f"router {self.router.name!r} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
        if tier == "raise":
            raise failure
        logger.warning("scoring failed; taking the %s model: %s", tier, failure)
        return self._unscored(tier, f"scoring failed, so the policy takes the {tier} model: {failure}")

    def _unscored(self, tier: Tier, reason: str) -> RoutingDecision:
        return RoutingDecision(
            tier=tier, model=self.pair.of(tier), score=None, threshold=None, router=self.router.name, reason=reason
        )

    def _placed(self, question: _Question, decision: RoutingDecision) -> RoutingDecision:
        """Return the decision with regard to the conversation so far, and to what the models can take."""
        conversation = question.turn.keys.conversation if question.known else None
        known = question.known
        held = known.get(f"{conversation}:held")
        is_below = self._is_sticky and held is not None and self._rung(held) > self._rung(decision.tier)
        if held is not None and is_below and not self._may_leave(question, decision, held):
            reason = f"the conversation stays on the {held} model ({decision.reason})"
            decision = self._moved(decision, held, reason, kept=True)
        if (why := question.misfits.get(decision.tier)) is not None:
            other = self._nearest_fit(decision.tier, question.misfits)
            reason = f"{decision.reason}; {decision.model} {why}, so {self.pair.of(other)} answers"
            decision = self._moved(decision, other, reason, passed_over={decision.model: why})
        has = known.get(f"{conversation}:has")
        if has is not None and has != decision.tier:
            decision = self._with_switch(question, decision, has)
        return decision

    def _moved(self, decision: RoutingDecision, tier: Tier, reason: str, **details: Any) -> RoutingDecision:
        together = {**decision.details, **details}
        return replace(decision, tier=tier, model=self.pair.of(tier), reason=reason, details=together)

    def _rung(self, tier: Tier) -> int:
        return self.pair.tiers.index(tier)

    def _nearest_fit(self, tier: Tier, unfit: Mapping[Tier, str]) -> Tier:
        """Return the next stronger model that can take the request, else the next weaker."""
        rung = self._rung(tier)
        order = (*self.pair.tiers[rung:], *reversed(self.pair.tiers[:rung]))
        return next(other for other in order if other not in unfit)

    def _may_leave(self, question: _Question, decision: RoutingDecision, held: Tier) -> bool:
        """Return whether a question is easy enough, and of its own, to leave the model that the conversation needed."""
        is_fresh = len(question.prompt.encode("utf-8", "surrogatepass")) >= _FRESH_BYTES
        if decision.score is None or not is_fresh or decision.score >= question.threshold * self._sticky_release:
            return False
        extra = self._switch_dollars(question, held, decision.tier, answer=_ANSWER_TOKENS)
        return extra is None or extra <= 0

    def _switch_dollars(self, question: _Question, old: Tier, new: Tier, *, answer: int) -> float | None:
        """Return what the new model costs more than the old one, whose prompt cache holds the conversation so far."""
        before, after = self._prices[old], self._prices[new]
        if before is None or after is None:
            return None
        tokens = question.turn.needs.tokens
        cached = max(0, tokens - len(question.prompt) // 4)
        return float(after.dollars(tokens, answer) - before.dollars(tokens, answer, cached))

    def _with_switch(self, question: _Question, decision: RoutingDecision, old: Tier) -> RoutingDecision:
        switch: dict[str, Any] = {"from": self.pair.of(old), "from_tier": old, "tokens": question.turn.needs.tokens}
        before, after = self._prices[old], self._prices[decision.tier]
        if before is not None and after is not None and before.cached_input_cost_per_token is not None:
            # What the old model would have read from its cache, and the new one reads for the first time.
            read = after.input_cost_per_token - before.cached_input_cost_per_token
            switch["dollars"] = question.turn.needs.tokens * read
        return replace(decision, details={**decision.details, "switch": switch})

    def _kept_in_mind(self, question: _Question, decision: RoutingDecision) -> RoutingDecision:
        """Remember which model a conversation needs: a judgement, neither a default nor a failed scoring."""
        conversation = question.turn.keys.conversation if self._is_sticky else None
        if conversation is not None and decision.score is not None and not decision.details.get("kept"):
            judged = decide(decision.score, question.threshold, self.pair, router=decision.router).tier
            was = question.known.get(f"{conversation}:held")
            if judged != was and (was is not None or self._rung(judged) > 0):
                self.memory.remember({f"{conversation}:held": judged})
        return self._logged(decision)

    def _logged(self, decision: RoutingDecision) -> RoutingDecision:
        if logger.isEnabledFor(logging.INFO):
            names = ("router", "tier", "score", "threshold", "latency_seconds")
            logger.info("routed to %s", decision.tier, extra={name: getattr(decision, name) for name in names})
        return decision


def _turn(conversation: Conversation, session: str | None) -> Turn:
    if not isinstance(conversation, Turn):
        return Turn.of(conversation, session=session)
    if session is None or conversation.context.session is not None:
        return conversation
    return replace(conversation, context=replace(conversation.context, session=session))


def _check_choice(option: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option}={value!r} must be one of {', '.join(map(repr, allowed))}")
