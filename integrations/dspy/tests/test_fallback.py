"""A failing model falls back to the other; streams do until their first piece; what would fail again does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import dspy
import pytest
from dspy.lm15 import (
    ErrorDetail,
    Message,
    Request,
    Response,
    StreamErrorEvent,
    StreamStartEvent,
    TextPart,
    TransportError,
    Usage,
    response_to_events,
)
from dspy_routellm import RouteLLM, routing_of

from routellm_core.backends.resilience import ResiliencePolicy

MakeLM = Callable[..., RouteLLM]
TROUBLES = ["fail-429", "fail-500", "fail-503", "drop", "garbage", "empty"]


def request_for(lm: RouteLLM) -> Request:
    return Request(model=lm.model, messages=(Message.user("one two three four * five six"),))


async def collected(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_failing_model_falls_back_to_the_other(make_lm: MakeLM, trouble: str) -> None:
    lm = make_lm(f"openai/{trouble}", cache=False)
    assert lm("6 * 7") == await lm.acall("6 * 7") == ["small answers: 6 * 7"]
    for entry in lm.history:
        routing = entry["routing"]
        assert (routing["tier"], routing["model"], routing["fallback_from"]) == (
            "weak",
            "openai/small",
            f"openai/{trouble}",
        )
        assert "so openai/small answered" in routing["reason"]
    assert lm.model_counts == {"openai/small": 2}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_so_does_a_stream_that_does_not_begin(make_lm: MakeLM, trouble: str) -> None:
    lm = make_lm(f"openai/{trouble}")
    events = list(lm.engine.stream(request_for(lm)))
    aevents = await collected(lm._async_engine_spec.stream(request_for(lm)))
    for stream in (events, aevents):
        said = "".join(event.delta.text for event in stream if event.type == "delta")
        assert said == "small answers: one two three four * five six"
        assert [event.type for event in stream].count("start") == 1
        assert stream[-1].provider_data["routing"]["fallback_from"] == f"openai/{trouble}"


def test_a_stream_cut_in_the_middle_is_an_error(make_lm: MakeLM) -> None:
    lm = make_lm("openai/cut")
    stream = lm.engine.stream(request_for(lm))
    with pytest.raises(Exception, match="closed connection"):
        list(stream)


@pytest.mark.parametrize(
    ("status", "error"), [(400, dspy.LMInvalidRequestError), (401, dspy.LMError), (422, dspy.LMError)]
)
def test_what_would_fail_again_does_not_fall_back(make_lm: MakeLM, status: int, error: type[Exception]) -> None:
    lm = make_lm(f"openai/fail-{status}")
    with pytest.raises(error, match=f"fail-{status} was asked to fail"):
        lm("6 * 7")
    assert lm.model_counts == {}


async def test_both_models_failing_names_both(make_lm: MakeLM) -> None:
    lm = make_lm("openai/fail-429", "openai/fail-500")
    message = r"fail-429 was asked to fail.* The other model, openai/fail-500, failed too: ServerError"
    with pytest.raises(dspy.LMRateLimitError, match=message):
        lm("6 * 7")
    with pytest.raises(dspy.LMRateLimitError, match=message):
        await lm.acall("6 * 7")
    with pytest.raises(
        dspy.LMError, match=r"openai/empty gave no readable answer.* The other model, openai/fail-400, failed too"
    ):
        make_lm("openai/empty", "openai/fail-400")("6 * 7")


def test_a_model_is_asked_again_before_the_other_one(make_lm: MakeLM) -> None:
    lm = make_lm("openai/flaky-503", resilience=ResiliencePolicy(attempts=2, wait_initial=0, wait_max=0))
    assert lm("6 * 7") == ["flaky-503 answers: 6 * 7"]
    assert "fallback_from" not in lm.history[-1]["routing"]


def test_fallback_can_be_off_and_a_time_out_counts(make_lm: MakeLM) -> None:
    off = ResiliencePolicy(attempts=1, fallback=False)
    with pytest.raises(dspy.LMServerError, match="fail-500 was asked to fail"):
        make_lm("openai/fail-500", resilience=off)("6 * 7")
    assert make_lm("openai/slow-5", timeout=0.3)("6 * 7") == ["small answers: 6 * 7"]


def test_dspys_retries_start_over(make_lm: MakeLM) -> None:
    off = ResiliencePolicy(attempts=1, fallback=False)
    lm = make_lm("openai/flaky-429", num_retries=1, resilience=off)  # Retry-After: 0
    assert lm("6 * 7") == ["flaky-429 answers: 6 * 7"]


class Scripted:
    """A custom engine: raises or yields what it is told."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.closed = 0

    def complete(self, request: Request) -> Response:
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(step)]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )

    def stream(self, request: Request) -> Iterator[Any]:
        try:
            step = self.script[0]
            if isinstance(step, list):
                yield from self.script.pop(0)
            else:
                yield from response_to_events(self.complete(request))
        finally:
            self.closed += 1


class AsyncScripted:
    def __init__(self, engine: Scripted) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        return self.engine.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        for event in self.engine.stream(request):
            yield event


def scripted_lm(make_lm: MakeLM, engine: Scripted, **options: Any) -> RouteLLM:
    strong = dspy.LM("custom/strong", engine=engine, async_engine=AsyncScripted(engine))
    return make_lm(strong, **options)


async def test_custom_engines_serve_as_models(make_lm: MakeLM) -> None:
    lm = scripted_lm(make_lm, Scripted("one", "two", "three"), cache=False)
    assert lm("6 * 7") == ["one"]
    assert await lm.acall("6 * 7") == ["two"]
    assert routing_of(lm.history[-1])["model"] == "custom/strong"
    assert len(list(lm.engine.stream(request_for(lm)))) > 1


def test_their_mistakes_are_not_covered_up(make_lm: MakeLM) -> None:
    lm = scripted_lm(make_lm, Scripted(KeyError("a mistake in the engine")))
    with pytest.raises(dspy.LMError, match="a mistake in the engine"):
        lm("6 * 7")
    retryable = scripted_lm(make_lm, Scripted(TransportError("gone")))
    assert retryable("6 * 7") == ["small answers: 6 * 7"]


def test_an_error_event_falls_back_too_and_every_stream_is_closed(make_lm: MakeLM) -> None:
    error = StreamErrorEvent(error=ErrorDetail(code="server", message="overloaded"))
    engine = Scripted([StreamStartEvent(model="m"), error], [])
    lm = scripted_lm(make_lm, engine)
    assert list(lm.engine.stream(request_for(lm)))[-1].provider_data["routing"]["model"] == "openai/small"
    assert engine.closed == 1
    assert list(lm.engine.stream(request_for(lm)))[-1].provider_data["routing"]["model"] == "openai/small"
    assert engine.closed == 2


def test_an_abandoned_stream_is_closed(make_lm: MakeLM) -> None:
    engine = Scripted("one two three", "one two three")
    lm = scripted_lm(make_lm, engine)
    stream = lm.engine.stream(request_for(lm))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.closed == 1


def test_a_model_without_asynchronous_engine_says_so(make_lm: MakeLM) -> None:
    lm = make_lm(dspy.LM("custom/strong", engine=Scripted("one")))
    with pytest.raises(dspy.LMUnsupportedFeatureError, match="no async counterpart"):
        asyncio.run(lm.acall("6 * 7"))
