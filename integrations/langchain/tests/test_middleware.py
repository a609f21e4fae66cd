"""``RouteLLMMiddleware`` beside others: backups in either order, others' state, tool loops after a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState, ModelFallbackMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMMiddleware
from langgraph.checkpoint.memory import InMemorySaver

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

OpenAI = Callable[..., ChatOpenAI]
ROUTER = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)
HARD = {"messages": [("human", "What is the hard weather in 'Rome'?")]}


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"rain in {place}"


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    async def call(agent: Any, given: Any, config: Any = None) -> Any:
        return agent.invoke(given, config) if request.param == "sync" else await agent.ainvoke(given, config)

    return call


@pytest.mark.parametrize("order", ["routing first", "backup first"])
@pytest.mark.parametrize(
    ("strong", "weak", "asked", "answers"),
    [
        ("big", "small", ["big"], "big"),
        # What stands nearer to the model is asked first.
        ("fail-503", "small", {"routing first": ["fail-503", "backup"], "backup first": ["fail-503", "small"]}, None),
        (
            "fail-503",
            "fail-500",
            {"routing first": ["fail-503", "backup"], "backup first": ["fail-503", "fail-500", "backup"]},
            "backup",
        ),
    ],
)
async def test_a_backup_and_the_other_tier(
    order: str,
    strong: str,
    weak: str,
    asked: Any,
    answers: str | None,
    openai: OpenAI,
    local_models: LocalModelServer,
    run: Callable[..., Any],
) -> None:
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=openai(strong), weak=openai(weak))
    backup = ModelFallbackMiddleware(openai("backup"))
    middleware = [routing, backup] if order == "routing first" else [backup, routing]
    before = len(local_models.requests)
    state = await run(create_agent(openai("own"), middleware=middleware), HARD)
    expected = asked[order] if isinstance(asked, dict) else asked
    assert [request["model"] for request in local_models.requests[before:]] == expected
    message = state["messages"][-1]
    assert message.content.startswith(answers or expected[-1])
    record = message.response_metadata["routing"]
    assert record["model"] == expected[-1], "the record names another than who answered"
    assert record.get("fallback_from") == (strong if len(expected) > 1 else None)


async def test_the_other_tier_is_asked_where_the_backup_fails_too(
    openai: OpenAI, local_models: LocalModelServer, run: Callable[..., Any]
) -> None:
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=openai("fail-503"), weak=openai("small"))
    agent = create_agent(openai("own"), middleware=[routing, ModelFallbackMiddleware(openai("fail-500"))])
    before = len(local_models.requests)
    state = await run(agent, HARD)
    assert [request["model"] for request in local_models.requests[before:]] == ["fail-503", "fail-500", "small"]
    assert state["messages"][-1].response_metadata["routing"]["model"] == "small"


async def test_a_backup_does_not_stay_for_the_next_call(
    openai: OpenAI, local_models: LocalModelServer, run: Callable[..., Any]
) -> None:
    no_cool_down = ResiliencePolicy(cooldown_after=0)
    models = {"strong": openai("fail-503"), "weak": openai("fail-500")}
    routing = RouteLLMMiddleware(ROUTER, 0.5, **models, resilience=no_cool_down)
    agent = create_agent(openai("own"), middleware=[ModelFallbackMiddleware(openai("backup")), routing])
    for _ in range(2):
        before = len(local_models.requests)
        await run(agent, HARD)
        asked = [request["model"] for request in local_models.requests[before:]]
        assert asked == ["fail-503", "fail-500", "backup"]


class _OthersState(AgentState[Any]):
    routing: NotRequired[Any]


class _Others(AgentMiddleware[_OthersState, Any, Any]):
    state_schema = _OthersState

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return {"routing": "to the north"}


@pytest.mark.parametrize("is_first", [True, False])
async def test_another_middlewares_state_is_left_alone(is_first: bool, openai: OpenAI, run: Callable[..., Any]) -> None:
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=openai("big"), weak=openai("small"))
    middleware = [_Others(), routing] if is_first else [routing, _Others()]
    state = await run(create_agent(openai("own"), middleware=middleware), HARD)
    assert state["routing"] == "to the north"
    assert state["messages"][-1].content.startswith("big")
    assert not [key for key in state if "routellm" in key]


async def test_what_began_a_tool_loop_ends_it(
    openai: OpenAI, local_models: LocalModelServer, run: Callable[..., Any]
) -> None:
    models = {"strong": openai("fail-503"), "weak": openai("small")}
    routing = RouteLLMMiddleware(ROUTER, 0.5, **models, resilience=ResiliencePolicy(attempts=1))
    agent = create_agent(openai("own"), [get_weather], middleware=[routing], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    before = len(local_models.requests)
    state = await run(agent, HARD, thread)
    asked = [request["model"] for request in local_models.requests[before:]]
    assert asked == ["fail-503", "small", "small"]
    answers = [message for message in state["messages"] if message.type == "ai"]
    assert [item.response_metadata["routing"]["tier"] for item in answers] == ["weak", "weak"]
    assert "stays on the weak model" in answers[1].response_metadata["routing"]["reason"]
    before = len(local_models.requests)
    await run(agent, HARD, thread)
    assert local_models.requests[before]["model"] == "fail-503", "the next turn is decided afresh"


async def test_a_decision_in_the_middle_is_made_then(openai: OpenAI, run: Callable[..., Any]) -> None:
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=openai("big"), weak=openai("small"))
    call = AIMessage("", tool_calls=[{"name": "get_weather", "args": {"place": "Rome"}, "id": "c1"}])
    messages = [HumanMessage("hard"), call, ToolMessage("rain", tool_call_id="c1")]
    state = await run(create_agent(openai("own"), [get_weather], middleware=[routing]), {"messages": messages})
    assert state["messages"][-1].response_metadata["routing"]["tier"] == "strong"


async def test_a_run_may_set_the_threshold(openai: OpenAI, run: Callable[..., Any]) -> None:
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=openai("big"), weak=openai("small"))
    agent = create_agent(openai("own"), middleware=[routing])
    easy = {"messages": [("human", "easy")]}
    assert (await run(agent, easy))["messages"][-1].content.startswith("small")
    config = {"configurable": {"routellm_threshold": 0.05}}
    assert (await run(agent, easy, config))["messages"][-1].content.startswith("big")


async def test_runnables_around_models(openai: OpenAI, run: Callable[..., Any]) -> None:
    backed = openai("fail-400").with_fallbacks([openai("backup")])
    routing = RouteLLMMiddleware(ROUTER, 0.5, strong=backed, weak=openai("small").bind(seed=3))
    agent = create_agent(openai("own"), [get_weather], middleware=[routing])
    assert (await run(agent, HARD))["messages"][-1].content.startswith("backup")
    easy = {"messages": [("human", "What is the weather in 'Rome'?")]}
    assert (await run(agent, easy))["messages"][-1].content.startswith("small")
