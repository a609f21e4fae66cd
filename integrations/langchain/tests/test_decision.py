"""``RouteLLMDecision``: LangChain's own router middleware, with a local classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core.decisions")

from langchain.agents import create_agent
from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware
from langchain_core.decisions import BaseDecisionModel, Box, Choice, Noul, Score
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMDecision

from routellm_core import load_router
from routellm_core.errors import ConfigError, InvalidThresholdError, ScoringError, UnsupportedPromptError
from routellm_core.testing import FixedScoreRouter

OpenAI = Callable[..., ChatOpenAI]
ROUTER = FixedScoreRouter(score=lambda prompt: {"easy": 0.1, "middling": 0.4, "hard": 0.9}[prompt.split()[-1]])
TWO = {"q": Choice(instructions="Which?", criteria={"fast": "easy tasks", "powerful": "hard tasks"})}
THREE = {"q": Choice(instructions="Which?", criteria={"small": None, "middle": None, "big": None})}


def _choice(model: RouteLLMDecision, state: Any, questions: Any = TWO) -> Any:
    return model.invoke({"state": state, "questions": questions}).choices["q"]


@pytest.mark.filterwarnings("ignore:.*beta.*:Warning")
async def test_langchains_own_router_takes_it(openai: OpenAI) -> None:
    classifier = RouteLLMDecision(ROUTER, 0.5)
    assert isinstance(classifier, BaseDecisionModel)
    choices = {"fast": ModelChoice(openai("small"), "easy"), "powerful": ModelChoice(openai("big"), "hard")}
    router = ModelRouterMiddleware(choices=choices, instructions="Which model?", classifier=classifier)
    agent = create_agent(openai("other"), middleware=[router])
    for question, name in (("an easy", "small"), ("something easy", "small"), ("very hard", "big")):
        for state in (
            agent.invoke({"messages": [("human", question)]}),
            await agent.ainvoke({"messages": [("human", question)]}),
        ):
            assert state["messages"][-1].content == f"{name} answers: {question}"


def test_the_choice_is_made_at_the_threshold() -> None:
    model = RouteLLMDecision(ROUTER, 0.4)
    assert [_choice(model, state).choice for state in ("easy", "middling", "hard")] == ["fast", "powerful", "powerful"]
    at, far = _choice(model, "middling"), _choice(model, "hard")
    assert at.probabilities == {"fast": 0.5, "powerful": 0.5}
    assert (at.confidence, far.confidence) == (0.0, pytest.approx(5 / 6))
    assert sum(far.probabilities.values()) == pytest.approx(1)
    assert max(far.probabilities, key=far.probabilities.get) == far.choice


def test_a_ladder_of_models() -> None:
    model = RouteLLMDecision(ROUTER, [0.2, 0.6])
    labels = [_choice(model, state, THREE).choice for state in ("easy", "middling", "hard")]
    assert labels == ["small", "middle", "big"]
    with pytest.raises(ConfigError, match="2 thresholds or shares are for 3 labels; there are 2"):
        _choice(model, "easy")
    with pytest.raises(InvalidThresholdError, match="must rise"):
        _choice(RouteLLMDecision(ROUTER, [0.6, 0.2]), "easy", THREE)
    with pytest.raises(ConfigError, match="one threshold is for two labels; give 2 of them for 3"):
        _choice(RouteLLMDecision(ROUTER, 0.5), "easy", THREE)


def test_shares_hold_on_the_routers_traffic() -> None:
    router = load_router("random", {"by": "prompt", "seed": 2})
    prompts = [f"question {number}" for number in range(400)]
    for shares, expected in (([0.3, 0.2], (200, 120, 80)), (None, (133, 133, 133))):
        model = RouteLLMDecision(router, strong_share=shares)
        model.threshold = None
        labels = [_choice(model, prompt, THREE).choice for prompt in prompts]
        for label, count in zip(("small", "middle", "big"), expected, strict=True):
            assert abs(labels.count(label) - count) < 40


def test_scores_and_probabilities() -> None:
    model = RouteLLMDecision(ROUTER, [0.2, 0.6])
    questions = {"level": Score(instructions="How hard?", criteria=["a", "b", "c"]), "hard": Noul(instructions="Hard?")}
    response = model.invoke({"state": [HumanMessage("middling"), AIMessage("x")], "questions": questions})
    assert response.nouls["hard"].noul == 0.4
    answer = response.scores["level"]
    assert answer.score == pytest.approx(1.0)
    assert answer.legend == {0: "a", 1: "b", 2: "c"}
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    with pytest.raises(UnsupportedPromptError, match="not Box"):
        model.invoke({"state": "easy", "questions": {"where": Box(instructions="Where?")}})


def test_state_may_be_anything_that_langchain_takes() -> None:
    model = RouteLLMDecision(ROUTER, 0.5)
    messages = [HumanMessage("hard"), AIMessage("hard"), HumanMessage("easy")]
    states = ("easy", HumanMessage("easy"), messages, {"messages": messages}, [{"role": "user", "content": "easy"}])
    assert {_choice(model, state).choice for state in states} == {"fast"}
    seen = FixedScoreRouter(score=0.2)
    _choice(RouteLLMDecision(seen, 0.5), {"ticket": "It broke.", "level": 3})
    assert seen.batches[-1] == ['{"ticket": "It broke.", "level": 3}']


def test_failed_scoring_follows_the_policy() -> None:
    def broken(prompt: str) -> float:
        raise ScoringError("down")

    router = FixedScoreRouter(score=broken)
    assert _choice(RouteLLMDecision(router, 0.5), "x").choice == "powerful"
    weak = _choice(RouteLLMDecision(router, 0.5, on_scoring_error="weak"), "x")
    assert (weak.choice, weak.confidence) == ("fast", 0.0)
    with pytest.raises(ScoringError):
        _choice(RouteLLMDecision(router, 0.5, on_scoring_error="raise"), "x")
    with pytest.raises(ConfigError, match="Did you mean 'threshold'"):
        RouteLLMDecision(router, treshold=0.5)
