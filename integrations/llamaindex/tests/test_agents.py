"""Agents and workflows: a task keeps the model that its question called for, through all of its tool calls."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import MockLLM
from llama_index.core.memory import Memory
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step

from routellm_core.errors import ConfigError

pytestmark = [
    # LlamaIndex's workflows look at every attribute of an agent to find its steps, also at those pydantic deprecates.
    pytest.mark.filterwarnings("ignore:The `.*` (attribute|method) is deprecated:DeprecationWarning"),
    # LlamaIndex's ReActAgent asks in each step whether its workflow runs.
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]

HARD, EASY = "A hard one: will the weather hold for 3 days?", "What about the weather in 2 days?"
BOTH = pytest.mark.parametrize(("question", "model"), [(HARD, "big"), (EASY, "small")])


def get_weather(days: int) -> str:
    """Forecast the weather, however hard."""
    return f"a hard rain for {days} days"


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
async def test_function_agents(build: Any, question: str, model: str, streaming: bool) -> None:
    agent = FunctionAgent(
        tools=[get_weather], llm=build(), streaming=streaming, initial_state={"so": "hard"}, timeout=20
    )
    output = await agent.run(question)
    assert str(output).startswith(f"{model} read the tool's result: a hard rain")
    assert [call.tool_name for call in output.tool_calls] == ["get_weather"]
    assert output.raw["routing"]["model"] == f"openai/{model}"
    assert build.scored == [question]
    assert build.answered == [model, model]


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
async def test_react_agents(build: Any, question: str, model: str, streaming: bool) -> None:
    agent = ReActAgent(tools=[get_weather], llm=build(), streaming=streaming, timeout=20)
    output = await agent.run(question)
    assert str(output).startswith(f"{model} read the tool's result: a hard rain")
    assert build.scored == [question]
    assert build.answered == [model, model]


async def test_react_agents_do_without_tool_calling(build: Any) -> None:
    llm = build(weak=MockLLM(is_chat_model=True))
    assert not llm.metadata.is_function_calling_model
    assert str(await ReActAgent(tools=[get_weather], llm=llm, timeout=20).run(HARD)).startswith("big read")
    with pytest.raises(ConfigError, match=r"'MockLLM' \(MockLLM\) has no tool calling"):
        llm.chat_with_tools([], HARD)


async def test_several_turns_and_memory(build: Any) -> None:
    agent = FunctionAgent(tools=[get_weather], llm=build(), timeout=20)
    memory = Memory.from_defaults(token_limit=4000)
    for question, model in [(HARD, "big"), (EASY, "small"), ("Hello!", "small")]:
        output = await agent.run(question, memory=memory)
        assert str(output).startswith(model)
    assert build.scored == [HARD, EASY, "Hello!"]
    assert build.answered == ["big", "big", "small", "small", "small"]


async def test_agent_workflows_hand_over_within_one_decision(build: Any) -> None:
    llm = build()
    names = ("front desk", "forecaster")
    front = FunctionAgent(
        name=names[0], description="Greets.", llm=llm, can_handoff_to=[names[1]], initial_tool_choice="required"
    )
    forecaster = FunctionAgent(name=names[1], description="Forecasts weather.", llm=llm, tools=[get_weather])
    workflow = AgentWorkflow(agents=[front, forecaster], root_agent=names[0], timeout=20)
    output = await workflow.run(f'{HARD} Hand off to "{names[1]}"')
    assert [call.tool_name for call in output.tool_calls] == ["handoff"]
    assert output.current_agent_name == names[1]
    assert build.answered == ["big", "big"]
    assert build.scored == [f'{HARD} Hand off to "{names[1]}"']


async def test_workflows_call_it_like_any_llm(build: Any) -> None:
    class Answering(Workflow):
        @step
        async def answer(self, ctx: Context, event: StartEvent) -> StopEvent:
            text = ""
            async for chunk in await event.llm.astream_chat([ChatMessage(role="user", content=event.question)]):
                text += chunk.delta or ""
            return StopEvent(result=text)

    assert await Answering(timeout=20).run(llm=build(), question=HARD) == f"big answers: {HARD}"
