"""Clients that mean harm, or do not know better: what they send must not be felt by the others."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from routellm_core.server import connections
from routellm_core.server.settings import ServerSettings
from routellm_core.testing.local_models import LocalModelServer

MEGABYTE = 2**20
USER = '{"role":"user","content":"Hi"}'
JSON = {"Content-Type": "application/json"}


class Watched:
    """Asks for ``/health`` all the while; ``longest`` is the longest that an answer took, in seconds."""

    def __init__(self, url: str) -> None:
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url,))

    def _ask(self, url: str) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                started = time.perf_counter()
                assert client.get(f"{url}/health").status_code == 200
                self.longest = max(self.longest, time.perf_counter() - started)
                time.sleep(0.005)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def numbers(count: int, last: str = "1") -> bytes:
    return b"[" + b"1," * (count - 1) + last.encode() + b"]"


def body(field: str, value: bytes) -> bytes:
    return b'{"model":"weak","%s":%s}' % (field.encode(), value)


LARGE: dict[str, tuple[str, bytes, int]] = {
    "messages that are numbers, 1 MB": ("chat/completions", body("messages", numbers(MEGABYTE // 2)), 400),
    "messages that are numbers, 30 MB": ("chat/completions", body("messages", numbers(15 * MEGABYTE)), 400),
    "messages that are empty, 10 MB": (
        "chat/completions",
        body("messages", b"[" + b"{}," * 3 * MEGABYTE + b"{}]"),
        400,
    ),
    "tokens and one that is none": ("completions", body("prompt", numbers(1_000_000, "true")), 400),
    "tokens, 30 MB": ("completions", body("prompt", numbers(15 * MEGABYTE)), 400),
    # The local models take no text completions, and say so at once.
    "as many tokens as may be": ("completions", body("prompt", numbers(900_000)), 404),
    "tokens to embed": ("embeddings", body("input", numbers(900_000)), 200),
    "lists in lists": ("embeddings", body("input", b"[" + b"[]," * 4 * MEGABYTE + b"[]]"), 400),
    "keys": (
        "chat/completions",
        body("messages", b"[" + USER.encode() + b"]")[:-1]
        + b',"metadata":{'
        + b",".join(b'"k%d":1' % number for number in range(MEGABYTE))
        + b"}}",
        400,
    ),
    "very many messages": (
        "chat/completions",
        body("messages", b"[" + b",".join([USER.encode()] * 300_000) + b"]"),
        400,
    ),
    "a text of 30 MB": (
        "chat/completions",
        body("messages", json.dumps([{"role": "user", "content": 'say "no, [never]: {ever}"\n' * MEGABYTE}]).encode())[
            :-1
        ]
        + b',"max_tokens":5}',
        200,
    ),
    "an image of 25 MB": (
        "chat/completions",
        body(
            "messages",
            json.dumps(
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is this?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 25 * MEGABYTE}},
                        ],
                    }
                ]
            ).encode(),
        ),
        200,
    ),
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server and its models in processes of their own, for what is measured is Python's lock."""
    import os
    import re
    import subprocess
    import sys

    models = subprocess.Popen(
        [sys.executable, "-m", "routellm_core.testing.local_models", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert models.stdout is not None
    address = next(found[0] for line in models.stdout if (found := re.search(r"http://[^ ]+:\d+", line)))
    server = subprocess.Popen(
        [
            *(sys.executable, "-c", "from routellm_core.cli import main; main()", "serve", "--routers", "mf"),
            *("--strong-model", "openai/big", "--weak-model", "openai/small", "--base-url", f"{address}/v1"),
            *("--api-key", "k", "--port", "0"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert server.stderr is not None
    try:
        url = next(found[0] for line in server.stderr if (found := re.search(r"http://127[^/ ]+", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            assert client.get(f"{url}/ready", timeout=60).status_code == 200
        yield url
    finally:
        for each in (server, models):
            each.terminate()
            each.wait(timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("name", LARGE)
def test_no_body_delays_another_request(process: str, name: str) -> None:
    path, content, status = LARGE[name]
    longest, seconds = [], 0.0
    while not longest or (longest[-1] >= 0.25 and len(longest) < 3):  # other tests share this machine's cores
        with Watched(process) as watched:
            time.sleep(0.05)
            started = time.perf_counter()
            answer = httpx.post(f"{process}/v1/{path}", content=content, headers=JSON, timeout=60)
            seconds = time.perf_counter() - started
        longest.append(watched.longest)
    assert answer.status_code == status, answer.text[:300]
    assert min(longest) < 0.25
    if status == 400:
        assert seconds < 3
        assert len(answer.content) < 1000
        assert answer.json()["error"]["code"] in ("invalid_value", "missing_required_parameter", "too_many_values")


def test_what_text_says_does_not_count_as_values(process: str) -> None:
    text = 'a, [b], {"c": "d"} \\" \\\\ ' * 100_000
    sent = {"model": "weak", "messages": [{"role": "user", "content": text}]}
    answer = httpx.post(f"{process}/v1/chat/completions", json=sent, timeout=60)
    assert answer.json()["choices"][0]["message"]["content"] == f"small answers: {text}"


def test_a_number_too_large_is_refused_rather_than_changed(serve: Any, upstream: LocalModelServer) -> None:
    running = serve()
    for number in ("1e999", "-1e400", "1" + "0" * 400 + ".0"):
        content = f'{{"model":"weak","messages":[{USER}],"x":[{{"y":{number}}}]}}'.encode()
        answer = running.post("/chat/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
        assert "1e999" in answer.json()["error"]["message"]
    assert not upstream.requests


def test_bodies_in_progress_are_bounded_together(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(weak="openai/hold", server={"max_body_bytes": 200_000})
    large = {"model": "weak", "messages": [{"role": "user", "content": "x" * 190_000}]}
    with ThreadPoolExecutor(16) as pool:
        held = [pool.submit(running.post, "/chat/completions", large) for _ in range(8)]
        eventually(lambda: upstream.holding == 8)
        refused = running.post("/chat/completions", large)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "server_busy")
        assert refused.headers["retry-after"] == "1"
        assert running.chat("strong").status_code == 200
        upstream.release()
        assert {answer.result().status_code for answer in held} == {200}
    assert running.app.state.bodies.held == 0
    assert running.post("/chat/completions", {**large, "model": "strong"}).status_code == 200


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.01)


@contextmanager
def connected(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    address = urlsplit(url)
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            each = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            each.sendall(sent)
            sockets.append(each)
        yield sockets


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class TestConnections:
    def test_half_a_head_is_not_waited_for(self, serve: Any) -> None:
        running = serve(server={"header_seconds": 0.5})
        for sent in (b"", b"POST /v1/chat", HEAD, b"\r\n\r\n"):
            with connected(running.url, 1, sent) as (one,):
                assert is_closed(one)

    def test_a_head_that_drips_is_not_waited_for(self, serve: Any) -> None:
        running = serve(server={"header_seconds": 0.5})
        with connected(running.url, 1) as (one,):
            ends = time.monotonic() + 20
            with suppress(ConnectionError):
                for letter in HEAD * 100:
                    one.sendall(bytes([letter]))
                    time.sleep(0.05)
                    assert time.monotonic() < ends
            assert time.monotonic() < ends
        assert httpx.get(f"{running.url}/health").status_code == 200

    def test_half_a_body_is_told_of_and_frees_its_place(self, serve: Any) -> None:
        running = serve(server={"body_seconds": 0.5, "max_concurrent": 4})
        with connected(running.url, 4, HEAD + b'Content-Length: 1000\r\n\r\n{"model"') as sockets:
            eventually(lambda: running.metric("routellm_requests_in_progress") == 4)
            assert running.chat("weak").status_code == 429
            for each in sockets:
                said = each.recv(65536)
                assert said.startswith(b"HTTP/1.1 408")
                assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
                assert is_closed(each)
        eventually(lambda: running.metric("routellm_requests_in_progress") == 0)
        assert running.chat("weak").status_code == 200

    def test_a_steady_body_has_the_time_that_it_needs(self, serve: Any) -> None:
        running = serve(server={"body_seconds": 0.6})
        content = json.dumps({"model": "weak", "messages": [{"role": "user", "content": "x" * 100_000}]}).encode()

        def slowly() -> Iterator[bytes]:
            for start in range(0, len(content), 10_000):
                yield content[start : start + 10_000]
                time.sleep(0.2)

        assert running.post("/chat/completions", content=slowly()).status_code == 200

    def test_a_long_answer_is_no_matter_of_these_limits(self, serve: Any) -> None:
        running = serve(weak="openai/drip-0.3", server={"header_seconds": 0.2, "body_seconds": 0.2})
        assert running.chat("weak", "one two three", stream=True).text.endswith("data: [DONE]\n\n")

    def test_a_connection_may_be_used_again_and_again(self, serve: Any) -> None:
        running = serve(server={"header_seconds": 0.5})
        with httpx.Client(base_url=running.url) as client:
            for _ in range(4):
                assert client.get("/health").status_code == 200
                time.sleep(0.7)

    def test_idle_ones_make_room_for_those_who_ask(self, serve: Any) -> None:
        running = serve(server={"max_connections": 20})
        with connected(running.url, 200, b"GET /health HTTP/1.1\r\nHost:"):
            assert httpx.get(f"{running.url}/health", timeout=10).status_code == 200

    def test_streams_need_no_more_descriptors_than_there_are(self) -> None:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, allowed[1]))
            most = connections.most_concurrent(ServerSettings())
            guard = connections.guarded(ServerSettings()).keywords["guard"]  # type: ignore[attr-defined]
            assert 2 * most < 1024
            assert most + guard.most < 1024
            connections.raise_descriptor_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == allowed[1]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)

    async def test_several_hundred_streams_at_once(self, serve: Any, upstream: LocalModelServer) -> None:
        running = serve(weak="openai/hold")
        content = {"model": "weak", "messages": [{"role": "user", "content": "one two three four"}], "stream": True}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=running.base_url, limits=limits, timeout=90) as client:
            asked = [asyncio.create_task(client.post("/chat/completions", json=content)) for _ in range(300)]
            while upstream.holding < 300:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            upstream.release()
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


class TestHosts:
    def test_a_foreign_name_gets_nothing_where_no_key_is_asked_for(
        self, serve: Any, upstream: LocalModelServer
    ) -> None:
        running = serve(server={"chat_page": True})
        for host in ("evil.example", "evil.example:6060", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            for path in ("/", "/health", "/v1/models", "/v1/chat/completions", "/chat/settings"):
                answer = httpx.get(running.url + path, headers={"Host": host})
                assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_not_allowed")
        assert not upstream.requests

    def test_the_names_of_this_machine_are_fine(self, serve: Any) -> None:
        running = serve()
        port = urlsplit(running.url).port
        for host in ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST.", "127.1.2.3", "app.localhost"):
            assert httpx.get(f"{running.url}/health", headers={"Host": host}).status_code == 200

    def test_with_keys_or_on_the_list_others_are_too(self, serve: Any) -> None:
        named = {"Host": "router.example.com"}
        keyed = serve(server={"api_keys": ["k"]})
        assert httpx.get(f"{keyed.url}/health", headers=named).status_code == 200
        listed = serve(server={"allowed_hosts": ["router.example.com"], "api_keys": ["k"]})
        assert httpx.get(f"{listed.url}/health", headers=named).status_code == 200
        assert httpx.get(f"{listed.url}/health", headers={"Host": "evil.example"}).status_code == 421
        everyone = serve(server={"allowed_hosts": ["*"]})
        assert httpx.get(f"{everyone.url}/health", headers={"Host": "evil.example"}).status_code == 200

    def test_no_redirection_repeats_the_name(self, serve: Any) -> None:
        running = serve(server={"api_keys": ["k"]})
        headers = {"Host": "evil.example", "Authorization": "Bearer k"}
        for path in ("/v1/models/", "/health/", "/v1/models//", "/nothing/", "/v1/chat/completions/"):
            answer = httpx.get(running.url + path, headers=headers)
            assert answer.status_code in (200, 404, 405)
            assert "location" not in answer.headers
            assert "evil" not in answer.text


def test_a_key_may_have_a_number_of_requests_at_a_time(serve: Any, upstream: LocalModelServer) -> None:
    keys = [{"key": "a", "max_concurrent": 2}, "b"]
    running = serve(weak="openai/hold", server={"api_keys": keys})
    sent = {"model": "weak", "messages": [{"role": "user", "content": "Hi"}]}
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in "ab")
    for _ in range(2):  # what is over is counted no more
        with ThreadPoolExecutor() as pool:
            held = [pool.submit(running.post, "/chat/completions", sent, headers=alice) for _ in range(2)]
            eventually(lambda: upstream.holding == 2)
            refused = running.post("/chat/completions", sent, headers=alice)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert "2 requests at a time" in refused.json()["error"]["message"]
            other = pool.submit(running.post, "/chat/completions", sent, headers=bob)
            eventually(lambda: upstream.holding == 3)
            upstream.release()
            assert [answer.result().status_code for answer in (*held, other)] == [200, 200, 200]
