"""Chat engines: each turn is routed on what the person wrote, with and without documents and condensing."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.chat_engine.types import ChatMode

HARD, EASY = "Why is it hard to choose a threshold?", "Which file holds the configuration?"
MODES = [ChatMode.CONTEXT, ChatMode.CONDENSE_PLUS_CONTEXT]


async def converse(engine: Any) -> list[str]:
    """Two turns in each of the four ways, the second one with a history."""
    answers = [str(engine.chat(HARD)), str(engine.chat(EASY))]
    engine.reset()
    answers += [str(await engine.achat(HARD)), str(await engine.achat(EASY))]
    engine.reset()
    answers += ["".join(engine.stream_chat(question).response_gen) for question in (HARD, EASY)]
    engine.reset()
    for question in (HARD, EASY):
        stream = await engine.astream_chat(question)
        answers.append("".join([token async for token in stream.async_response_gen()]))
    return answers


async def test_the_simple_engine(build: Any) -> None:
    answers = await converse(SimpleChatEngine.from_defaults(llm=build()))
    assert answers == [f"big answers: {HARD}", f"small answers: {EASY}"] * 4
    assert set(build.scored) == {HARD, EASY}


@pytest.mark.parametrize("mode", MODES)
async def test_engines_with_context(build: Any, index: VectorStoreIndex, mode: ChatMode) -> None:
    engine = index.as_chat_engine(chat_mode=mode, llm=build(), system_prompt="A hard system prompt.")
    answers = await converse(engine)
    assert answers == [f"big answers: {HARD}", f"small answers: {EASY}"] * 4
    assert set(build.scored) == {HARD, EASY}
    condensing = mode == ChatMode.CONDENSE_PLUS_CONTEXT
    assert build.answered == ["big", "small", *(["small"] if condensing else [])] * 4
    assert any("holds the configuration" in str(request) for request in build.requests)


async def test_the_condensing_engine_routes_the_condensed_question_too(build: Any, index: VectorStoreIndex) -> None:
    engine = index.as_chat_engine(chat_mode=ChatMode.CONDENSE_QUESTION, llm=build())
    engine.chat(EASY)
    await engine.achat(HARD)  # condensed first; what comes back is what the local model answered
    condensed = [text for text in build.scored if text not in (EASY, HARD)]
    assert build.scored[:2] == [EASY, HARD]
    assert len(condensed) == 1
    assert condensed[0].startswith("big answers: Given a conversation")
    assert build.answered == ["small", "big", "big"]


def test_a_sticky_conversation_stays_on_the_strong_model(build: Any, index: VectorStoreIndex) -> None:
    llm = build(sticky="conversation")
    engine = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=llm)
    distinctive = f"{HARD} Say it for both of the boats, please."
    assert [str(engine.chat(question))[:5] for question in (distinctive, EASY, "And then?")] == ["big a"] * 3
    assert str(index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=llm).chat(EASY))[:5] == "small"
    kept = [llm.complete(question, session="s").additional_kwargs["routing"] for question in (HARD, EASY)]
    assert kept[1]["reason"].startswith("the conversation stays on the strong model")


def test_a_session_names_the_conversation(build: Any) -> None:
    llm = build(sticky="conversation")
    tiers = [
        llm.complete(question, session=session).additional_kwargs["routing"]["tier"]
        for question, session in [(EASY, "a"), (HARD, "a"), (EASY, "a"), (EASY, "b")]
    ]
    assert tiers == ["weak", "strong", "strong", "weak"]
