"""The connection to OpenAI-compatible servers, well-behaved ones and others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from routellm_core.backends.base import ModelSettings
from routellm_core.errors import BackendError
from routellm_core.providers.endpoints import openai_endpoint
from routellm_core.providers.http import ModelClient

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
Answer = Callable[[web.Request], Any]


@asynccontextmanager
async def answering(handler: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def sent(base: str, seconds: float = 30.0, key: str = "a-secret-key", **fields: Any) -> Any:
    model = ModelSettings(model="openai/m", api_base=base, api_key=key, timeout=seconds)  # type: ignore[arg-type]
    endpoint = openai_endpoint(model, {})
    assert endpoint is not None
    client = ModelClient()
    try:
        answer = await client.asend(model, endpoint, "chat/completions", {**BODY, **fields})
        return answer if isinstance(answer, bytes) else [events.raw async for events in answer]
    finally:
        await client.aclose()


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


async def test_the_bytes_come_back_as_they_are() -> None:
    content = b'{ "choices" : [ 1.0 ],\n "x": "\\u00fc" }'
    async with answering(plain(200, content)) as base:
        assert await sent(base) == content


async def test_events_come_whole_however_they_were_cut() -> None:
    events = b'data: {"n": 1}\n\ndata: {"n": 2}\r\n\r\n: a comment\n\ndata: {"n": 3}\n\n'
    cuts = (1, 9, 15, 16, 30, 32, 47)
    pieces = [events[start:end] for start, end in zip((0, *cuts), (*cuts, len(events)), strict=True)]
    async with answering(streaming(*pieces)) as base:
        received = await sent(base, stream=True)
    assert b"".join(received) == events
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in received)


async def test_a_last_event_without_its_end_is_completed() -> None:
    async with answering(streaming(b"data: 1\n\ndata: [DONE]")) as base:
        assert b"".join(await sent(base, stream=True)) == b"data: 1\n\ndata: [DONE]\n\n"


async def test_an_event_of_megabytes_passes() -> None:
    image = b'data: {"b64": "' + b"A" * 3_000_000 + b'"}\n\n'
    async with answering(streaming(image[:1_000_000], image[1_000_000:])) as base:
        assert b"".join(await sent(base, stream=True)) == image


@pytest.mark.parametrize(
    ("events", "before"),
    [
        ([b'data: {"error": {"message": "no", "code": 429}}\n\n'], b""),
        ([b'event: error\ndata: {"error": {"message": "no", "code": "429"}}\n\n'], b""),
        (
            [b'data: {"n": 1}\n\nevent: error\ndata: {"error": {"message": "no", "code": 429}}\n\n'],
            b'data: {"n": 1}\n\n',
        ),
        ([b'data: {"n": 1}\n\n', b'data: { "error" : {"message": "no", "code": 429}}\n\n'], b'data: {"n": 1}\n\n'),
    ],
)
async def test_an_error_event_is_raised_after_what_came_before_it(events: list[bytes], before: bytes) -> None:
    received: list[bytes] = []

    async def read(stream: Any) -> None:
        async for piece in stream:
            received.append(piece.raw)  # noqa: PERF401 - what came before the error is wanted

    async with answering(streaming(*events)) as base:
        model = ModelSettings(model="openai/m", api_base=base)
        client = ModelClient()
        stream = await client.asend(model, openai_endpoint(model, {}), "chat/completions", {**BODY, "stream": True})  # type: ignore[arg-type]
        with pytest.raises(BackendError, match="no") as caught:
            await read(stream)
        await client.aclose()
    assert b"".join(received) == before
    assert (caught.value.status_code, caught.value.retryable) == (429, True)


@pytest.mark.parametrize(
    "event", [b'data: {"error": null, "choices": []}\n\n', b'data: {"text": "{\\"error\\": 1}"}\n\n']
)
async def test_what_only_looks_like_an_error_passes(event: bytes) -> None:
    async with answering(streaming(event)) as base:
        assert b"".join(await sent(base, stream=True)) == event


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
        (b"\xff", "�"),
    ],
)
async def test_every_form_of_error_body_is_read(body: Any, message: str) -> None:
    async with answering(plain(400, body)) as base:
        with pytest.raises(BackendError) as caught:
            await sent(base)
    assert str(caught.value) == f"model 'openai/m' failed with status 400: {message}"
    assert not caught.value.retryable


async def test_what_the_provider_said_is_kept() -> None:
    error = {"message": "slow down", "type": "requests", "param": "n", "code": "rate_limit_exceeded"}
    async with answering(plain(429, {"error": error}, {"Retry-After": "7"})) as base:
        with pytest.raises(BackendError) as caught:
            await sent(base)
    found = caught.value
    assert (found.status_code, found.retryable, found.retry_after) == (429, True, 7.0)
    assert (found.error_type, found.param, found.code) == ("requests", "n", "rate_limit_exceeded")


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "key={}&x"])
async def test_a_key_that_the_server_quotes_is_cut_out(form: str) -> None:
    async with answering(plain(401, {"error": {"message": form.format("a-secret-key")}})) as base:
        with pytest.raises(BackendError) as caught:
            await sent(base)
    assert "a-secret-key" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirection_does_not_lead_the_key_elsewhere(status: int) -> None:
    visited = []

    async def elsewhere(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.json_response({"choices": [1]})

    async with answering(elsewhere) as other, answering(plain(status, b"", {"Location": f"{other}/x"})) as base:
        with pytest.raises(BackendError, match="redirects to .*set api_base") as caught:
            await sent(base)
    assert caught.value.status_code == 502
    assert not visited


async def test_time_outs() -> None:
    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(60)
        return response

    for handler, is_streamed in [(never, False), (never, True), (stalls, True)]:
        async with answering(handler) as base:
            with pytest.raises(BackendError, match="did not answer within 0.2 s") as caught:
                await sent(base, seconds=0.2, stream=is_streamed)
        assert (caught.value.status_code, caught.value.retryable) == (504, True)


async def test_nobody_there() -> None:
    for base in ("http://127.0.0.1:9/v1", "http://:::/v1", "nonsense"):
        with pytest.raises(BackendError, match="the connection to model 'openai/m' failed") as caught:
            await sent(base)
        assert caught.value.status_code == 502


async def test_json_where_a_stream_was_asked_for() -> None:
    async with answering(
        plain(200, {"error": {"message": "no streams here"}}, {"Content-Type": "application/json"})
    ) as base:
        with pytest.raises(BackendError, match="no streams here") as caught:
            await sent(base, stream=True)
    assert caught.value.status_code == 502
    async with answering(plain(200, b"<html>", {"Content-Type": "text/html"})) as base:
        with pytest.raises(BackendError, match="no answer of OpenAI's protocol"):
            await sent(base, stream=True)


async def test_cookies_are_not_kept_between_requests() -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.json_response({}, headers={"Set-Cookie": "session=of-one-client; Path=/"})

    async with answering(handler) as base:
        model = ModelSettings(model="openai/m", api_base=base)
        client = ModelClient()
        for _ in range(2):
            await client.asend(model, openai_endpoint(model, {}), "chat/completions", BODY)  # type: ignore[arg-type]
        await client.aclose()
    assert seen == [None, None]


async def test_defaults_are_filled_in_and_the_request_wins() -> None:
    bodies = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({})

    async with answering(handler) as base:
        extra = {"temperature": 0.2, "top_p": 0.9}
        model = ModelSettings(model="openai/m", api_base=base, extra=extra)
        client = ModelClient()
        await client.asend(model, openai_endpoint(model, {}), "chat/completions", {**BODY, "temperature": 1})  # type: ignore[arg-type]
        await client.aclose()
    assert bodies == [{**BODY, "model": "m", "temperature": 1, "top_p": 0.9}]
