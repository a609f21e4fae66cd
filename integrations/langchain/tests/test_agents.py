"""Agents: ``create_agent`` and LangGraph with a routed model, and ``RouteLLMMiddleware`` with native models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat, RouteLLMMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command
from pydantic import BaseModel

from routellm_core import load_router
from routellm_core.errors import ConfigError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]
OpenAI = Callable[..., ChatOpenAI]
EASY, HARD = "What is the weather in 'Rome'?", "What is the hard weather in 'Rome'?"


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"hard rain in {place}"


class Report(BaseModel):
    """A report on the weather."""

    place: str
    degrees: int


@pytest.fixture(params=["given", "named", "middleware"])
def agent(request: pytest.FixtureRequest, chat: Chat, openai: OpenAI) -> Callable[..., Any]:
    """Builds the same agent in three ways: the routed model given or named, or routing as middleware."""
    models = {"strong": openai("big"), "weak": openai("small")}

    def build(router: Any = None, **options: Any) -> Any:
        router = router or FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)
        tools = options.pop("tools", [get_weather])
        if request.param == "middleware":
            routing = RouteLLMMiddleware(router, 0.5, **models)
            return create_agent(models["weak"], tools, middleware=[routing, *options.pop("middleware", [])], **options)
        model = chat(router=router, **(models if request.param == "given" else {}))
        return create_agent(model, tools, **options)

    return build


def _routing(messages: list[Any]) -> list[tuple[str, str]]:
    answers = [message for message in messages if isinstance(message, AIMessage)]
    return [
        (message.response_metadata["routing"]["tier"], message.response_metadata["model_name"].split("/")[-1])
        for message in answers
    ]


async def test_a_tool_loop_keeps_one_model(agent: Callable[..., Any]) -> None:
    for question, expected in ((EASY, ("weak", "small")), (HARD, ("strong", "big"))):
        for state in (
            agent().invoke({"messages": [("human", question)]}),
            await agent().ainvoke({"messages": [("human", question)]}),
        ):
            kinds = [message.type for message in state["messages"]]
            assert kinds == ["human", "ai", "tool", "ai"]
            assert state["messages"][-1].content == f"{expected[1]} read the tool's result: hard rain in Rome"
            assert _routing(state["messages"]) == [expected, expected]
            assert "routing" not in state


def test_one_decision_for_each_human_turn(agent: Callable[..., Any]) -> None:
    router = load_router("random", {"seed": 3})
    built = agent(router, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    tiers = []
    for number in range(6):
        state = built.invoke({"messages": [("human", f"{EASY} {number}")]}, thread)
        turn = _routing(state["messages"])[-2:]
        assert len(set(turn)) == 1
        tiers.append(turn[0][0])
    assert set(tiers) == {"strong", "weak"}
    assert len(state["messages"]) == 24


async def test_streams_of_messages_and_updates(agent: Callable[..., Any]) -> None:
    built = agent()
    streamed = list(built.stream({"messages": [("human", HARD)]}, stream_mode="messages"))
    texts = [message.text for message, _ in streamed if isinstance(message, AIMessageChunk)]
    assert "".join(texts) == "big read the tool's result: hard rain in Rome"
    assert len([text for text in texts if text]) > 3, "the answer did not stream"
    of_models = [metadata for message, metadata in streamed if isinstance(message, AIMessageChunk)]
    assert all(metadata["routing"]["tier"] == "strong" for metadata in of_models)
    updates = [update async for update in built.astream({"messages": [("human", EASY)]}, stream_mode="updates")]
    assert [name for update in updates for name in update if "RouteLLM" not in name] == ["model", "tools", "model"]


@pytest.mark.parametrize("strategy", [lambda schema: schema, ToolStrategy, ProviderStrategy])
async def test_structured_output(agent: Callable[..., Any], strategy: Any) -> None:
    for tools in ([], [get_weather]):
        built = agent(tools=tools, response_format=strategy(Report))
        state = built.invoke({"messages": [("human", "How is it in 'Oslo', 7 degrees, hard?")]})
        assert state["structured_response"] == Report(place="Oslo", degrees=7)
        state = await built.ainvoke({"messages": [("human", "How is it in 'Oslo', 7 degrees?")]})
        assert state["structured_response"] == Report(place="Oslo", degrees=7)
        assert {tier for tier, _ in _routing(state["messages"])} == {"weak"}


def test_an_interrupted_turn_goes_on_with_its_model(agent: Callable[..., Any]) -> None:
    asking = HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})
    router = load_router("random", {"seed": 5})
    for number in range(3):
        built = agent(router, middleware=[asking], checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": str(number)}}
        built.invoke({"messages": [("human", EASY)]}, thread)
        state = built.invoke(Command(resume={"decisions": [{"type": "approve"}]}), thread)
        first, second = _routing(state["messages"])
        assert first == second


def test_a_summary_is_not_a_users_message(agent: Callable[..., Any], openai: OpenAI) -> None:
    summary = SummarizationMiddleware(openai("hard-summary"), trigger=("messages", 3), keep=("messages", 1))
    built = agent(middleware=[summary], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    for _ in range(3):
        state = built.invoke({"messages": [("human", EASY)]}, thread)
        assert {tier for tier, _ in _routing(state["messages"])} == {"weak"}
    assert any(message.additional_kwargs.get("lc_source") == "summarization" for message in state["messages"])


def test_failing_models_are_replaced_in_agents(chat: Chat, openai: OpenAI) -> None:
    failing, weak = openai("fail-503"), openai("small")
    by_middleware = create_agent(
        weak, [get_weather], middleware=[RouteLLMMiddleware("random", 0, strong=failing, weak=weak)]
    )
    by_model = create_agent(chat(strong=failing), [get_weather])
    for built in (by_middleware, by_model):
        messages = built.invoke({"messages": [("human", HARD)]})["messages"]
        assert [tier for tier, _ in _routing(messages)] == ["weak", "weak"]
        answers = [message for message in messages if message.type == "ai"]
        assert answers[0].response_metadata["routing"]["fallback_from"] == "fail-503"


async def test_middleware_falls_back_asynchronously(openai: OpenAI) -> None:
    failing, weak = openai("fail-503"), openai("small")
    built = create_agent(weak, middleware=[RouteLLMMiddleware("random", 0, strong=failing, weak=weak)])
    state = await built.ainvoke({"messages": [("human", HARD)]})
    assert state["messages"][-1].response_metadata["routing"]["fallback_from"] == "fail-503"
    wrong = openai("fail-400")
    built = create_agent(weak, middleware=[RouteLLMMiddleware("random", 0, strong=wrong, weak=weak)])
    with pytest.raises(Exception, match="was asked to fail"):
        await built.ainvoke({"messages": [("human", HARD)]})


def test_middleware_takes_the_same_routing_options(openai: OpenAI, local_models: LocalModelServer) -> None:
    settings = {"model": "openai/big", "api_base": local_models.base_url, "api_key": "local"}
    routing = RouteLLMMiddleware(
        "random", strong_share=1.0, strong=settings, weak=openai("small"), extract=lambda messages: "x"
    )
    state = create_agent(openai("small"), [get_weather], middleware=[routing]).invoke({"messages": [("human", EASY)]})
    assert _routing(state["messages"]) == [("strong", "big")] * 2
    with pytest.raises(ConfigError, match=r"RouteLLMMiddleware has no option 'treshold'.*Did you mean 'threshold'"):
        RouteLLMMiddleware("random", treshold=0.1)


def test_an_agents_thread_is_a_conversation(chat: Chat) -> None:
    built = create_agent(chat(sticky="conversation"), [get_weather], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "sticky"}}
    for question, tier in ((EASY, "weak"), (HARD, "strong"), (EASY, "strong")):
        messages = built.invoke({"messages": [("human", question)]}, thread)["messages"]
        assert messages[-1].response_metadata["routing"]["tier"] == tier


async def test_a_graph_of_ones_own(chat: Chat, openai: OpenAI) -> None:
    for model in (chat(), chat(strong=openai("big"), weak=openai("small"))):
        bound = model.bind_tools([get_weather])

        def call(state: MessagesState, bound: Any = bound) -> dict[str, Any]:
            return {"messages": [bound.invoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", call)
        graph.add_node("tools", ToolNode([get_weather]))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        built = graph.compile(checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "1"}}
        state = await built.ainvoke({"messages": [HumanMessage(HARD)]}, thread)
        assert isinstance(state["messages"][2], ToolMessage)
        assert {tier for tier, _ in _routing(state["messages"])} == {"strong"}
        streamed = [
            message
            for message, _ in built.stream({"messages": [HumanMessage(EASY)]}, thread, stream_mode="messages")
            if isinstance(message, AIMessageChunk)
        ]
        assert len(streamed) > 5


def test_the_package_imports_without_langchain() -> None:
    code = (
        "import sys; sys.modules['langchain'] = None; import langchain_routellm\n"
        "try: langchain_routellm.RouteLLMMiddleware\n"
        "except ImportError as error: assert 'langchain-routellm[agents]' in str(error), error\n"
        "else: raise SystemExit('no error')\n"
        "assert not {'litellm', 'torch', 'langchain_openai', 'openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
