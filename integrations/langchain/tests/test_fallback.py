"""When a model fails in a way that may pass, the other one answers, and the decision says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai as openai_sdk
import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from langchain_routellm import RouteLLMChat
from pydantic import BaseModel

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.errors import BackendError
from routellm_core.providers.errors import is_retryable
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]
# LangChain says so at each use of stream_events(version="v3").
pytestmark = pytest.mark.filterwarnings("ignore:.*is in beta. It is actively being worked on:Warning")


@pytest.fixture(params=["given", "named"])
def failing(request: pytest.FixtureRequest, chat: Chat, openai: Callable[..., ChatOpenAI]) -> Chat:
    def build(trouble: str, **options: Any) -> RouteLLMChat:
        strong = openai(trouble) if request.param == "given" else f"openai/{trouble}"
        return chat(strong=strong, **options)

    return build


@pytest.mark.parametrize("trouble", ["fail-429", "fail-500", "fail-503", "drop"])
async def test_the_other_model_answers(failing: Chat, trouble: str, runs: Any) -> None:
    model = failing(trouble)
    chunks = list(model.stream("a hard one"))
    achunks = [chunk async for chunk in model.astream("a hard one")]
    answers = [
        model.invoke("a hard one", {"callbacks": [runs]}),
        await model.ainvoke("a hard one"),
        sum(chunks[1:], chunks[0]),  # type: ignore[arg-type]
        sum(achunks[1:], achunks[0]),  # type: ignore[arg-type]
        model.stream_events("a hard one", version="v3").output,
        await (await model.astream_events("a hard one", version="v3")),
    ]
    for answer in answers:
        assert answer.text == "small answers: a hard one"
        routing = answer.response_metadata["routing"]
        assert (routing["tier"], routing["model"]) == ("weak", "openai/small")
        assert routing["fallback_from"].endswith(trouble)
        assert "so openai/small answered" in routing["reason"]
    failed, answered = runs.roots
    assert failed.error
    assert answered.extra["metadata"]["routing"]["fallback_from"].endswith(trouble)


def test_structured_output_falls_back_too(failing: Chat) -> None:
    class Answer(BaseModel):
        number: int

    assert failing("fail-500").with_structured_output(Answer).invoke("hard, 3").number == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("trouble", ["fail-400", "fail-401", "fail-403"])
def test_what_would_fail_again_does_not_fall_back(failing: Chat, trouble: str, local_models: LocalModelServer) -> None:
    with pytest.raises((BackendError, openai_sdk.APIStatusError)) as raised:
        failing(trouble).invoke("a hard one")
    assert raised.value.status_code == int(trouble[-3:])
    assert local_models.requests[-1]["model"] == trouble


def test_fallback_can_be_off(failing: Chat) -> None:
    with pytest.raises((BackendError, openai_sdk.APIStatusError)):
        failing("fail-500", resilience=ResiliencePolicy(attempts=1, fallback=False)).invoke("a hard one")


def test_when_both_fail_the_first_error_tells_of_the_second(failing: Chat) -> None:
    with pytest.raises((BackendError, openai_sdk.InternalServerError)) as raised:
        failing("fail-500", weak="openai/fail-503").invoke("a hard one")
    assert raised.value.status_code == 500
    said = str(raised.value) + "".join(getattr(raised.value, "__notes__", ()))
    assert "openai/fail-503" in said
    assert "failed" in said


def test_a_stream_that_breaks_off_cannot_be_repaired(failing: Chat) -> None:
    read: list[str] = []
    chunks = (read.append(chunk.text) for chunk in failing("cut").stream("a hard one"))
    with pytest.raises((BackendError, httpx.HTTPError, openai_sdk.APIError)):
        list(chunks)
    assert "".join(read) == "cut answers: "


def test_a_named_model_is_tried_again_first(chat: Chat, local_models: LocalModelServer) -> None:
    answer = chat(strong="openai/flaky-503", max_retries=1).invoke("a hard one")
    assert answer.content == "flaky-503 answers: a hard one"
    assert "fallback_from" not in answer.response_metadata["routing"]


def test_a_failover_is_kept_within_the_turn_and_not_remembered(chat: Chat) -> None:
    model = chat(strong="openai/fail-500")
    answer = model.invoke("a hard one")
    assert model.decide(["a hard one", answer]).tier == "weak", "it has begun, and has to go on"
    assert model.decide(["a hard one", answer, HumanMessage("another hard one")]).tier == "strong"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackendError("x", model="m", status_code=503, retryable=True), True),
        (BackendError("x", model="m", status_code=400, retryable=False), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (httpx.ConnectError("x"), True),
        (openai_sdk.APITimeoutError(httpx.Request("POST", "http://x")), True),
        (ValueError("a mistake in the program"), False),
        (KeyError("content"), False),
    ],
)
def test_failures_that_may_pass(error: Exception, expected: bool) -> None:
    assert is_retryable(error) is expected


def test_statuses_are_found_where_sdks_keep_them() -> None:
    in_response = RuntimeError()
    in_response.response = httpx.Response(503)  # type: ignore[attr-defined]
    of_botocore = RuntimeError()
    of_botocore.response = {"ResponseMetadata": {"HTTPStatusCode": 429}}  # type: ignore[attr-defined]
    of_google = RuntimeError()
    of_google.code = 400  # type: ignore[attr-defined]
    assert [is_retryable(error) for error in (in_response, of_botocore, of_google)] == [True, True, False]


class Scripted(GenericFakeChatModel):
    """Streams what it is told, and then raises where it is told so."""

    pieces: list[Any]

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield ChatGenerationChunk(message=piece)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        message: Any = AIMessage("")
        for chunk in self._stream():
            said = str(message.content) + str(chunk.message.content)
            message = AIMessage(said, response_metadata=chunk.message.response_metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


NOTHING = AIMessageChunk("", response_metadata={"finish_reason": "stop"})
FILTERED = AIMessageChunk("", response_metadata={"finish_reason": "content_filter"})


@pytest.mark.parametrize(
    "pieces",
    [
        [ConnectionError("lost")],
        [AIMessageChunk(""), ConnectionError("lost")],
        [AIMessageChunk(""), AIMessageChunk(""), httpx.ReadTimeout("too slow")],
        [NOTHING],
        [AIMessageChunk("  \n"), NOTHING],
        [],
    ],
)
async def test_what_says_nothing_moves_on(chat: Chat, pieces: list[Any]) -> None:
    model = chat(strong=Scripted(messages=iter(()), pieces=pieces))
    if "  \n" not in [getattr(piece, "content", "") for piece in pieces]:  # in a stream, white space has gone out
        assert "".join(chunk.text for chunk in model.stream("hard")) == "small answers: hard"
        assert "".join([chunk.text async for chunk in model.astream("hard")]) == "small answers: hard"
    assert model.invoke("hard").text == "small answers: hard"
    answer = await model.ainvoke("hard")
    assert answer.response_metadata["routing"]["tier"] == "weak"


def test_empty_and_filtered_answers_move_as_the_policy_says(chat: Chat) -> None:
    def asked(pieces: list[Any], **policy: Any) -> str:
        resilience = ResiliencePolicy(attempts=1, **policy)
        model = chat(strong=Scripted(messages=iter(()), pieces=pieces), resilience=resilience)
        return str(model.invoke("hard").response_metadata["routing"]["tier"])

    assert asked([FILTERED]) == "strong"
    assert asked([FILTERED], filtered_answers=True) == "weak"
    assert asked([NOTHING], empty_answers=False) == "strong"
    both = chat(**{tier: Scripted(messages=iter(()), pieces=[NOTHING]) for tier in ("strong", "weak")})
    assert both.invoke("hard").text == "", "an empty answer is better than an error"


def test_foreign_errors_that_fit_elsewhere_move(chat: Chat) -> None:
    refused = openai_sdk.BadRequestError(
        "This model's maximum context length is 9 tokens",
        response=httpx.Response(400, request=httpx.Request("POST", "http://x")),
        body={"code": "context_length_exceeded"},
    )
    model = chat(strong=Scripted(messages=iter(()), pieces=[refused]))
    for number in range(5):
        assert model.invoke(f"hard {number}").response_metadata["routing"]["tier"] == "weak"
    assert not model.routing.cool_downs.cooling(), "too long a request is not the model's failure"


def test_what_only_the_other_model_can_read_is_left_out(chat: Chat) -> None:
    seen: list[Any] = []

    class Reading(Scripted):
        def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
            seen.append(messages)
            return super()._generate()

    thinking = {"type": "thinking", "thinking": "…", "signature": "s" * 200}
    signed: Any = [thinking, {"type": "text", "text": "It is so."}]
    model = chat(
        strong=_Thinking(messages=iter(()), signed=signed),
        weak=Reading(messages=iter(()), pieces=[AIMessageChunk("yes")]),
        sticky=False,
    )
    answer = model.invoke("hard")
    assert answer.content == signed
    follow = [HumanMessage("hard"), answer, HumanMessage("an easy one, which has nothing to do with it")]
    assert model.invoke(follow).text == "yes"
    assert seen[-1][1].content == [{"type": "text", "text": "It is so."}]


class _Thinking(GenericFakeChatModel):
    signed: Any

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.signed))])
