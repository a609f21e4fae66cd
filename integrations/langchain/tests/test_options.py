"""Options that change: by a run's configuration, by assignment, in copies; and what may stand for a model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField, ConfigurableFieldSingleOption, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat
from pydantic import BaseModel

from routellm_core import load_router
from routellm_core.errors import ConfigError, InvalidThresholdError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]
OpenAI = Callable[..., ChatOpenAI]
EASY = {"messages": [("human", "an easy one in 'Rome', 7")]}


class Report(BaseModel):
    """A report."""

    place: str
    degrees: int


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"rain in {place}"


def _tier(answer: Any) -> str:
    return str(answer.response_metadata["routing"]["tier"])


@pytest.fixture(params=["field", "direct"])
def configured(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes a model that takes its threshold from the run's configuration, and that configuration, in two ways."""

    def build(model: RouteLLMChat) -> tuple[Any, dict[str, Any]]:
        if request.param == "direct":
            return model, {"configurable": {"routellm_threshold": 0.05}}
        field = ConfigurableField(id="limit")
        return model.configurable_fields(threshold=field), {"configurable": {"limit": 0.05}}

    return build


async def test_a_configured_threshold_holds_everywhere(chat: Chat, configured: Any) -> None:
    model, config = configured(chat())
    for call, answer in (
        (model, lambda found: found),
        (model.bind_tools([get_weather]), lambda found: found),
        (model.with_structured_output(Report, include_raw=True), lambda found: found["raw"]),
        (RunnableLambda(lambda text: text) | model, lambda found: found),
        (create_agent(model, [get_weather]), lambda found: found["messages"][1]),
        (create_agent(model, response_format=Report), lambda found: found["messages"][1]),
    ):
        given: Any = EASY if hasattr(call, "get_graph") and "Compiled" in type(call).__name__ else "easy in 'Rome', 7"
        assert _tier(answer(call.invoke(given))) == "weak"
        assert _tier(answer(call.invoke(given, config))) == "strong"
        assert _tier(answer(await call.ainvoke(given, config))) == "strong"
    assert _tier(model.batch(["easy"], config)[0]) == "strong"
    assert _tier(next(model.stream("easy", config))) == "strong"


def test_any_option_may_be_configurable(chat: Chat, local_models: LocalModelServer) -> None:
    model = chat().configurable_fields(
        weak=ConfigurableFieldSingleOption(
            id="cheap", options={"usual": "openai/small", "other": "openai/other"}, default="usual"
        ),
        temperature=ConfigurableField(id="heat"),
    )
    config: Any = {"configurable": {"cheap": "other", "heat": 0.25}}
    assert model.bind_tools([get_weather]).invoke("easy", config).response_metadata["model_name"] == "other"
    assert local_models.requests[-1]["temperature"] == 0.25
    assert model.invoke("easy").response_metadata["model_name"] == "small"
    assert "temperature" not in local_models.requests[-1]
    assert {spec.id for spec in model.config_specs} == {"cheap", "heat"}
    direct: Any = {"configurable": {"routellm_weak": "openai/third"}}
    assert chat().invoke("easy", direct).response_metadata["model_name"] == "third"
    with pytest.raises(ConfigError, match=r"cheap='dear' must be one of 'usual', 'other'"):
        model.invoke("easy", {"configurable": {"cheap": "dear"}})
    with pytest.raises(ConfigError, match="Did you mean 'threshold'"):
        model.invoke("easy", {"configurable": {"routellm_treshold": 1}})
    with pytest.raises(InvalidThresholdError):
        model.invoke("easy", {"configurable": {"routellm_threshold": 2}})


def test_what_is_configured_is_the_outer_routers(chat: Chat) -> None:
    hardest = FixedScoreRouter(score=lambda prompt: 0.9 if "hardest" in prompt else 0.1)
    three = chat(strong=chat(router=hardest, strong="openai/huge", weak="openai/big"))
    answer = three.invoke("easy", {"configurable": {"routellm_threshold": 0.05}})
    assert answer.response_metadata["model_name"] == "big"


def test_an_assigned_option_takes_effect(chat: Chat, local_models: LocalModelServer) -> None:
    model = chat()
    bound, structured = model.bind_tools([get_weather]), model.with_structured_output(Report, include_raw=True)
    model.threshold = 0.05
    for answer in (model.invoke("easy"), bound.invoke("easy"), structured.invoke("easy in 'Rome', 7")["raw"]):  # type: ignore[index]
        assert _tier(answer) == "strong"
    model.threshold = 0.5
    assert _tier(model.invoke("easy")) == "weak"
    model.weak = "openai/other"
    assert model.invoke("easy").response_metadata["model_name"] == "other"
    assert model.decide("easy").model == "openai/other"
    assert bound.invoke("easy").response_metadata["model_name"] == "other"
    model.temperature = 0.5
    model.invoke("easy")
    assert local_models.requests[-1]["temperature"] == 0.5
    model.router = load_router("random")
    model.strong_share = 0.0
    assert (model.threshold, model.model_name, _tier(model.invoke("hard"))) == (None, "router-random-1.0", "weak")
    model.api_base = "http://127.0.0.1:9/v1"
    with pytest.raises(Exception, match="onnection"):
        model.invoke("easy")


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 2), ("weak", 3), ("router", "mff"), ("no_prompt_tier", "x"), ("temperature", "hot"), ("sticky", 1)],
)
def test_a_bad_assignment_is_refused_whole(chat: Chat, name: str, value: Any) -> None:
    model = chat()
    before = getattr(model, name)
    with pytest.raises(Exception, match=r".+"):
        setattr(model, name, value)
    assert getattr(model, name) == before
    assert model.invoke("easy").content == "small answers: easy"


