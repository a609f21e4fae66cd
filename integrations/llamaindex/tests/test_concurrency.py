"""Many questions at once: each keeps its own decision. And one question, many calls: one decision."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex, get_response_synthesizer
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.routellm.settled import SettledQuestions

from routellm_core import load_router
from routellm_core.adapters import AdapterRequest
from routellm_core.errors import ScoringError
from routellm_core.testing import FixedScoreRouter
from routellm_core.turns import Turn
from routellm_core.types import RoutingDecision

QUESTIONS = [f"{'hard ' if number % 2 else ''}question {number}" for number in range(24)]


def answered_by(text: str) -> str:
    return text.partition(" ")[0]


def right(question: str) -> str:
    return "big" if "hard" in question else "small"


async def test_concurrent_tasks_do_not_mix(build: Any) -> None:
    llm = build()

    async def one(question: str) -> str:
        if question.endswith(("3", "6")):
            stream = await llm.astream_complete(question)
            return [chunk async for chunk in stream][-1].text
        return (await llm.achat([ChatMessage(role="user", content=question)])).message.content

    answers = await asyncio.gather(*map(one, QUESTIONS))
    assert answers == [f"{right(question)} answers: {question}" for question in QUESTIONS]


def test_threads_do_not_mix(build: Any, index: VectorStoreIndex) -> None:
    engine = index.as_query_engine(llm=build())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: str(engine.query(question)), QUESTIONS))
    assert [answered_by(answer) for answer in answers] == [right(question) for question in QUESTIONS]
    assert sorted(build.scored) == sorted(QUESTIONS)


@pytest.mark.parametrize("mode", ["accumulate", "tree_summarize"])
def test_asynchronous_synthesis_within_a_synchronous_query(build: Any, index: VectorStoreIndex, mode: str) -> None:
    synthesizer = get_response_synthesizer(llm=build(), response_mode=mode, use_async=True)
    nodes = index.as_retriever(similarity_top_k=3).retrieve("hard")
    for question in QUESTIONS[:4]:
        start = len(build.answered)
        synthesizer.synthesize(question, nodes)
        assert set(build.answered[start:]) == {right(question)}


async def test_concurrent_queries_do_not_mix(build: Any, index: VectorStoreIndex) -> None:
    engine = index.as_query_engine(llm=build(), response_mode="refine", similarity_top_k=2)
    answers = await asyncio.gather(*map(engine.aquery, QUESTIONS[:8]))
    assert [answered_by(str(answer)) for answer in answers] == [right(question) for question in QUESTIONS[:8]]


@pytest.mark.parametrize("mode", ["refine", "accumulate"])
async def test_a_question_keeps_its_model_where_scores_vary(build: Any, index: VectorStoreIndex, mode: str) -> None:
    llm = build(router=load_router("random"))
    engine = index.as_query_engine(llm=llm, response_mode=mode, similarity_top_k=4)
    models = []
    for question in QUESTIONS[:12]:
        start = len(build.answered)
        await engine.aquery(question)
        assert len(set(build.answered[start:])) == 1
        assert len(build.answered[start:]) >= 4
        models.append(build.answered[start])
    assert set(models) == {"big", "small"}  # it is still random between questions


def test_a_question_keeps_its_model_where_scoring_fails_half_way(build: Any, index: VectorStoreIndex) -> None:
    class Failing(FixedScoreRouter):
        def score(self, prompts: Any) -> Any:
            if self.batches:
                raise ScoringError("the embedding service is down")
            return super().score(prompts)

    llm = build(router=Failing(score=0.0), on_scoring_error="strong")
    index.as_query_engine(llm=llm, response_mode="refine", similarity_top_k=3).query("a question")
    assert build.answered == ["small"] * 3


def test_questions_can_be_decided_afresh(build: Any) -> None:
    llm = build(settle_seconds=0)
    for _ in range(3):
        llm.complete("again")
    assert build.scored == ["again"] * 3


def asking(text: str, **options: Any) -> AdapterRequest:
    return AdapterRequest(Turn.of(text), **options)


def test_settled_questions_are_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("llama_index.llms.routellm.settled.time.monotonic", lambda: now[0])
    settled = SettledQuestions(10, capacity=2)
    strong, weak = (RoutingDecision(tier, tier, 0.5, 0.5, "r", "") for tier in ("strong", "weak"))
    assert settled.settle(asking("a"), strong) is strong
    assert settled.settle(asking("a"), weak) is strong  # a concurrent call was first
    now[0] += 9
    assert settled.get(asking("a")) is strong
    assert settled.get(asking("a", threshold=0.7)) is None
    now[0] += 9
    assert settled.get(asking("a")) is strong  # used 9 seconds ago
    now[0] += 11
    assert settled.get(asking("a")) is None
    for key in "xyz":
        settled.settle(asking(key), weak)
    assert [settled.get(asking(key)) for key in "xyz"] == [None, weak, weak]


def test_what_was_decided_because_scoring_failed_is_not_kept(build: Any) -> None:
    class Recovering(FixedScoreRouter):
        is_down = True

        def score(self, prompts: Any) -> Any:
            if self.is_down:
                raise ScoringError("the embedding service is down")
            return super().score(prompts)

    router = Recovering(score=0.0)
    llm = build(router=router, on_scoring_error="strong")
    llm.complete("a question")
    router.is_down = False
    llm.complete("a question")
    assert build.answered == ["big", "small"]
