"""When a model fails: the other one where that can help, the model's own error where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse
from llama_index.core.llms import CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool
from llama_index.llms.routellm import RoutingDecisionEvent
from pydantic import BaseModel

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.errors import BackendError

USER = [ChatMessage(role="user", content="a hard question")]


def get_weather(days: int) -> str:
    """Forecast the weather."""
    return f"sunny for {days} days"


class Failing(CustomLLM):
    """A foreign LLM whose service raises what its SDK raises."""

    error: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="failing")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise self.error

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        yield CompletionResponse(text="half", delta="half")
        raise self.error


@pytest.mark.parametrize("trouble", ["fail-429", "fail-503", "drop", "garbage", "empty"])
async def test_a_failing_model_falls_back_to_the_other(build: Any, recorder: Any, trouble: str) -> None:
    llm = build(strong=f"openai/{trouble}")
    answers = [
        llm.chat(USER),
        await llm.achat(USER),
        list(llm.stream_chat(USER))[-1],
        [chunk async for chunk in await llm.astream_chat(USER)][-1],
    ]
    for answer in answers:
        routing = answer.additional_kwargs["routing"]
        assert answer.message.content == "small answers: a hard question"
        assert (routing["tier"], routing["model"]) == ("weak", "openai/small")
        assert routing["fallback_from"] == f"openai/{trouble}"
        assert f"openai/{trouble} failed with status" in routing["reason"]
    tiers = [event.decision["tier"] for event in recorder.of(RoutingDecisionEvent)]
    assert tiers == ["strong", "weak"] * 4  # a failover is not remembered as a decision


async def test_tools_predictions_and_query_engines_fall_back_too(build: Any, index: VectorStoreIndex) -> None:
    class Finding(BaseModel):
        """What was found."""

        answer: str

    llm = build(strong="openai/fail-500")
    tool = FunctionTool.from_defaults(get_weather)
    question = "a hard weather question, 3 days"
    answer = llm.chat_with_tools([tool], question, chat_history=USER)
    assert llm.get_tool_calls_from_response(answer)[0].tool_kwargs == {"days": 3}
    assert len(build.requests[-1]["messages"]) == 2
    for mode in ("compact", "tree_summarize"):
        assert "small answers" in str(index.as_query_engine(llm=llm, response_mode=mode).query("a hard question"))
    streamed = index.as_query_engine(llm=llm, streaming=True).query("a hard question")
    assert "small answers" in "".join(streamed.response_gen)
    engine = index.as_query_engine(llm=llm, output_cls=Finding)
    assert isinstance((await engine.aquery("a hard question")).response, Finding)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_what_would_fail_again_is_raised(build: Any, status: int) -> None:
    with pytest.raises(BackendError, match=f"failed with status {status}") as raised:
        build(strong=f"openai/fail-{status}").chat(USER)
    assert (raised.value.status_code, raised.value.retryable) == (status, False)
    assert build.answered == [f"fail-{status}"]


def test_both_models_failing_names_both(build: Any) -> None:
    with pytest.raises(BackendError, match=r"both models failed: .*fail-429.*; then .*fail-500") as raised:
        build(strong="openai/fail-429", weak="openai/fail-500").chat(USER)
    assert raised.value.status_code == 429
    with pytest.raises(TimeoutError) as foreign:
        build(strong=Failing(error=TimeoutError()), weak="openai/fail-500").complete(USER[0].content)
    assert "The other model, openai/fail-500, failed too" in foreign.value.__notes__[0]


def test_fallback_can_be_off_and_retries_are_counted(build: Any) -> None:
    policy = ResiliencePolicy(attempts=3, wait_initial=0, wait_max=0, fallback=False)
    with pytest.raises(BackendError):
        build(strong="openai/fail-503", resilience=policy).chat(USER)
    assert build.answered == ["fail-503"] * 3
    assert build(strong="openai/flaky-500", resilience=policy).chat(USER).message.content.startswith("flaky-500")
    with pytest.raises(BackendError):
        build(strong="openai/fail-503", resilience=policy, max_retries=0).chat(USER)
    assert build.answered[-1:] == ["fail-503"]


def test_a_time_out_is_a_failure_that_may_pass(build: Any) -> None:
    slow = {"model": "openai/slow-5", "timeout": 0.2}
    slow |= {"api_base": build().api_base, "api_key": "k"}
    answer = build(strong=slow).chat(USER)
    assert answer.additional_kwargs["routing"]["fallback_from"] == "openai/slow-5"


def test_a_stream_cut_in_the_middle_is_an_error_after_its_beginning(build: Any) -> None:
    long = [ChatMessage(role="user", content="a hard one two three four five six")]
    with pytest.raises(BackendError, match="status 502"):
        list(build(strong="openai/cut").stream_chat(long))


def test_a_foreign_models_errors(build: Any) -> None:
    class RateLimitError(Exception):
        status_code = 429

    hard = "a hard question"
    llm = build(strong=Failing(error=RateLimitError("slow down")))
    assert llm.complete(hard).text == f"small answers: {hard}"
    with pytest.raises(RateLimitError, match="slow down"):
        list(llm.stream_complete(hard))
    with pytest.raises(KeyError, match="a mistake"):
        build(strong=Failing(error=KeyError("a mistake"))).complete(hard)
    assert build(strong=Failing(error=TimeoutError())).complete(hard).text.startswith("small")


async def test_an_abandoned_stream_closes(build: Any) -> None:
    stream = build().stream_chat(USER)
    next(stream)
    stream.close()
    assert list(stream) == []
    astream = await build().astream_chat(USER)
    await anext(astream)
    await astream.aclose()
    assert [chunk async for chunk in astream] == []
