"""The connection to OpenAI-compatible servers, well-behaved ones and others."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from routellm_core.errors import BackendError
from routellm_core.providers.endpoints import OpenAIEndpoint, openai_endpoint
from routellm_core.providers.http import ModelClient
from routellm_core.providers.settings import ModelSettings
from routellm_core.testing.local_models import LocalModelServer

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
Answer = Callable[[web.Request], Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model_at(base: str, seconds: float = 30.0, **settings: Any) -> tuple[ModelSettings, OpenAIEndpoint]:
    given = {"api_key": "a-secret-key", "timeout": seconds, **settings}
    model = ModelSettings(model="openai/m", api_base=base, **given)
    endpoint = openai_endpoint(model, {})
    assert endpoint is not None
    return model, endpoint


def read(way: str, base: str, received: list[Any], path: str = "chat/completions", **fields: Any) -> Any:
    """Return the whole body, or the raw pieces of a stream, which are also put into ``received`` as they come."""
    settings = {name: fields.pop(name) for name in list(fields) if name in ("seconds", *ModelSettings.model_fields)}
    model, endpoint = model_at(base, **settings)
    body = {**BODY, **fields}
    client = ModelClient()
    if way == "blocking":
        answer: Any = client.send(model, endpoint, path, body)
        if isinstance(answer, bytes):
            return answer
        received.extend(events.raw for events in answer)
        client.close()
        return received

    async def run() -> Any:
        answer: Any = await client.asend(model, endpoint, path, body)
        if isinstance(answer, bytes):
            return answer
        async for events in answer:
            received.append(events.raw)  # noqa: PERF401 - what came before an error is wanted
        return received

    return asyncio.run(run())


def sent(way: str, base: str, **fields: Any) -> Any:
    return read(way, base, [], **fields)


def streaming(*pieces: bytes, content_type: str = "text/event-stream") -> Answer:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.02)  # so that each piece arrives alone
        return response

    return handler


def plain(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    async def handler(_request: web.Request) -> web.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=headers)

    return handler


DONE = b"data: [DONE]\n\n"
Start = Callable[[Answer], str]


def test_the_bytes_come_back_as_they_are(way: str, scripted: Start) -> None:
    content = b'{ "choices" : [ 1.0 ],\n "x": "\\u00fc" }'
    assert sent(way, scripted(plain(200, content))) == content


def test_events_come_whole_however_they_were_cut(way: str, scripted: Start) -> None:
    events = b'data: {"n": 1}\n\ndata: {"n": 2}\r\n\r\n: a comment\n\nevent: x\ndata: {"n":\ndata: 3}\n\n' + DONE
    cuts = (1, 9, 15, 16, 30, 32, 47, 60)
    pieces = [events[start:end] for start, end in zip((0, *cuts), (*cuts, len(events)), strict=True)]
    received = sent(way, scripted(streaming(*pieces)), stream=True)
    assert b"".join(received) == events
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in received)


def test_a_last_event_without_its_end_is_completed(way: str, scripted: Start) -> None:
    received = sent(way, scripted(streaming(b"data: 1\n\ndata: [DONE]")), stream=True)
    assert b"".join(received) == b"data: 1\n\ndata: [DONE]\n\n"


def test_an_event_of_megabytes_passes(way: str, scripted: Start) -> None:
    image = b'data: {"b64": "' + b"A" * 3_000_000 + b'"}\n\n'
    received = sent(way, scripted(streaming(image[:1_000_000], image[1_000_000:], DONE)), stream=True)
    assert b"".join(received) == image + DONE


@pytest.mark.parametrize(
    ("events", "before"),
    [
        ([b'data: {"error": {"message": "no", "code": 429}}\n\n'], b""),
        ([b'event: error\ndata: {"error": {"message": "no", "code": "429"}}\n\n'], b""),
        ([b'data: {"type": "error", "code": "rate_limit_exceeded", "message": "no"}\n\n'], b""),
        (
            [b'data: {"n": 1}\n\nevent: error\ndata: {"error": {"message": "no", "code": 429}}\n\n'],
            b'data: {"n": 1}\n\n',
        ),
        ([b'data: {"n": 1}\n\n', b'data: { "error" : {"message": "no", "code": 429}}\n\n'], b'data: {"n": 1}\n\n'),
    ],
)
def test_an_error_event_is_raised_after_what_came_before_it(
    way: str, scripted: Start, events: list[bytes], before: bytes
) -> None:
    received: list[bytes] = []
    with pytest.raises(BackendError, match="no") as caught:
        read(way, scripted(streaming(*events)), received, stream=True)
    assert b"".join(received) == before
    assert (caught.value.status_code, caught.value.retryable) == (429, True)


def test_a_response_that_failed_is_an_error_only_before_it_said_something(way: str, scripted: Start) -> None:
    failed = b'data: {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "no"}}}\n\n'
    begun = b'data: {"type": "response.created"}\n\n'
    with pytest.raises(BackendError, match="status 502: no"):
        sent(way, scripted(streaming(begun, failed)), path="responses", stream=True)
    said = b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n'
    assert sent(way, scripted(streaming(said, failed)), path="responses", stream=True) == [said, failed]


@pytest.mark.parametrize(
    "event", [b'data: {"error": null, "choices": []}\n\n', b'data: {"text": "{\\"error\\": 1}"}\n\n']
)
def test_what_only_looks_like_an_error_passes(way: str, scripted: Start, event: bytes) -> None:
    assert b"".join(sent(way, scripted(streaming(event, DONE)), stream=True)) == event + DONE


SAID = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
FINISH = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("chat/completions", FINISH),
        ("chat/completions", DONE),
        ("completions", b'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n'),
        ("responses", b'data: {"type": "response.completed"}\n\n'),
        ("responses", b'data: {"type": "response.incomplete"}\n\n'),
    ],
)
def test_a_stream_that_does_not_come_to_its_end_is_an_error(way: str, scripted: Start, path: str, end: bytes) -> None:
    assert sent(way, scripted(streaming(SAID, end)), path=path, stream=True) == [SAID, end]
    received: list[bytes] = []
    with pytest.raises(BackendError, match="broke off") as caught:
        read(way, scripted(streaming(SAID)), received, path=path, stream=True)
    assert received == [SAID]
    assert (caught.value.status_code, caught.value.retryable) == (502, True)


def test_a_stream_of_nothing_is_an_error(way: str, scripted: Start) -> None:
    for pieces in ((), (b": keep-alive\n\n",)):
        with pytest.raises(BackendError, match="empty stream"):
            sent(way, scripted(streaming(*pieces)), stream=True)


BROKEN = b'data: {"id": "c1", "object": \n\n'
CALL = b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]}\n\n'


def test_one_broken_event_is_left_out_where_that_is_harmless(way: str, scripted: Start) -> None:
    assert sent(way, scripted(streaming(SAID, BROKEN, FINISH)), stream=True) == [SAID, FINISH]
    assert b"".join(sent(way, scripted(streaming(SAID + BROKEN + FINISH)), stream=True)) == SAID + FINISH


@pytest.mark.parametrize(
    "pieces",
    [
        (SAID, BROKEN, BROKEN, FINISH),
        (CALL, BROKEN, FINISH),
        (SAID, b'data: {"choices": [{"delta": {"tool_calls": [\n\n', FINISH),
        (SAID, FINISH[:30] + b"\n\n"),
    ],
    ids=["a second", "within a call", "a call", "the end"],
)
def test_a_broken_event_that_harms_ends_the_stream(way: str, scripted: Start, pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(BackendError, match="broke off"):
        sent(way, scripted(streaming(*pieces)), stream=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "openai's form"}}, "openai's form"),
        ({"error": "a text"}, "a text"),
        ({"detail": "fastapi's form"}, "fastapi's form"),
        ({"message": "vllm's form", "code": 40001}, "vllm's form"),
        (b"<h1>Bad</h1>", "<h1>Bad</h1>"),
        (b"", "Bad Request"),
        ([1], "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_every_form_of_error_body_is_read(way: str, scripted: Start, body: Any, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        sent(way, scripted(plain(400, body)))
    assert str(caught.value) == f"model 'openai/m' failed with status 400: {message}"
    assert not caught.value.retryable


def test_what_the_provider_said_is_kept(way: str, scripted: Start) -> None:
    error = {"message": "slow down", "type": "requests", "param": "n", "code": "rate_limit_exceeded"}
    with pytest.raises(BackendError) as caught:
        sent(way, scripted(plain(429, {"error": error}, {"Retry-After": "7"})))
    found = caught.value
    assert (found.status_code, found.retryable, found.retry_after) == (429, True, 7.0)
    assert (found.error_type, found.param, found.code) == ("requests", "n", "rate_limit_exceeded")


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "key={}&x"])
def test_a_key_that_the_server_quotes_is_cut_out(way: str, scripted: Start, form: str) -> None:
    with pytest.raises(BackendError) as caught:
        sent(way, scripted(plain(401, {"error": {"message": form.format("a-secret-key")}})))
    assert "a-secret-key" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_does_not_lead_the_key_elsewhere(way: str, scripted: Start, status: int) -> None:
    visited = []

    async def elsewhere(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.json_response({"choices": [1]})

    base = scripted(plain(status, b"", {"Location": f"{scripted(elsewhere)}/x"}))
    with pytest.raises(BackendError, match="redirects to .*set api_base") as caught:
        sent(way, base)
    assert caught.value.status_code == 502
    assert not visited


async def never(_request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


def stalling(*pieces: bytes) -> Answer:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await asyncio.sleep(60)
        return response

    return handler


@pytest.mark.parametrize(
    ("handler", "limits"),
    [
        (never, {"seconds": 0.2}),
        (never, {"seconds": 0.2, "stream": True}),
        (never, {"first_token_timeout": 0.2, "token_timeout": 0.1, "stream": True}),
        (stalling(SAID), {"seconds": 0.2, "stream": True}),
        (stalling(b": wait\n\n"), {"first_token_timeout": 0.2, "token_timeout": 0.1, "stream": True}),
    ],
    ids=["whole", "streamed", "first token", "between tokens", "a comment"],
)
def test_time_outs(way: str, scripted: Start, handler: Answer, limits: dict[str, Any]) -> None:
    started = time.monotonic()
    with pytest.raises(BackendError, match="did not answer within 0.2 s") as caught:
        sent(way, scripted(handler), **limits)
    assert time.monotonic() - started < 5
    assert (caught.value.status_code, caught.value.retryable, caught.value.is_timeout) == (504, True, True)


@pytest.mark.slow
async def test_a_stream_that_has_begun_may_be_silent_for_a_shorter_time_than_before_its_beginning(
    scripted: Start,
) -> None:
    model, endpoint = model_at(scripted(stalling(SAID)), first_token_timeout=30.0, token_timeout=0.2)
    client = ModelClient()
    stream: Any = await client.asend(model, endpoint, "chat/completions", {**BODY, "stream": True})
    with pytest.raises(BackendError, match=r"within 0\.2 s"):
        async for _ in stream:
            pass
    await client.aclose()


def test_an_answer_that_drips_is_ended_by_the_time_for_the_whole(way: str, scripted: Start) -> None:
    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    with pytest.raises(BackendError, match=r"within 0\.5 s"):
        sent(way, scripted(drips), seconds=0.5)


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/v1", "http://:::/v1", "nonsense"])
def test_nobody_there(way: str, base: str) -> None:
    with pytest.raises(BackendError, match="the connection to model 'openai/m' failed") as caught:
        sent(way, base)
    assert caught.value.status_code == 502
    assert "127.0.0.1" not in str(caught.value)


def test_json_where_a_stream_was_asked_for(way: str, scripted: Start) -> None:
    refusing = plain(200, {"error": {"message": "no streams here"}}, {"Content-Type": "application/json"})
    with pytest.raises(BackendError, match="no streams here") as caught:
        sent(way, scripted(refusing), stream=True)
    assert caught.value.status_code == 502
    with pytest.raises(BackendError, match="no answer of OpenAI's protocol"):
        sent(way, scripted(plain(200, b"<html>", {"Content-Type": "text/html"})), stream=True)


def test_cookies_are_not_kept_between_requests(way: str, scripted: Start) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.json_response({}, headers={"Set-Cookie": "session=of-one-client; Path=/"})

    model, endpoint = model_at(scripted(handler))
    client = ModelClient()

    async def twice() -> None:
        for _ in range(2):
            await client.asend(model, endpoint, "chat/completions", BODY)

    if way == "blocking":
        for _ in range(2):
            client.send(model, endpoint, "chat/completions", BODY)
    else:
        asyncio.run(twice())
    assert seen == [None, None]


def test_defaults_are_filled_in_and_the_request_wins(way: str, scripted: Start) -> None:
    bodies = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({})

    sent(way, scripted(handler), extra={"temperature": 0.2, "top_p": 0.9}, temperature=1)
    assert bodies == [{**BODY, "model": "m", "temperature": 1, "top_p": 0.9}]


def test_one_client_serves_several_event_loops_one_after_the_other_and_closes_what_they_opened(
    local_models: LocalModelServer,
) -> None:
    model, endpoint = model_at(local_models.base_url)
    client = ModelClient()
    sessions = []

    async def call() -> None:
        assert await client.asend(model, endpoint, "chat/completions", BODY)
        ((session, _),) = client._sessions.values()
        sessions.append(session)

    for _ in range(3):
        asyncio.run(call())
    assert len(set(map(id, sessions))) == 3
    assert all(session.closed for session in sessions)


def echoes(client: ModelClient, model: ModelSettings, endpoint: OpenAIEndpoint, said: str, results: Any) -> None:
    wrong = 0
    for number in range(40):
        text = f"{said} {number}"
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        answer: Any = client.send(model, endpoint, "chat/completions", body)
        wrong += json.loads(answer)["choices"][0]["message"]["content"] != text
    results.put((os.getpid(), wrong))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_processes_never_read_each_other_s_answers(local_models: LocalModelServer) -> None:
    model = ModelSettings(model="openai/echo", api_base=local_models.base_url, api_key="k", timeout=20)  # type: ignore[arg-type]
    endpoint = openai_endpoint(model, {})
    assert endpoint is not None
    client = ModelClient()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    warm = threading.Thread(target=echoes, args=(client, model, endpoint, "parent", results))
    warm.start()
    warm.join()  # the connection that the children inherit
    children = [
        context.Process(target=echoes, args=(client, model, endpoint, f"child {number}", results))
        for number in range(4)
    ]
    for child in children:
        child.start()
    echoes(client, model, endpoint, "parent", results)
    found = [results.get(timeout=60) for _ in range(6)]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert [wrong for _, wrong in found] == [0] * 6


def test_leaving_a_stream_early_frees_the_connection(scripted: Start) -> None:
    ended = threading.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(SAID)
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    model, endpoint = model_at(scripted(endless))
    client = ModelClient()
    stream: Any = client.send(model, endpoint, "chat/completions", {**BODY, "stream": True})
    next(stream)
    stream.close()
    assert ended.wait(10)
