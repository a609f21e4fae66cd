"""``RouteLLMDecision``: a router as LangChain's decision model, local and free, for ``ModelRouterMiddleware``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from langchain_routellm.messages import conversation_of
from routellm_core import load_config
from routellm_core.adapters import build_selector, check_option_names, resolve_router
from routellm_core.calibration import resolve_threshold
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import ConfigError, InvalidThresholdError, UnsupportedPromptError
from routellm_core.selector import ModelSelector
from routellm_core.types import ModelPair

try:
    from langchain_core.decisions import (
        BaseDecisionModel,
        Choice,
        ChoiceAnswer,
        ClassifierResponse,
        Noul,
        NoulAnswer,
        Score,
        ScoreAnswer,
    )
except ModuleNotFoundError as missing:
    raise ImportError(
        "RouteLLMDecision needs langchain-core 1.8 or newer, whose decision models it is one of. "
        "Install it with: pip install 'langchain-core>=1.8'"
    ) from missing

__all__ = ["RouteLLMDecision"]


class RouteLLMDecision(BaseDecisionModel):
    """Answers how hard a request is, out of a router's score: nothing is called, and nothing leaves the machine.

    ::

        classifier = RouteLLMDecision("mf", strong_share=0.3)
        choices = {"fast": ModelChoice(nano, "easy"), "powerful": ModelChoice(big, "hard")}  # cheap to strong
        create_agent(nano, middleware=[ModelRouterMiddleware(choices=choices, instructions="", classifier=classifier)])

    Only the request is judged; instructions and descriptions of the criteria are not read. What stands in their place
    is the **order of the criteria, from the cheap to the strong**:

    - ``Choice``: the label for the request. Of two, the second where the score reaches the threshold; of k, as many
      thresholds as steps (``threshold=[0.1, 0.2]``), or a share for each label (``strong_share=[0.3, 0.2]``: of all
      requests 30 % for the second label and 20 % for the third); without either, equal shares. ``probabilities`` say
      how near the next label is (one half each at a threshold), ``confidence`` how far the score is from all of them.
    - ``Score``: the same as a position on the rubric.
    - ``Noul``: P(the strong model's answer is better), the score itself.
    - ``Box`` is refused.

    Args:
        router: a router's name, or a loaded router; by default the configured one.
        threshold: in [0, 1] or a share such as ``"30%"``; for a ladder, a rising list of numbers.
        strong_share: the share of requests for the strong model; for a ladder, of each label but the first.
        calibration: one's own traffic, or its file; resolves shares, and gives the threshold where none is given.
        extract: picks the text to judge out of messages; by default the last user message.
        on_scoring_error: the answer where scoring fails: ``"strong"`` (the last label), ``"weak"`` or ``"raise"``.

    Raises:
        RouteLLMError: an option is unknown or out of range, or the router cannot be loaded.
    """

    model: str = ""
    router: Any = None
    threshold: Any = None
    strong_share: Any = None
    calibration: Any = None
    extract: Any = None
    on_scoring_error: Any = None

    _selector: ModelSelector = PrivateAttr()

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        given = {"router": router, "threshold": threshold, **options}
        check_option_names(given, type(self).model_fields, subject=type(self).__name__)
        if threshold is not None and options.get("strong_share") is not None:
            raise InvalidThresholdError("threshold= and strong_share= say the same in two ways; give one of them")
        super().__init__(**given)
        config = load_config()
        loaded = resolve_router(config.router if router is None else router, config)
        is_ladder = isinstance(threshold, Sequence) and not isinstance(threshold, str)
        is_ladder = is_ladder or isinstance(self.strong_share, Sequence)
        self._selector = build_selector(
            loaded,
            ModelPair("strong", "weak"),
            config,
            threshold=0.5 if is_ladder else threshold,
            strong_share=None if is_ladder else self.strong_share,
            calibration=self.calibration,
            extract=self.extract,
            on_scoring_error=self.on_scoring_error or config.on_scoring_error,
            wrappers=config.wrappers,
            sticky=None,
        )
        self.model = self.model or f"router-{loaded.name}"

    @property
    def _provider(self) -> str:
        return "routellm"

    def _classify(self, state: Any, questions: dict[str, Any]) -> ClassifierResponse:
        decision = self._selector.select(_conversation(state))
        return self._answers(decision.score, decision.tier, questions)

    async def _aclassify(self, state: Any, questions: dict[str, Any]) -> ClassifierResponse:
        decision = await self._selector.aselect(_conversation(state))
        return self._answers(decision.score, decision.tier, questions)

    def _answers(self, score: float | None, tier: str, questions: Mapping[str, Any]) -> ClassifierResponse:
        answers = {name: self._answer(score, tier, question) for name, question in questions.items()}
        return ClassifierResponse(model=self.model, answers=answers)

    def _answer(self, score: float | None, tier: str, question: Any) -> Any:
        if isinstance(question, Noul):
            return NoulAnswer(type="noul", noul=float(tier == "strong") if score is None else score)
        if not isinstance(question, (Choice, Score)):
            raise UnsupportedPromptError(
                f"RouteLLMDecision answers Choice, Score and Noul questions, not {type(question).__name__}: it judges "
                "how hard a request is"
            )
        count = len(question.criteria)
        if score is None:  # scoring failed, and the policy decides
            place, confidence = (count - 1.0 if tier == "strong" else 0.0), 0.0
        else:
            thresholds = self._thresholds(count)
            place, confidence = _place(score, thresholds), _certainty(score, thresholds)
        shares = [max(0.0, 1.0 - abs(place - index)) for index in range(count)]
        if isinstance(question, Score):
            legend, probabilities = dict(enumerate(question.criteria)), dict(enumerate(shares))
            return ScoreAnswer(
                type="score", score=place, legend=legend, probabilities=probabilities, confidence=confidence
            )
        labels = list(question.criteria)
        choice = labels[min(int(place + 0.5), count - 1)]
        probabilities_by_label = dict(zip(labels, shares, strict=True))
        return ChoiceAnswer(type="choice", choice=choice, probabilities=probabilities_by_label, confidence=confidence)

    def _thresholds(self, count: int) -> list[float]:
        """Return the thresholds between ``count`` labels, rising."""
        own = self.threshold if self.strong_share is None else self.strong_share
        if isinstance(own, Sequence) and not isinstance(own, str):
            if len(own) != count - 1:
                raise ConfigError(f"{len(own)} thresholds or shares are for {len(own) + 1} labels; there are {count}")
            limits = own if self.strong_share is None else [StrongShare(sum(own[index:])) for index in range(count - 1)]
        elif count == 2 and self._selector.threshold is not None:
            return [self._selector.threshold]
        elif count > 2 and own is not None:
            raise ConfigError(f"one threshold is for two labels; give {count - 1} of them for {count}")
        else:
            limits = [StrongShare(1 - step / count) for step in range(1, count)]
        resolved = [self._resolved(limit) for limit in limits]
        if resolved != sorted(resolved):
            raise InvalidThresholdError(f"the thresholds of a ladder must rise, got {resolved}")
        return resolved

    def _resolved(self, limit: Any) -> float:
        return resolve_threshold(parse_threshold(limit), self._selector.router, self._selector.calibration)


def _place(score: float, thresholds: Sequence[float]) -> float:
    """Return where a score lies among the labels: at threshold i it is i + 0.5, and linear in between."""
    points = [0.0, *thresholds, 1.0]
    values = [0.0, *(index + 0.5 for index in range(len(thresholds))), float(len(thresholds))]
    reached = sum(score >= limit for limit in thresholds)
    low, high = points[reached], points[reached + 1]
    share = (score - low) / (high - low) if high > low else 1.0
    place = values[reached] + share * (values[reached + 1] - values[reached])
    # Just below a threshold it must not be rounded up.
    return min(place, reached + 0.5 - 1e-9) if reached < len(thresholds) else place


def _certainty(score: float, thresholds: Sequence[float]) -> float:
    """Return how far a score is from the next threshold, of the way that there is: 0 at it, 1 at the far end."""
    reached = sum(score >= limit for limit in thresholds)
    points = [0.0, *thresholds, 1.0]
    low, high = points[reached], points[reached + 1]
    if not thresholds or high <= low:
        return 1.0
    if reached == 0:
        return (high - score) / (high - low)
    if reached == len(thresholds):
        return (score - low) / (high - low)
    return 2 * min(score - low, high - score) / (high - low)


def _conversation(state: Any) -> Any:
    if isinstance(state, BaseMessage):
        return conversation_of([state])
    if isinstance(state, Mapping) and "messages" in state:
        return _conversation(state["messages"])
    if isinstance(state, Sequence) and not isinstance(state, str) and state:
        if all(isinstance(item, BaseMessage) for item in state):
            return conversation_of(state)
        if all(isinstance(item, Mapping) and "role" in item for item in state):
            return list(state)
    return state if isinstance(state, str) else json.dumps(state, default=str, ensure_ascii=False)
