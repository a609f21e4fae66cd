"""What LangChain wraps around a chat model: caches, limiters, fallbacks, retries, configuration, batches, output."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableBinding
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from routellm_core.errors import BackendError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]


class City(BaseModel):
    """A city."""

    name: str = Field(description="its name")
    people: int = Field(description="how many live there")


class CityDict(TypedDict):
    """A city."""

    name: str
    people: int


@tool
def get_weather(place: str) -> str:
    """Tell the weather at a place."""
    return f"sunny in {place}"


class Counting(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire()


@pytest.fixture(params=["given", "named", "mixed"])
def build(request: pytest.FixtureRequest, chat: Chat, openai: Callable[..., ChatOpenAI]) -> Chat:
    models: dict[str, Any] = {"strong": openai("big"), "weak": openai("small")}
    if request.param == "named":
        models = {}
    elif request.param == "mixed":
        del models["weak"]
    return lambda **options: chat(**{**models, **options})


async def test_a_cache_answers_for_the_model_that_would(build: Chat, local_models: LocalModelServer) -> None:
    cached = build(cache=InMemoryCache())
    first = [cached.invoke("an easy one"), cached.invoke("a hard one")]
    calls = len(local_models.requests)
    again = [cached.invoke("an easy one"), await cached.ainvoke("a hard one")]
    assert len(local_models.requests) == calls
    assert [message.content for message in again] == [message.content for message in first]
    assert [message.response_metadata["routing"]["tier"] for message in again] == ["weak", "strong"]
    forced = cached.invoke("an easy one", model="strong")
    assert str(forced.content).startswith("big"), "the weak model's cached answer was given for the strong one"
    assert cached.invoke("an easy one").response_metadata["routing"]["score"] == 0.1


def test_a_cache_tells_settings_apart(build: Chat) -> None:
    cache = InMemoryCache()
    long, short = build(cache=cache), build(cache=cache, max_tokens=1)
    assert long.invoke("an easy one").content != short.invoke("an easy one").content


async def test_rate_limiters_add_up(chat: Chat, openai: Callable[..., ChatOpenAI]) -> None:
    both, own = Counting(), Counting()
    limited = chat(rate_limiter=both, strong=openai("big", rate_limiter=own))
    limited.invoke("a hard one")
    await limited.ainvoke("an easy one")
    list(limited.stream("a hard one"))
    assert (both.acquired, own.acquired) == (3, 2)


def test_with_fallbacks(build: Chat, chat: Chat) -> None:
    broken = build(strong="openai/fail-400", weak="openai/fail-400")
    backed_up = broken.with_fallbacks([chat()])
    assert backed_up.invoke("an easy one").content == "small answers: an easy one"
    assert "".join(str(chunk.content) for chunk in backed_up.stream("a hard one")) == "big answers: a hard one"


def test_with_retry(build: Chat) -> None:
    flaky = build(weak="openai/flaky-400")
    with pytest.raises(BackendError, match="status 400"):
        flaky.invoke("an easy one")
    retried = flaky.with_retry(retry_if_exception_type=(BackendError,), wait_exponential_jitter=False)
    for _ in range(3):  # each time, the first or the second attempt meets the failing call
        assert retried.invoke("an easy one").content == "flaky-400 answers: an easy one"


async def test_configurable_fields_share_router_and_memory(build: Chat) -> None:
    router = FixedScoreRouter(score=0.4)
    base = build(router=router, sticky="conversation")
    configurable = base.configurable_fields(
        threshold=ConfigurableField(id="threshold"), temperature=ConfigurableField(id="temperature")
    )
    assert str(configurable.invoke("x").content).startswith("small")
    strong = configurable.with_config(configurable={"threshold": 0.3, "thread_id": "t"})
    assert str(strong.invoke("x").content).startswith("big")
    assert str((await strong.ainvoke("x")).content).startswith("big")
    assert len(router.batches) == 3, "another router was loaded"
    again = configurable.invoke("x", {"configurable": {"thread_id": "t"}})
    assert "stays on the strong model" in again.response_metadata["routing"]["reason"]


def test_configurable_alternatives(chat: Chat) -> None:
    choice = chat().configurable_alternatives(
        ConfigurableField(id="llm"), fixed=GenericFakeChatModel(messages=iter([AIMessage("fake")]))
    )
    assert choice.invoke("x", {"configurable": {"llm": "fixed"}}).content == "fake"
    assert choice.invoke("x").content == "small answers: x"


async def test_batches_route_each_input(build: Chat) -> None:
    prompts = [f"{'hard' if number % 2 else 'easy'} {number}" for number in range(12)]
    expected = [f"{'big' if number % 2 else 'small'} answers: {prompts[number]}" for number in range(12)]
    batch = build().batch(prompts, {"max_concurrency": 4})
    assert [message.content for message in batch] == expected
    abatch = await build().abatch(prompts, {"max_concurrency": 4})
    assert [message.content for message in abatch] == expected
    done = dict(build().batch_as_completed(prompts[:3]))
    assert [done[index].content for index in range(3)] == expected[:3]  # type: ignore[union-attr]
    kept = build(weak="openai/fail-400").batch(["hard", "easy"], return_exceptions=True)
    assert isinstance(kept[0], AIMessage)
    assert isinstance(kept[1], Exception)


def test_batches_run_concurrently(chat: Chat) -> None:
    started = time.perf_counter()
    chat(weak="openai/slow-0.3").batch(["easy"] * 6, {"max_concurrency": 6})
    assert time.perf_counter() - started < 1.2


def test_threads_share_one_model(build: Chat) -> None:
    shared = build()
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = shared.invoke("hard" if number % 2 else "easy").content

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(answers[number]).split()[0] for number in range(8)] == ["small", "big"] * 4


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [City, CityDict, City.model_json_schema()], ids=["pydantic", "typeddict", "json"])
@pytest.mark.parametrize("tier", ["strong", "weak"])
async def test_structured_output(build: Chat, method: str, schema: Any, tier: str) -> None:
    structured = build().with_structured_output(schema, method=method).bind(model=tier)
    question = "Give a city as JSON with the keys 'name' and 'people', 7."
    if method == "json_mode":  # without a schema the local model fills every key with text
        schema_free = build().with_structured_output(City.model_json_schema(), method=method).bind(model=tier)
        assert set(schema_free.invoke(question)) == {"name", "people"}
        return
    for result in (
        structured.invoke(question),
        await structured.ainvoke(question),
        list(structured.stream(question))[-1],
        [part async for part in structured.astream(question)][-1],
    ):
        assert isinstance(result, City if schema is City else dict)
        assert (result.people if schema is City else result["people"]) == 7  # type: ignore[union-attr]


def test_structured_output_with_the_message(build: Chat) -> None:
    structured = build().with_structured_output(City, include_raw=True, method="function_calling")
    result = structured.invoke("a hard city with 7 people")
    assert isinstance(result["parsed"], City)  # type: ignore[index]
    assert result["parsing_error"] is None  # type: ignore[index]
    assert result["raw"].response_metadata["routing"]["tier"] == "strong"  # type: ignore[index]
    failed = build().with_structured_output(City, include_raw=True, method="json_mode").invoke("an easy one")
    assert failed["parsed"] is None  # type: ignore[index]
    assert failed["parsing_error"] is not None  # type: ignore[index]


def test_structured_output_in_a_chain(build: Chat) -> None:
    chain = ChatPromptTemplate.from_messages([("human", "A {kind} city of 5")]) | build().with_structured_output(City)
    assert [city.people for city in chain.batch([{"kind": "hard"}, {"kind": "easy"}])] == [5, 5]  # type: ignore[union-attr]
    assert chain.get_graph().nodes
    assert chain.steps[-1].InputType == build().InputType  # type: ignore[attr-defined]


@pytest.mark.parametrize("tool_choice", ["any", "get_weather", "auto", "none", True])
def test_tools_are_bound_by_each_model(build: Chat, tool_choice: Any) -> None:
    bound = build().bind_tools([get_weather], tool_choice=tool_choice)
    assert isinstance(bound, RunnableBinding)
    assert bound.kwargs["tools"][0]["function"]["name"] == "get_weather"
    for prompt in ("What is the hard weather in 'Rome'?", "What is the weather in 'Rome'?"):
        calls = bound.invoke(prompt).tool_calls
        assert [call["args"] for call in calls] == ([] if tool_choice == "none" else [{"place": "Rome"}])
        whole = None
        for chunk in bound.stream(prompt):
            whole = chunk if whole is None else whole + chunk  # type: ignore[operator]
        assert len(whole.tool_calls) == len(calls)  # type: ignore[union-attr]


def test_plain_tools_of_a_call_are_passed_on(build: Chat) -> None:
    described = build().bind_tools([get_weather]).kwargs["tools"]  # type: ignore[attr-defined]
    answer = build().invoke("What is the weather in 'Rome'?", tools=list(described))
    assert answer.tool_calls[0]["args"] == {"place": "Rome"}


def test_a_model_without_tools_says_so_at_once(chat: Chat) -> None:
    without = chat(weak=GenericFakeChatModel(messages=iter(())))
    with pytest.raises(NotImplementedError):
        without.bind_tools([get_weather])
    with pytest.raises(NotImplementedError):
        without.with_structured_output(City)


def test_an_abandoned_stream_closes(build: Chat, runs: Any) -> None:
    stream = build().stream("a hard one", {"callbacks": [runs]})
    next(stream)
    stream.close()
    assert len(runs.roots) == 1, "the run was left open"
