"""A model given by name is as good as a given object, whether its provider's package or litellm calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, SummarizationMiddleware
from langchain_core import exceptions
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import LiteLLMChat, RouteLLMChat
from langchain_routellm.errors import as_langchain
from langchain_routellm.rungs import base_model, built_from
from pydantic import BaseModel

from routellm_core import ModelSettings
from routellm_core.errors import BackendError, UnfittingRequestError
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]
KNOWN = {"context_window": 4000, "max_output_tokens": 500, "tools": True, "json_schema": True}


class Report(BaseModel):
    """A report on the weather."""

    place: str
    degrees: int


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"rain in {place}"


@pytest.fixture(params=["package", "litellm"])
def named(request: pytest.FixtureRequest, chat: Chat) -> Chat:
    """Builds routed models that are named, and called by langchain-openai or by litellm's side."""
    # A parameter to leave out is nothing that langchain-openai knows.
    own = {} if request.param == "package" else {"drop_params": ["seed"]}

    def build(strong: str = "big", weak: str = "small", **options: Any) -> RouteLLMChat:
        models = {
            tier: {"model": f"openai/{name}", **KNOWN, **own} for tier, name in (("strong", strong), ("weak", weak))
        }
        model = chat(**models, **options)
        expected = ChatOpenAI if request.param == "package" else LiteLLMChat
        assert all(isinstance(base_model(rung), expected) for rung in model.routing.models.values())
        return model

    return build


def test_the_rule_for_names() -> None:
    assert built_from(ModelSettings(model="openai/gpt-5.4")) == ("openai", "langchain_openai")
    assert built_from(ModelSettings(model="anthropic/claude-sonnet-4-5")) is None, "its package is not installed here"
    assert built_from(ModelSettings(model="hosted_vllm/llama")) is None
    assert built_from(ModelSettings(model="openai/gpt-5.4", extra={"seed": 1})) is None


def test_the_profile_is_filled(named: Chat) -> None:
    profile: Any = named().profile
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4000, 500)
    assert profile["tool_calling"] is profile["structured_output"] is True
    assert RouteLLMChat("random", 0.5).profile["max_input_tokens"] > 100_000  # type: ignore[index]


def test_an_agents_structured_output_is_the_models_own(named: Chat, local_models: LocalModelServer) -> None:
    agent = create_agent(named(), response_format=Report)
    before = len(local_models.requests)
    state = agent.invoke({"messages": [("human", "Report on 'Rome', 7 degrees, hard")]})
    assert isinstance(state["structured_response"], Report)
    assert len(local_models.requests) == before + 1
    assert local_models.requests[-1]["response_format"]["type"] == "json_schema"


def test_a_summary_may_come_at_a_fraction_of_the_window(named: Chat) -> None:
    model = named()
    summary = SummarizationMiddleware(model, trigger=("fraction", 0.001), keep=("messages", 1))
    agent = create_agent(model, middleware=[summary])
    turns = [("human", "one " * 20), ("ai", "two " * 20), ("human", "three")]
    messages = agent.invoke({"messages": turns})["messages"]
    assert any(message.additional_kwargs.get("lc_source") == "summarization" for message in messages)


def test_langchains_counters_find_tokens_and_the_models_own_name(named: Chat) -> None:
    model = named()
    for result in (model.generate([_human("Hello")]), model._generate(_human("Hello"))):
        assert result.llm_output is not None
        assert result.llm_output["token_usage"]["total_tokens"] > 0
        assert result.llm_output["token_usage"]["prompt_tokens"] > 0
        assert result.llm_output["model_name"] == "small"
    both = model.generate([_human("Hello"), _human("a hard one")])
    one = model.generate([_human("Hello")])
    assert both.llm_output is not None
    assert one.llm_output is not None
    assert both.llm_output["model_name"] == ["small", "big"]
    assert both.llm_output["token_usage"]["total_tokens"] > one.llm_output["token_usage"]["total_tokens"]
    assert model.invoke("Hello").response_metadata["model_name"] == "small"


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("fail-401", "ModelAuthenticationError"),
        ("fail-403", "ModelPermissionDeniedError"),
        ("fail-400", "ModelInvalidRequestError"),
        ("fail-429", "ModelRateLimitError"),
        ("fail-503", "ModelAPIError"),
    ],
)
async def test_errors_are_langchains_and_the_cores(named: Chat, trouble: str, kind: str) -> None:
    model = named(strong=trouble, weak=trouble)
    for call in (model.invoke, lambda prompt: list(model.stream(prompt)), model.with_structured_output(Report).invoke):
        with pytest.raises(getattr(exceptions, kind)) as raised:
            call("hard")
        assert isinstance(raised.value, BackendError)
        assert raised.value.status_code == int(trouble[-3:])
    with pytest.raises(getattr(exceptions, kind)):
        await model.ainvoke("hard")


def test_a_refused_key_is_asked_once_by_the_retry_middleware(named: Chat, local_models: LocalModelServer) -> None:
    retrying = ModelRetryMiddleware(max_retries=3, initial_delay=0.01, on_failure="error")
    before = len(local_models.requests)
    with pytest.raises(exceptions.ModelAuthenticationError):
        create_agent(named(strong="fail-401", weak="fail-401"), middleware=[retrying]).invoke(
            {"messages": [("human", "hard")]}
        )
    assert len(local_models.requests) == before + 1


def test_too_long_a_request_is_a_context_overflow(named: Chat) -> None:
    with pytest.raises(exceptions.ContextOverflowError) as raised:
        named().invoke("word " * 40_000)
    assert isinstance(raised.value, UnfittingRequestError)
    error = BackendError("maximum context length is 9", model="m", status_code=400, retryable=False)
    error.fits_elsewhere = True
    assert isinstance(as_langchain(error), exceptions.ContextOverflowError)


def test_structured_output_beside_tools(named: Chat) -> None:
    model = named().with_structured_output(
        Report, method="json_schema", include_raw=True, strict=True, tools=[get_weather]
    )
    answer: Any = model.invoke("hard: report on 'Rome', 7 degrees")
    assert isinstance(answer["parsed"], Report) or answer["raw"].tool_calls
    with pytest.raises(ValueError, match="tools"):
        LiteLLMChat(model="openai/x").with_structured_output(Report, tools=[get_weather])


def test_the_key_comes_from_the_environment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RouteLLMChat("random", 0.5)
    assert isinstance(base_model(model.routing.models["weak"]), LiteLLMChat), "ChatOpenAI needs its key at once"
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert isinstance(base_model(RouteLLMChat("random", 0.5).routing.models["weak"]), ChatOpenAI)


def _human(text: str) -> list[Any]:
    return [HumanMessage(text)]
