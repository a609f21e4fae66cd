"""Many clients, clients that leave, and a server that stops while answers are on their way."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from routellm_core.routers.base import Router
from routellm_core.testing.local_models import LocalModelServer

HEADERS = "Host: localhost\r\nContent-Type: application/json\r\n"
BODY: dict[str, Any] = {"model": "weak", "messages": [{"role": "user", "content": "one two three four five"}]}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what must come; only a server that hangs makes this give up."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came")


def begun(running: Any, body: dict[str, Any], path: str = "/v1/chat/completions") -> socket.socket:
    """A connection on which a request was sent and nothing was read yet."""
    address = urlsplit(running.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\n{HEADERS}Content-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_beyond_its_limit_it_says_so_instead_of_collapsing(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(weak="openai/hold", server={"max_concurrent": 2})
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(running.post, "/chat/completions", BODY) for _ in range(2)]
        eventually(lambda: upstream.holding == 2)
        refused = running.chat("strong")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "server_busy"
        assert "2 requests" in refused.json()["error"]["message"]
        assert httpx.get(f"{running.url}/health").status_code == 200
        assert running.metric("routellm_requests_in_progress") == 2
        upstream.release()
        assert [answer.result().status_code for answer in held] == [200, 200]
    assert running.chat("strong").status_code == 200
    assert running.metric("routellm_requests_in_progress") == 0
    assert running.metric("routellm_requests_total", operation="/v1/chat/completions", status="429") == 1


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_when_the_client_leaves_the_model_is_told(
    serve: Any, upstream: LocalModelServer, caplog: pytest.LogCaptureFixture, relay: bool | None, is_streamed: bool
) -> None:
    caplog.set_level(logging.WARNING)
    running = serve(weak={"model": "openai/hold", "relay": relay})
    connection = begun(running, {**BODY, "stream": is_streamed})
    eventually(lambda: upstream.holding == 1)
    if is_streamed:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert upstream.abandoned == 0
    connection.close()
    eventually(lambda: upstream.abandoned == 1)
    eventually(lambda: running.metric("routellm_requests_in_progress") == 0)
    assert upstream.holding == 0
    assert len(upstream.requests) == 1  # neither tried again nor at the other model
    assert running.chat("strong").status_code == 200
    status = "200" if is_streamed else "499"
    assert running.metric("routellm_requests_total", status=status) == 1 + is_streamed
    ours = [record for record in caplog.records if record.name.startswith(("routellm", "uvicorn"))]
    assert not [record for record in ours if record.levelno >= logging.ERROR]


def test_when_the_client_of_an_embedding_leaves(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(server={"embedding_model": "openai/hold"})
    connection = begun(running, {"model": "e", "input": "Hi"}, "/v1/embeddings")
    eventually(lambda: upstream.holding == 1)
    connection.close()
    eventually(lambda: upstream.holding == 0)
    eventually(lambda: running.metric("routellm_requests_total", status="499") == 1)


def test_a_client_that_leaves_while_it_sends_is_forgotten(serve: Any, upstream: LocalModelServer) -> None:
    running = serve()
    address = urlsplit(running.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{HEADERS}Content-Length: 99\r\n\r\n{{"
    connection.sendall(head.encode())
    eventually(lambda: running.metric("routellm_requests_in_progress") == 1)
    connection.close()
    eventually(lambda: running.metric("routellm_requests_total", status="499") == 1)
    assert running.metric("routellm_requests_in_progress") == 0
    assert not upstream.requests


def test_a_slow_reader_does_not_fill_the_memory_and_gets_everything(serve: Any) -> None:
    running = serve(weak="openai/echo")
    text = " ".join(str(number) for number in range(30_000))
    connection = begun(running, {**BODY, "stream": True, "messages": [{"role": "user", "content": text}]})
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece
        received += piece
    assert received.count(b'"content": "') >= 30_000
    assert b"data: [DONE]" in received
    connection.close()


def test_stopping_finishes_the_streams_that_are_on_their_way(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(weak="openai/hold")
    with (
        ThreadPoolExecutor() as pool,
        httpx.stream(
            "POST", f"{running.base_url}/chat/completions", json={**BODY, "stream": True}, timeout=60
        ) as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines)
        plain = pool.submit(running.post, "/chat/completions", BODY)
        eventually(lambda: upstream.holding == 2)
        running.stop()
        eventually(lambda: running.is_stopping)
        with pytest.raises(httpx.ConnectError):
            running.chat()
        upstream.release()
        rest = [line for line in lines if line]
        assert plain.result().json()["choices"][0]["message"]["content"].endswith("four five")
    assert first.startswith("data: ")
    assert rest[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in [first, *rest[:-1]]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "hold answers: one two three four five"


class BlockedRouter(Router):
    """Scores once it is let, and counts its calls."""

    name = "random"

    def __init__(self) -> None:
        self.let = threading.Event()
        self.batches: list[int] = []

    def score(self, prompts: Sequence[str]) -> Any:
        self.batches.append(len(prompts))
        assert self.let.wait(timeout=60)
        return np.full(len(prompts), 0.5)


def test_concurrent_requests_are_scored_together_and_the_loop_stays_free(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = BlockedRouter()
    monkeypatch.setattr("routellm_core.controller.load_router", lambda _name, _options=None: router)
    running = serve()
    with ThreadPoolExecutor(max_workers=24) as pool:
        answers = [pool.submit(running.chat, "router-random-0.5") for _ in range(24)]
        # Answering this is itself the proof that scoring blocks nothing.
        eventually(lambda: running.metric("routellm_requests_in_progress") == 24)
        assert running.chat("weak").status_code == 200
        assert httpx.get(f"{running.url}/health").status_code == 200
        router.let.set()
        assert [answer.result().status_code for answer in answers] == [200] * 24
    assert sum(router.batches) == 24
    assert len(router.batches) < 12
    assert max(router.batches) > 8


def test_a_client_that_leaves_during_scoring_costs_no_call(
    serve: Any, upstream: LocalModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = BlockedRouter()
    monkeypatch.setattr("routellm_core.controller.load_router", lambda _name, _options=None: router)
    running = serve()
    connection = begun(running, {**BODY, "model": "router-random-0.5"})
    eventually(lambda: len(router.batches) == 1)
    connection.close()
    eventually(lambda: running.metric("routellm_requests_total", status="499") == 1)
    router.let.set()
    assert running.chat("router-random-0.5").status_code == 200
    assert len(upstream.requests) == 1


def test_connections_to_the_models_are_kept_and_used_again(serve: Any, upstream: LocalModelServer) -> None:
    running = serve()
    for is_streamed in (False, True, False, True):
        assert running.chat("weak", stream=is_streamed).status_code == 200
    ((session, _),) = running.app.state.client._sessions.values()
    connector = session.connector
    assert sum(len(idle) for idle in connector._conns.values()) == 1