@pytest.mark.parametrize("given", ["given", "named"])
def test_copies_and_pickles(given: str, chat: Chat, openai: OpenAI) -> None:
    models = {"strong": openai("big"), "weak": openai("small")} if given == "given" else {}
    model = chat(router="random", threshold=1, sticky=False, **models)
    for other in (copy.copy(model), copy.deepcopy(model), model.model_copy(), model.model_copy(deep=True)):
        assert other.invoke("Hello").content == "small answers: Hello"
        assert other.routing.selector is model.routing.selector, "the router was loaded again"
        other.threshold = 0
        assert (other.decide("Hello").tier, model.decide("Hello").tier) == ("strong", "weak")
    assert "RouteLLMChat" in dumps(model)
    assert "local" not in dumps(model).replace("127.0.0.1", "").replace("localhost", "")
    if given == "named":
        assert pickle.loads(pickle.dumps(model)).invoke("Hello").content == "small answers: Hello"


def test_runnables_around_a_model_are_models(chat: Chat, openai: OpenAI, runs: Any) -> None:
    backed = openai("fail-400").with_fallbacks([openai("backup")])
    bound = openai("small").bind(stop=["never"]).with_config(tags=["cheap"]).with_retry(stop_after_attempt=2)
    model = chat(strong=backed, weak=bound)
    assert model.decide("hard").model == "fail-400"
    for call in (model, model.bind_tools([get_weather])):
        assert call.invoke("hard").response_metadata["model_name"] == "backup"
        assert call.invoke("easy", {"callbacks": [runs]}).response_metadata["model_name"] == "small"
    assert model.with_structured_output(Report).invoke("hard: 'Rome', 7").place == "Rome"  # type: ignore[union-attr]
    assert model.generate([_messages(model, "hard")]).generations[0][0].text.startswith("backup")
    assert "".join(chunk.text for chunk in model.stream("hard")) == "backup answers: hard"
    agent = create_agent(model, [get_weather]).invoke({"messages": [("human", "What is the hard weather in 'Rome'?")]})
    assert agent["messages"][-1].response_metadata["model_name"] == "backup"
    with pytest.raises(ConfigError, match="strong must be a litellm model name"):
        chat(strong=RunnableLambda(lambda text: text))


def test_a_batch_is_scored_together(chat: Chat) -> None:
    router = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)
    model = chat(router=router)
    prompts = ["easy 1", "hard 2", "easy 3"]
    answers = model.batch(prompts)
    assert [answer.response_metadata["model_name"] for answer in answers] == ["small", "big", "small"]
    assert router.batches == [prompts]
    assert len(dict(model.batch_as_completed(prompts))) == 3
    assert len(router.batches) == 2
    mixed = model.batch(["easy", []], return_exceptions=True)
    assert mixed[0].content == "small answers: easy"
    assert isinstance(mixed[1], Exception)
    structured = model.with_structured_output(Report).batch(["easy 'Rome' 7", "hard 'Oslo' 8"])
    assert [item.place for item in structured] == ["Rome", "Oslo"]  # type: ignore[union-attr]
    assert len(router.batches[-1]) == 2


def test_nested_routers_keep_one_record(chat: Chat, runs: Any) -> None:
    hardest = FixedScoreRouter(score=lambda prompt: 0.9 if "hardest" in prompt else 0.1)
    three = chat(strong=chat(router=hardest, strong="openai/huge", weak="openai/big"))
    first = next(three.stream("hardest"))
    for answer in (three.invoke("hardest", {"callbacks": [runs]}), first):
        record = answer.response_metadata["routing"]
        assert (record["tier"], record["model"], record["router"]) == ("strong", "openai/huge", "fixed")
        assert (record["inner"]["tier"], record["inner"]["model"]) == ("strong", "openai/huge")
        assert "inner" not in record["inner"]
    metadata = runs.roots[0].extra["metadata"]["routing"]
    assert (metadata["model"], metadata["inner"]["tier"]) == ("openai/huge", "strong")
    assert "inner" not in three.invoke("easy").response_metadata["routing"]


def test_two_models_of_one_name(chat: Chat, openai: OpenAI, local_models: LocalModelServer) -> None:
    model = chat(strong=openai("big", reasoning_effort="high"), weak=openai("big", reasoning_effort="low"))
    for prompt, effort, tier in (("hard", "high", "strong"), ("easy", "low", "weak")):
        assert _tier(model.invoke(prompt)) == tier
        assert local_models.requests[-1]["reasoning_effort"] == effort
    assert _tier(model.invoke("hard", model="weak")) == "weak"
    failing = chat(strong={"model": "openai/fail-503"}, weak={"model": "openai/fail-503", "drop_params": ["seed"]})
    before = len(local_models.requests)
    with pytest.raises(Exception, match="503"):
        failing.invoke("hard")
    assert len(local_models.requests) == before + 2, "the other one was not asked"


def _messages(model: RouteLLMChat, text: str) -> list[Any]:
    return model._convert_input(text).to_messages()
