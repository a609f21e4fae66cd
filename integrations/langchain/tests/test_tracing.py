"""Traces, callbacks and events: one run for each call, the chosen model's own, with the decision on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.tools import tool
from langchain_core.tracers import BaseTracer
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat
from pydantic import BaseModel

Chat = Callable[..., RouteLLMChat]
# LangChain says so at each use of its own beta methods, stream_events(version="v3") among them.
pytestmark = pytest.mark.filterwarnings("ignore:.*is in beta. It is actively being worked on:Warning")


class Counts(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.seen.append("start")

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.seen.append("token")

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.seen.append("end")


@pytest.fixture(params=["given", "named"])
def model(request: pytest.FixtureRequest, chat: Chat, openai: Callable[..., ChatOpenAI]) -> RouteLLMChat:
    return chat(strong=openai("big"), weak=openai("small")) if request.param == "given" else chat()


async def _all_ways(model: RouteLLMChat, config: Any) -> list[AIMessage]:
    """Call in every way that gives one message."""
    chunks = list(model.stream("a hard one", config))
    achunks = [chunk async for chunk in model.astream("a hard one", config)]
    astream = await model.astream_events("a hard one", config, version="v3")
    generated = model.generate([[HumanMessage("a hard one")]], callbacks=config["callbacks"])
    agenerated = await model.agenerate([[HumanMessage("a hard one")]], callbacks=config["callbacks"])
    return [
        model.invoke("a hard one", config),
        await model.ainvoke("a hard one", config),
        sum(chunks[1:], chunks[0]),
        sum(achunks[1:], achunks[0]),
        model.stream_events("a hard one", config, version="v3").output,
        await astream,
        generated.generations[0][0].message,  # type: ignore[union-attr]
        agenerated.generations[0][0].message,  # type: ignore[union-attr]
    ]


async def test_each_call_is_one_run_of_the_real_model(model: RouteLLMChat, runs: Any) -> None:
    messages = await _all_ways(model, {"callbacks": [runs]})
    assert len(runs.roots) == len(messages) == 8
    for run, message in zip(sorted(runs.roots, key=lambda run: run.start_time), messages, strict=True):
        metadata = run.extra["metadata"]
        assert (run.run_type, run.child_runs) == ("llm", [])
        assert metadata["ls_model_name"] in ("big", "openai/big")
        assert metadata["ls_provider"] == "openai"
        assert metadata["routing"]["tier"] == metadata["routing_tier"] == "strong"
        assert message.text == "big answers: a hard one"
        assert message.response_metadata["routing"]["tier"] == "strong"
        traced = run.outputs["generations"][0][0]["message"]["kwargs"]["response_metadata"]
        assert traced["routing"]["tier"] == "strong", "the trace's own output lacks the decision"


async def test_callbacks_fire_once(model: RouteLLMChat) -> None:
    for config, built in (({"callbacks": [Counts()]}, model), ({}, model.model_copy(update={"callbacks": [Counts()]}))):
        counts = (config.get("callbacks") or built.callbacks)[0]  # type: ignore[index]
        built.invoke("Hello", config)  # type: ignore[arg-type]
        await built.ainvoke("Hello", config)  # type: ignore[arg-type]
        assert counts.seen == ["start", "end"] * 2
        counts.seen.clear()
        list(built.stream("Hello", config))  # type: ignore[arg-type]
        assert (counts.seen[0], counts.seen[-1], counts.seen.count("end")) == ("start", "end", 1)
        assert counts.seen.count("token") > 3


def test_tags_metadata_and_run_id_pass_through(chat: Chat, runs: Any) -> None:
    run_id = uuid4()
    built = chat(tags=["of-the-model"], metadata={"team": "a"})
    built.invoke("Hello", {"callbacks": [runs], "run_id": run_id, "tags": ["of-the-call"], "run_name": "mine"})
    (run,) = runs.roots
    assert (run.id, run.name) == (run_id, "mine")
    assert {"of-the-model", "of-the-call"} <= set(run.tags)
    assert run.extra["metadata"]["team"] == "a"


async def test_structured_output_and_tools_are_traced_once(model: RouteLLMChat, runs: Any) -> None:
    class Answer(BaseModel):
        text: str

    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    model.with_structured_output(Answer).invoke("a hard one", {"callbacks": [runs]})
    (run,) = runs.roots
    (inner,) = [child for child in run.child_runs if child.run_type == "llm"]
    assert inner.extra["metadata"]["routing"]["tier"] == "strong"
    runs.roots.clear()
    await model.bind_tools([look_up]).ainvoke("look 'x' up", {"callbacks": [runs]})
    (run,) = runs.roots
    assert run.run_type == "llm"
    assert run.extra["invocation_params"]["tools"][0]["function"]["name"] == "look_up"


async def test_events_of_a_chain_tell_the_decision(model: RouteLLMChat) -> None:
    chain = model | StrOutputParser()
    events = [event async for event in chain.astream_events("a hard one", version="v2")]
    of_the_model = [event for event in events if event["event"].startswith("on_chat_model")]
    assert {event["metadata"]["routing_tier"] for event in of_the_model} == {"strong"}
    assert sum(event["event"] == "on_chat_model_start" for event in of_the_model) == 1
    (end,) = [event for event in of_the_model if event["event"] == "on_chat_model_end"]
    assert end["data"]["output"].response_metadata["routing"]["tier"] == "strong"
    alone = [event["event"] async for event in model.astream_events("a hard one", version="v2")]
    assert alone.count("on_chat_model_start") == alone.count("on_chat_model_end") == 1


def test_a_run_of_the_callers_own_holds_the_models(model: RouteLLMChat, runs: BaseTracer) -> None:
    result = model._generate([HumanMessage("a hard one")])
    assert result.generations[0].message.response_metadata["routing"]["tier"] == "strong"


def test_messages_may_come_in_several_lists(model: RouteLLMChat, runs: Any) -> None:
    lists: list[Any] = [[HumanMessage("a hard one")], [HumanMessage("an easy one")]]
    result = model.bind_tools([]).bound.generate(lists, callbacks=[runs], run_id=uuid4())  # type: ignore[attr-defined]
    names = [generations[0].message.response_metadata["routing"]["tier"] for generations in result.generations]
    assert names == ["strong", "weak"]
    assert [run.run_id for run in result.run] == [run.id for run in runs.roots]
