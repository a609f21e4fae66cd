"""The LLM's own methods: each goes to the chosen model and carries the decision."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms import MockLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool

from routellm_core.testing import FixedScoreRouter

Conversation = list[ChatMessage]


def user(text: str) -> Conversation:
    return [ChatMessage(role="user", content=text)]


def get_weather(days: int) -> str:
    """Forecast the weather."""
    return f"sunny for {days} days"


WEATHER = FunctionTool.from_defaults(get_weather)
HARD, EASY = "a hard question", "a question"


@pytest.mark.parametrize(("question", "model"), [(HARD, "big"), (EASY, "small")])
async def test_every_form_of_call_goes_to_the_chosen_model(build: Any, question: str, model: str) -> None:
    llm = build()
    expected = f"{model} answers: {question}"
    chunks = {
        "stream_chat": list(llm.stream_chat(user(question))),
        "astream_chat": [chunk async for chunk in await llm.astream_chat(user(question))],
        "stream_complete": list(llm.stream_complete(question)),
        "astream_complete": [chunk async for chunk in await llm.astream_complete(question)],
    }
    answers = {
        "chat": llm.chat(user(question)),
        "achat": await llm.achat(user(question)),
        "complete": llm.complete(question),
        "acomplete": await llm.acomplete(question),
        **{name: pieces[-1] for name, pieces in chunks.items()},
    }
    for name, answer in answers.items():
        text = answer.message.content if isinstance(answer, ChatResponse) else answer.text
        routing = answer.additional_kwargs["routing"]
        assert (name, text, routing["model"]) == (name, expected, f"openai/{model}")
        assert answer.raw["routing"] == routing
    for pieces in chunks.values():
        assert "".join(piece.delta or "" for piece in pieces) == expected
        assert all(piece.additional_kwargs["routing"]["tier"] == routing["tier"] for piece in pieces)
    assert set(build.answered) == {model}


@pytest.mark.parametrize(
    ("question", "model"), [("a hard weather question, 3 days", "big"), ("weather, 2 days", "small")]
)
async def test_every_form_of_tool_call_goes_to_the_chosen_model(build: Any, question: str, model: str) -> None:
    llm = build()
    given: dict[str, Any] = {"tools": [WEATHER], "user_msg": question, "chat_history": user("before")}
    answers = [
        llm.chat_with_tools(**given),
        await llm.achat_with_tools(**given),
        list(llm.stream_chat_with_tools(**given))[-1],
        [chunk async for chunk in await llm.astream_chat_with_tools(**given)][-1],
    ]
    for answer in answers:
        (call,) = llm.get_tool_calls_from_response(answer)
        assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"days": 3 if model == "big" else 2})
        assert answer.additional_kwargs["routing"]["model"] == f"openai/{model}"
        assert answer.message.additional_kwargs.keys() == {"tool_calls"}  # nothing of ours is sent with the next turn
    assert build.answered == [model] * 4
    assert [message["content"] for message in build.requests[-1]["messages"]] == ["before", question]
    assert given["chat_history"] == user("before")


async def test_predict_and_call_runs_the_tool(build: Any) -> None:
    llm = build()
    assert llm.predict_and_call([WEATHER], "a hard weather question, 3 days").response == "sunny for 3 days"
    assert (await llm.apredict_and_call([WEATHER], "weather, 2 days")).response == "sunny for 2 days"
    assert build.answered == ["big", "small"]


def test_answers_without_tool_calls(build: Any) -> None:
    llm = build()
    answer = llm.chat(user(EASY))
    assert llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="at least one tool call"):
        llm.get_tool_calls_from_response(answer)
    unrouted = ChatResponse(message=ChatMessage(role="assistant", content="hi"))
    assert llm.get_tool_calls_from_response(unrouted, error_on_no_tool_call=False) == []


@pytest.mark.parametrize(
    ("wish", "model", "threshold"),
    [("strong", "big", None), ("weak", "small", None), ("openai/big", "big", None), ("router-fixed-0.05", "big", 0.05)],
)
def test_a_call_can_name_its_model(build: Any, wish: str, model: str, threshold: float | None) -> None:
    answer = build().chat(user(EASY), model=wish)
    assert answer.message.content == f"{model} answers: {EASY}"
    assert answer.additional_kwargs["routing"]["threshold"] == threshold


def test_a_call_can_name_its_question(build: Any) -> None:
    llm = build()
    llm.complete("A long prompt of one's own, and somewhere in it: easy", question=HARD)
    llm.asking(HARD).chat(user("some prompt"))
    llm.chat(user("some prompt"))
    assert build.answered == ["big", "big", "small"]
    assert set(build.scored) == {HARD, "some prompt"}


def test_parameters_pass_through(build: Any) -> None:
    llm = build(temperature=0.3, max_tokens=50, model_kwargs={"seed": 7})
    llm.chat(user(EASY), top_p=0.5)
    list(llm.stream_chat(user(EASY), temperature=0.1))
    first, second = build.requests
    assert (first["temperature"], first["seed"], first["top_p"]) == (0.3, 7, 0.5)
    assert 50 in (first.get("max_tokens"), first.get("max_completion_tokens"))
    assert (second["temperature"], second["stream_options"]) == (0.1, {"include_usage": True})
    build().chat(user(EASY))
    assert "temperature" not in build.requests[-1]


def test_images_alone_take_the_default_tier(build: Any) -> None:
    picture = ChatMessage(role="user", blocks=[ImageBlock(url="http://localhost/cat.png")])
    described = ChatMessage(role="user", blocks=[TextBlock(text=HARD), ImageBlock(url="http://localhost/cat.png")])
    answer = build(no_prompt_tier="weak").chat([picture])
    assert (answer.additional_kwargs["routing"]["tier"], build.scored) == ("weak", [])
    assert build().chat([described]).additional_kwargs["routing"]["tier"] == "strong"


def test_decide_calls_no_model(build: Any) -> None:
    llm = build()
    assert llm.decide(HARD).model == "openai/big"
    assert llm.decide([*user(HARD), ChatMessage(role="assistant", content="Well.")]).model == "openai/big"
    assert llm.decide(EASY, model="strong").score is None
    assert build.answered == []


def test_metadata_is_what_both_models_can_do(build: Any) -> None:
    wide = MockLLM(max_tokens=100, is_chat_model=True)
    metadata = build(strong="gpt-4o", weak=wide).metadata
    assert (metadata.context_window, metadata.num_output) == (wide.metadata.context_window, 100)
    assert (metadata.is_chat_model, metadata.is_function_calling_model) == (True, False)
    assert metadata.model_name == "router-fixed-0.5"
    assert build().metadata.is_function_calling_model
    assert build(context_window=4000).metadata.context_window == 4000
    assert build(strong="gpt-4o", weak="gpt-4o-mini", context_window=None).metadata.context_window == 128_000
    assert build().metadata.system_role == MessageRole.SYSTEM


def test_instances_are_called_as_they_are(build: Any) -> None:
    small = MockLLM(max_tokens=3)
    llm = build(weak=small)
    assert llm.weak is small
    answer = llm.complete("one two three four")
    assert (answer.text, answer.additional_kwargs["routing"]["model"]) == ("text text text", "MockLLM")
    assert llm.complete(HARD).additional_kwargs["routing"]["model"] == "openai/big"


def test_a_router_may_be_a_model_of_another(build: Any) -> None:
    hardest = FixedScoreRouter(score=lambda prompt: 1.0 if "hardest" in prompt else 0.0)
    llm = build(router=hardest, strong="openai/huge", weak=build())
    answers = [llm.chat(user(text)) for text in ("the hardest", HARD, EASY)]
    assert build.answered == ["huge", "big", "small"]
    assert answers[1].additional_kwargs["routing"]["inner"]["model"] == "openai/big"
    answer = llm.chat_with_tools([WEATHER], "weather, 2 days")
    assert llm.get_tool_calls_from_response(answer)[0].tool_kwargs == {"days": 2}


def test_the_rate_limiter_is_asked_once_for_each_call(build: Any) -> None:
    class Limiter:
        acquired = 0

        def acquire(self) -> None:
            self.acquired += 1

    limiter = Limiter()
    llm: LLM = build(rate_limiter=limiter)
    llm.chat(user(EASY))
    list(llm.stream_complete(HARD))
    assert limiter.acquired == 2


def test_tool_calls_are_read_in_the_way_of_the_model_that_answered(build: Any) -> None:
    call = ToolCallBlock(tool_call_id="7", tool_name="get_weather", tool_kwargs={"days": 9})
    said = ChatMessage(role="assistant", blocks=[call])
    blocks = MockFunctionCallingLLM(response_generator=lambda *_, **__: said)
    llm = build(weak=blocks)
    for question, days in [("a hard weather question, 3 days", 3), ("weather", 9)]:
        answer = llm.chat_with_tools([WEATHER], question)
        assert llm.get_tool_calls_from_response(answer)[0].tool_kwargs == {"days": days}


def test_functions_between_messages_and_prompts_apply_to_both_models(build: Any) -> None:
    llm = build(weak=MockLLM(), messages_to_prompt=lambda messages: "as I say")
    assert llm.chat(user(EASY)).message.content == "as I say"
