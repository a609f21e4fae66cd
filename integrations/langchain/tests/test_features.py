"""The table of ``docs/adapters.md``: plain, given and named models, feature by feature, as this run finds them.

``ROUTELLM_WRITE_TABLE=1`` writes the table; without it the page must say what is found.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, SummarizationMiddleware
from langchain_core import exceptions
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat
from pydantic import BaseModel

from routellm_core.testing.local_models import LocalModelServer

WRITES = bool(os.environ.get("ROUTELLM_WRITE_TABLE"))  # before a fixture clears the environment
PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"
BEGIN, END = "<!-- langchain: begin -->\n", "<!-- langchain: end -->"
PROFILE = {"max_input_tokens": 4000, "max_output_tokens": 500, "tool_calling": True, "structured_output": True}
KNOWN = {"context_window": 4000, "max_output_tokens": 500, "tools": True, "json_schema": True}

Build = Callable[..., Any]


class Report(BaseModel):
    """A report."""

    place: str
    degrees: int


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"rain in {place}"


def _requests(server: LocalModelServer, call: Callable[[], Any]) -> int:
    before = len(server.requests)
    call()
    return len(server.requests) - before


def _stream_events(model: Any) -> bool:
    return str(model.stream_events("Hello", version="v3").output.text).endswith("Hello")


def _tools(model: Any) -> bool:
    bound = model.bind_tools([get_weather])
    call = bound.invoke("What is the weather in 'Rome'?")
    result = ToolMessage("rain", tool_call_id=call.tool_calls[0]["id"])
    return "rain" in bound.invoke([HumanMessage("What is the weather in 'Rome'?"), call, result]).text


def _agent(model: Any, server: LocalModelServer) -> bool:
    agent = create_agent(model, response_format=Report)
    return _requests(server, lambda: agent.invoke({"messages": [("human", "'Rome', 7 degrees")]})) == 1


def _fraction(model: Any) -> bool:
    summary = SummarizationMiddleware(model, trigger=("fraction", 0.001), keep=("messages", 1))
    turns = [("human", "one " * 20), ("ai", "two " * 20), ("human", "three")]
    messages = create_agent(model, middleware=[summary]).invoke({"messages": turns})["messages"]
    return any(message.additional_kwargs.get("lc_source") == "summarization" for message in messages)


def _retry_once(build: Build, server: LocalModelServer) -> bool:
    retry = ModelRetryMiddleware(max_retries=3, initial_delay=0.01, on_failure="error")
    agent = create_agent(build("fail-401"), middleware=[retry])

    def call() -> None:
        with pytest.raises(exceptions.ModelAuthenticationError):
            agent.invoke({"messages": [("human", "Hello")]})

    return _requests(server, call) == 1


def _backup(build: Build) -> bool:
    return bool(build("fail-503").with_fallbacks([build("big")]).invoke("Hello").text)


def _pickled(model: Any) -> bool:
    return bool(pickle.loads(pickle.dumps(model)).invoke("Hello").text)


FEATURES: dict[str, Callable[[Build, LocalModelServer], Any]] = {
    "`invoke`, `batch`": lambda build, _: build().batch(["Hello"])[0].text.endswith("Hello"),
    "`stream`, with usage": lambda build, _: any(chunk.usage_metadata for chunk in build().stream("Hello")),
    "`stream_events` of version 3": lambda build, _: _stream_events(build()),
    "a tool loop": lambda build, _: _tools(build()),
    "`with_structured_output`": lambda build, _: (
        build().with_structured_output(Report).invoke("'Rome', 7").place == "Rome"
    ),
    "`with_structured_output(tools=…)`": lambda build, _: bool(
        build()
        .with_structured_output(Report, method="json_schema", strict=True, include_raw=True, tools=[get_weather])
        .invoke("'Rome', 7")
    ),
    "`profile`": lambda build, _: build().profile["max_input_tokens"] == 4000,
    "one request for an agent's `response_format`": lambda build, server: _agent(build(), server),
    "summaries at a fraction of the window": lambda build, _: _fraction(build()),
    "token usage in `generate(…).llm_output`": lambda build, _: (
        build().generate([[HumanMessage("Hello")]]).llm_output["token_usage"]["total_tokens"] > 0
    ),
    "the model's own name, for tables of prices": lambda build, _: (
        build().invoke("Hello").response_metadata["model_name"] in ("big", "small")
    ),
    "a refused key is asked for once under `ModelRetryMiddleware`": _retry_once,
    "`with_fallbacks`": lambda build, _: _backup(build),
    "`copy.deepcopy`": lambda build, _: bool(copy.deepcopy(build()).invoke("Hello").text),
    "`pickle`": lambda build, _: _pickled(build()),
    "another model where one fails": lambda build, _: bool(build("fail-503").invoke("Hello").text),
}


def _ways(server: LocalModelServer) -> dict[str, Build]:
    def plain(model: str = "big") -> ChatOpenAI:
        options: Any = {"base_url": server.base_url, "api_key": "local", "stream_usage": True, "max_retries": 0}
        return ChatOpenAI(model=model, profile=PROFILE, **options)

    def given(model: str = "big") -> RouteLLMChat:
        other = model if model == "fail-401" else "small"
        return RouteLLMChat("random", 0.0, strong=plain(model), weak=plain(other))

    def named(**own: Any) -> Build:
        def build(model: str = "big") -> RouteLLMChat:
            names = {"strong": model, "weak": model if model == "fail-401" else "small"}
            models = {tier: {"model": f"openai/{name}", **KNOWN, **own} for tier, name in names.items()}
            return RouteLLMChat("random", 0.0, **models, api_base=server.base_url, api_key="local", max_retries=0)

        return build

    return {
        "ChatOpenAI": plain,
        "given": given,
        "named, langchain-openai": named(),
        "named, litellm": named(drop_params=["seed"]),
    }


def _found(feature: Callable[[Build, LocalModelServer], Any], build: Build, server: LocalModelServer) -> str:
    try:
        return "yes" if feature(build, server) else "no"
    except Exception:  # whatever it is, it does not work
        return "no"


@pytest.mark.filterwarnings("ignore::Warning")
def test_the_table_says_what_is_found(local_models: LocalModelServer) -> None:
    ways = _ways(local_models)
    rows = [["LangChain", *ways], ["---"] * (len(ways) + 1)]
    for name, feature in FEATURES.items():
        rows.append([name, *(_found(feature, build, local_models) for build in ways.values())])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    written, _, after = rest.partition(END)
    if WRITES:
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
        return
    assert written == table
