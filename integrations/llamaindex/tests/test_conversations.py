"""What is promised of conversations holds here too: tool loops, models that cannot take a request, two of one name."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool

from routellm_core import load_router
from routellm_core.errors import BackendError, UnfittingRequestError
from routellm_core.testing import FixedScoreRouter

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `.*` (attribute|method) is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]
HARD, EASY = "a hard question", "a question"


def get_weather(days: int) -> str:
    """Forecast the weather, however hard."""
    return f"a hard rain for {days} days"


class Broken(MockFunctionCallingLLM):
    """A model that is down for some of its calls."""

    down: int = 1
    calls: int = 0

    async def achat(self, messages: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls <= self.down:
            raise BackendError("down", model="broken", status_code=503, retryable=True)
        return await super().achat(messages, **kwargs)

    async def achat_with_tools(self, *args: Any, chat_history: Any = None, **kwargs: Any) -> Any:
        return await self.achat(chat_history or [])


@pytest.mark.parametrize("agent_class", [FunctionAgent, ReActAgent])
async def test_a_tool_loop_stays_where_it_went_after_a_fallback(build: Any, agent_class: Any) -> None:
    strong = Broken()
    llm = build(strong=strong)
    agent = agent_class(tools=[get_weather], llm=llm, streaming=False, timeout=20)
    output = await agent.run("A hard one: 3 days of weather?")
    assert str(output).startswith("small read the tool's result")
    assert (strong.calls, build.answered) == (1, ["small", "small"])


@pytest.mark.parametrize("agent_class", [FunctionAgent, ReActAgent])
async def test_a_tool_loop_keeps_its_model_where_scores_vary(build: Any, agent_class: Any) -> None:
    llm = build(router=load_router("random"))
    models = set()
    for number in range(8):
        start = len(build.answered)
        await agent_class(tools=[get_weather], llm=llm, timeout=20).run(f"Weather in {number} days?")
        assert len(set(build.answered[start:])) == 1
        models |= set(build.answered[start:])
    assert models == {"big", "small"}


def test_a_model_that_cannot_take_a_request_is_passed_over(build: Any) -> None:
    base = {"api_base": build().api_base, "api_key": "k"}
    narrow = {"model": "openai/small", "context_window": 300, "modalities": ["text"], **base}
    llm = build(weak=narrow)
    answer = llm.complete("easy " * 700)
    assert answer.additional_kwargs["routing"]["model"] == "openai/big"
    assert "openai/small" in answer.additional_kwargs["routing"]["reason"]
    picture = ChatMessage(role="user", blocks=[TextBlock(text=EASY), ImageBlock(url="http://localhost/cat.png")])
    wide = {"model": "openai/big", "modalities": ["text", "image"], **base}
    assert build(weak=narrow, strong=wide).chat([picture]).additional_kwargs["routing"]["tier"] == "strong"
    with pytest.raises(UnfittingRequestError, match="image"):
        build(weak=narrow, strong={**narrow, "model": "openai/big"}).chat([picture])
    assert llm.metadata.context_window == 300


def test_an_empty_answer_moves_and_a_dead_model_is_passed_over(build: Any) -> None:
    from routellm_core.backends.resilience import ResiliencePolicy

    policy = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0, cooldown_after=2, cooldown_seconds=60)
    llm = build(strong="openai/fail-503", resilience=policy)
    for _ in range(4):
        assert llm.complete(HARD).text.startswith("small")
    assert build.answered.count("fail-503") == 2

    class Silent(MockFunctionCallingLLM):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            return super().complete("", formatted, **kwargs).model_copy(update={"text": " "})

    assert build(strong=Silent()).complete(HARD).additional_kwargs["routing"]["tier"] == "weak"


def test_two_models_of_one_name(build: Any) -> None:
    base = build().api_base
    strong, weak = (
        {"model": "openai/big", "api_base": base, "api_key": "k", "extra": {"seed": seed}} for seed in (1, 2)
    )
    llm = build(strong=strong, weak=weak)
    for question, seed in ((HARD, 1), (EASY, 2)):
        llm.complete(question)
        assert build.requests[-1]["seed"] == seed
    dead = {**strong, "api_base": "http://127.0.0.1:1/v1"}
    routing = build(strong=dead, weak=weak).complete(HARD).additional_kwargs["routing"]
    assert (routing["tier"], routing["fallback_from"]) == ("weak", "openai/big")
    assert "openai/big (strong) failed" in routing["reason"]


def test_nested_routers_keep_one_record_that_names_the_model_that_answered(build: Any, recorder: Any) -> None:
    hardest = FixedScoreRouter(score=lambda prompt: 1.0 if "hardest" in prompt else 0.0)
    llm = build(router=hardest, strong="openai/huge", weak=build())
    answer = llm.chat([ChatMessage(role="user", content=HARD)])
    routing = answer.additional_kwargs["routing"]
    assert (routing["tier"], routing["model"], routing["inner"]["model"]) == ("weak", "openai/big", "openai/big")
    assert answer.raw["routing"] == routing
    tool = FunctionTool.from_defaults(get_weather)
    assert llm.get_tool_calls_from_response(llm.chat_with_tools([tool], "weather, 2 days"))


def test_the_other_models_thoughts_are_left_out(build: Any) -> None:
    seen: list[Any] = []

    class Keeping(MockFunctionCallingLLM):
        letter: str

        def chat(self, messages: Any, **kwargs: Any) -> Any:
            seen.append(messages)
            answer = super().chat(messages, **kwargs)
            signed = ThinkingBlock(content="hm", additional_information={"signature": self.letter * 200})
            said = ChatMessage(role="assistant", blocks=[signed, TextBlock(text="well")])
            return answer.model_copy(update={"message": said})

    llm = build(strong=Keeping(letter="s"), weak=Keeping(letter="w"), sticky=False)
    asked = [ChatMessage(role="user", content=HARD)]
    first = llm.chat(asked)
    assert first.additional_kwargs["routing"]["tier"] == "strong"
    history = [*asked, first.message, ChatMessage(role="user", content=EASY)]
    assert llm.chat(history).additional_kwargs["routing"]["tier"] == "weak"
    assert [block.block_type for block in seen[-1][1].blocks] == ["text"]
    llm.chat([*asked, first.message, ChatMessage(role="user", content="another hard one")])
    assert [block.block_type for block in seen[-1][1].blocks] == ["thinking", "text"]
