"""One table of ways in which a model fails, over the server and the Controller, relayed, direct and through litellm."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import openai
import pytest
from aiohttp import web

from routellm_core import BackendError, Controller, ResiliencePolicy
from routellm_core.testing.local_models import LocalModelServer

HELLO = [{"role": "user", "content": "Hello!"}]
STRONG = "big answers: Hello!"


class Seen(NamedTuple):
    """What the one who asked saw: the text, and what went wrong."""

    text: str
    error: str | None


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    record = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "w", "choices": [choice]}
    return b"data: " + json.dumps(record).encode() + b"\n\n"


ROLE, WORD, STOP = chunk(role="assistant", content=""), chunk(content="word "), chunk("stop")
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n'
COMMENT = b": keep-alive\n\n"
BROKEN = b'data: {"id": "c", "object": \n\n'
CUT = b""  # the connection breaks


def streamed(*pieces: bytes | float) -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece == CUT:
                assert request.transport is not None
                request.transport.abort()
                raise asyncio.CancelledError
            else:
                await response.write(piece)
                await asyncio.sleep(0.01)
        return response

    return handler


def refused(status: int, message: str = "no", headers: dict[str, str] | None = None, **error: Any) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        envelope = {"error": {"message": message, "type": "x", "param": None, "code": None, **error}}
        return web.json_response(envelope, status=status, headers=headers)

    return handler


def whole(finish: str = "stop", **message: Any) -> Any:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(
            {"id": "c", "object": "chat.completion", "created": 1, "model": "w", "choices": [choice]}
        )

    return handler


async def hangs(_request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


MOVED, ERRS, WHOLE = "the other model answers", "an error", "the whole answer"

STREAMS = {
    "an error before anything": (streamed(ERROR), MOVED),
    "a comment, then an error": (streamed(COMMENT, ERROR), MOVED),
    "a role, then an error": (streamed(ROLE, ERROR), MOVED),
    "cut before the first event": (streamed(CUT), MOVED),
    "cut after the role": (streamed(ROLE, CUT), MOVED),
    "nothing at all": (streamed(), MOVED),
    "only comments": (streamed(COMMENT, COMMENT), MOVED),
    "a role and a stop": (streamed(ROLE, STOP, DONE), MOVED),
    "hangs": (hangs, MOVED),
    "silent after the role": (streamed(ROLE, 60.0), MOVED),
    "refused": (refused(503), MOVED),
    "cut in the middle": (streamed(ROLE, WORD, WORD, CUT), ERRS),
    "silent in the middle": (streamed(ROLE, WORD, 60.0), ERRS),
    "an error in the middle": (streamed(ROLE, WORD, ERROR), ERRS),
    "no end": (streamed(ROLE, WORD, WORD), ERRS),
    "one broken event": (streamed(ROLE, WORD, BROKEN, WORD, STOP, DONE), WHOLE),
    "no [DONE]": (streamed(ROLE, WORD, WORD, STOP), WHOLE),
}
# What litellm's reader of events does not survive, an error here too, but never half an answer.
LITELLM = {"one broken event": ERRS}

WHOLES = {
    **{f"status {status}": (refused(status), MOVED) for status in (402, 404, 408, 413, 429, 500, 502, 503, 529)},
    **{f"status {status}": (refused(status), ERRS) for status in (400, 401, 403, 422)},
    "too long": (refused(400, "maximum context length is 8192 tokens", code="context_length_exceeded"), MOVED),
    "no images": (refused(400, "this model does not support image input"), MOVED),
    "no such parameter": (refused(400, "Unsupported parameter: 'seed'", code="unsupported_parameter"), MOVED),
    "nothing": (whole(content=""), MOVED),
    "only reasoning": (whole("length", content=None, reasoning_content="hm hm"), MOVED),
    "filtered": (whole("content_filter", content=""), ""),
    "hangs": (hangs, MOVED),
    "an answer": (whole(content="word word "), WHOLE),
}

Ask = Callable[..., Seen]


@pytest.fixture(params=["relayed", "relayed through litellm", "direct", "direct, asynchronous", "litellm"])
def ask(request: pytest.FixtureRequest, serve: Any, scripted: Any, upstream: LocalModelServer) -> Ask:
    """Ask a weak model that fails as told, with a strong one beside it that works."""
    relay = False if "litellm" in request.param else None

    def settings(handler: Any) -> dict[str, Any]:
        limits = {"first_token_timeout": 0.7, "token_timeout": 0.7, "timeout": 0.7}
        return {"model": "openai/w", "api_base": scripted(handler), "api_key": "k", "relay": relay, **limits}

    def through_the_server(handler: Any, *, stream: bool) -> Seen:
        running = serve(weak=settings(handler), fallback={"attempts": 1})
        text = ""
        with running.client() as client:
            try:
                answer = client.chat.completions.create(model="weak", messages=HELLO, stream=stream)
                if not stream:
                    return Seen(answer.choices[0].message.content or "", None)
                for piece in answer:
                    text += piece.choices[0].delta.content or "" if piece.choices else ""
            except openai.APIError as error:
                return Seen(text, str(error))
        return Seen(text, None)

    def through_the_controller(handler: Any, *, stream: bool) -> Seen:
        strong = {"model": "openai/big", "api_base": upstream.base_url, "api_key": "k"}
        client = Controller(["random"], strong, settings(handler), resilience=ResiliencePolicy(attempts=1))
        text = [""]
        if request.param == "direct, asynchronous":
            run = asyncio.run(_aread(client, text, stream=stream))
            return Seen(text[0], run)
        try:
            answer = client.completion(model="weak", messages=HELLO, stream=stream)
            if not stream:
                return Seen(answer.choices[0].message.content or "", None)
            for piece in answer:
                text[0] += piece.choices[0].delta.content or "" if piece.choices else ""
        except BackendError as error:
            return Seen(text[0], str(error))
        return Seen(text[0], None)

    ask = through_the_server if request.param.startswith("relayed") else through_the_controller
    ask.__name__ = request.param
    return ask


async def _aread(client: Controller, text: list[str], *, stream: bool) -> str | None:
    try:
        answer = await client.acompletion(model="weak", messages=HELLO, stream=stream)
        if not stream:
            text[0] = answer.choices[0].message.content or ""
            return None
        async for piece in answer:
            text[0] += piece.choices[0].delta.content or "" if piece.choices else ""
    except BackendError as error:
        return str(error)
    return None


def check(seen: Seen, expected: str) -> None:
    if expected == MOVED:
        assert seen == (STRONG, None)
    elif expected == ERRS:
        assert seen.error is not None
    elif expected == WHOLE:
        assert seen == ("word word ", None)
    else:
        assert seen == (expected, None)


@pytest.mark.parametrize("situation", STREAMS)
def test_streams(ask: Ask, situation: str) -> None:
    handler, expected = STREAMS[situation]
    is_litellm = "litellm" in ask.__name__  # type: ignore[attr-defined]
    check(ask(handler, stream=True), LITELLM.get(situation, expected) if is_litellm else expected)


@pytest.mark.parametrize("situation", WHOLES)
def test_whole_answers(ask: Ask, situation: str) -> None:
    handler, expected = WHOLES[situation]
    check(ask(handler, stream=False), expected)


@pytest.mark.parametrize("path", ["/responses", "/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_other_operations_move_too(serve: Any, scripted: Any, path: str, stream: bool) -> None:
    failed = b'data: {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "no"}}}\n\n'
    nothing = b'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'

    async def empty(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("stream"):
            return await streamed(failed if path == "/responses" else nothing, DONE)(request)  # type: ignore[no-any-return]
        answers = {"/responses": {"status": "completed", "output": []}, "/completions": {"choices": [{"text": ""}]}}
        return web.json_response(answers[path])

    running = serve(weak={"model": "openai/w", "api_base": scripted(empty)}, fallback={"attempts": 1})
    field = "input" if path == "/responses" else "prompt"
    response = running.post(path, {"model": "weak", field: "Hello!", "stream": stream})
    assert response.headers["x-routellm-fallback-from"] == "openai/w"
    assert "big" in response.text
    assert "answers" in response.text


def test_a_dead_model_is_not_paid_for_by_every_request(serve: Any, scripted: Any) -> None:
    calls = []

    async def hanging(_request: web.Request) -> web.Response:
        calls.append(1)
        await asyncio.sleep(60)
        return web.Response()

    weak = {"model": "openai/w", "api_base": scripted(hanging), "timeout": 0.3}
    running = serve(weak=weak, fallback={"attempts": 2, "wait_initial": 0.01})
    times = []
    for _ in range(10):
        started = time.monotonic()
        response = running.chat("router-random-1")
        times.append(time.monotonic() - started)
        assert response.headers["x-routellm-fallback-from"] == "openai/w"
    assert len(calls) == 6
    assert max(times[6:]) < 0.3
    assert "passed over" in response.headers["x-routellm-reason"] or "504" in response.headers["x-routellm-reason"]
    import httpx

    health = httpx.get(f"{running.url}/health").json()
    assert 0 < health["failing_models"]["openai/w"] <= 30
    assert running.metric("routellm_model_failing", model="openai/w") == 1
    assert running.metric("routellm_model_failing", model="openai/big") == 0


def test_both_models_too_busy(serve: Any, scripted: Any) -> None:
    calls = []

    def busy(seconds: str) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            calls.append(1)
            return await refused(429, headers={"Retry-After": seconds})(request)  # type: ignore[no-any-return]

        return scripted(handler)

    running = serve(
        strong={"model": "openai/s", "api_base": busy("40")}, weak={"model": "openai/w", "api_base": busy("20")}
    )
    for _ in range(3):
        response = running.chat("weak")
        assert response.status_code == 429
        assert 15 <= int(response.headers["retry-after"]) <= 20
        assert response.headers["x-should-retry"] == "false"
    assert len(calls) == 2


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
def test_a_parameter_that_one_model_lacks(serve: Any, upstream: LocalModelServer, relay: bool | None) -> None:
    fit = {
        "drop_params": ["seed"],
        "rename_params": {"max_tokens": "max_completion_tokens"},
        "drop_message_fields": ["reasoning_content"],
    }
    running = serve(weak={"model": "openai/small", "relay": relay, **fit})
    history = [*HELLO, {"role": "assistant", "content": "a", "reasoning_content": "hm"}, *HELLO]
    body = {"messages": history, "seed": 3, "max_tokens": 9}
    for tier in ("weak", "strong"):
        assert running.post("/chat/completions", {"model": tier, **body}).status_code == 200
    weak, strong = upstream.requests[-2:]
    assert (weak["max_completion_tokens"], "seed" in weak, "max_tokens" in weak) == (9, False, False)
    assert "reasoning_content" not in weak["messages"][1]
    assert {name: strong[name] for name in body} == body


def test_what_is_configured_is_what_moves(serve: Any, scripted: Any) -> None:
    weak = {"model": "openai/w", "api_base": scripted(refused(401))}
    assert serve(weak=weak).chat("weak").status_code == 401
    assert serve(weak=weak, fallback={"statuses": [401]}).chat("weak").status_code == 200
    empty = {"model": "openai/w", "api_base": scripted(whole(content=""))}
    assert STRONG not in serve(weak=empty, fallback={"empty_answers": False}).chat("weak").text
    filtered = {"model": "openai/w", "api_base": scripted(whole("content_filter", content=""))}
    assert STRONG in serve(weak=filtered, fallback={"filtered_answers": True}).chat("weak").text
