"""Budgets hold: at once, over processes and restarts, for clients that leave and models that do not count."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from routellm_core.errors import ConfigError
from routellm_core.pricing import Price, price_of
from routellm_core.server.access import AccessControl
from routellm_core.server.error_responses import RequestError
from routellm_core.server.settings import ClientKey
from routellm_core.testing.local_handlers import Operation
from routellm_core.testing.local_models import LocalModelServer

ALICE = {"Authorization": "Bearer alice-key"}
PRICED = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}


def keys(dollars: float) -> list[dict[str, Any]]:
    return [{"key": "alice-key", "name": "alice", "dollars_per_day": dollars}]


def models(weak: str = "openai/small", **more: Any) -> dict[str, Any]:
    return {"weak": {"model": weak, **PRICED, **more}, "strong": {"model": "openai/big", **PRICED}}


def chat(running: Any, model: str, text: str = "Hello!", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    response: httpx.Response = running.post("/chat/completions", body, headers=ALICE)
    return response


def spent(running: Any) -> float:
    return float(running.metric("routellm_key_dollars_total", key="alice"))


def test_two_hundred_requests_at_once_do_not_exceed_it(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(**models("openai/slow-0.5"), server={"api_keys": keys(0.05)})
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(chat, running, "weak", "one two three") for _ in range(200)]
        statuses = [answer.result().status_code for answer in asked]
    # One answer costs about 0.04; the last that is let in may exceed what is left, and no other.
    assert statuses.count(200) == len(upstream.requests) <= 2
    assert statuses.count(429) == 200 - statuses.count(200)
    assert 0 < spent(running) <= 0.05 + 0.05


def test_what_was_reserved_in_vain_is_given_back(serve: Any) -> None:
    running = serve(**models("openai/fail-400"), server={"api_keys": keys(0.5)})
    for _ in range(20):
        assert chat(running, "weak").status_code == 400
    assert chat(running, "strong", max_tokens=10).status_code == 200
    small = serve(**models(), server={"api_keys": keys(0.5)})
    # Each may cost 10.24 by estimate and costs 0.06: one after the other they all have room.
    assert [chat(small, "weak").status_code for _ in range(8)] == [200] * 8


def test_a_client_that_leaves_pays_for_what_it_got(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(**models("openai/drip-0.02"), server={"api_keys": keys(100)})
    sent = {"model": "weak", "messages": [{"role": "user", "content": "word " * 200}], "stream": True}
    with httpx.stream("POST", f"{running.base_url}/chat/completions", json=sent, headers=ALICE, timeout=60) as stream:
        read = ""
        for text in stream.iter_text():
            read += text
            if read.count("word") >= 40:
                break
    until(lambda: spent(running) > 0)
    # 200 words are 250 tokens in, and at least 40 of them, 50 tokens, came back.
    assert 0.25 + 0.4 <= spent(running) < 0.25 + 2.0
    assert running.metric("routellm_uncounted_total", missing="usage") == 1


def test_a_client_that_leaves_before_an_answer_pays_for_what_was_read(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(**models("openai/hold"), server={"api_keys": keys(100)})
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{running.base_url}/chat/completions",
            json={"model": "weak", "messages": [{"role": "user", "content": "word " * 200}]},
            headers=ALICE,
            timeout=0.5,
        )
    until(lambda: spent(running) > 0)
    assert spent(running) == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_a_model_that_does_not_count_is_charged_for_by_length(
    serve: Any, upstream: LocalModelServer, monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    def uncounted(function: Any) -> Any:
        def answer(*request: Any) -> Any:
            found = function(*request)
            if isinstance(found, dict):
                return {name: value for name, value in found.items() if name != "usage"}
            return [event for event in found if not event.get("usage")]

        return answer

    operation = upstream._models.operations["chat/completions"]
    silent = Operation(uncounted(operation.answer), uncounted(operation.events), operation.required)
    monkeypatch.setitem(upstream._models.operations, "chat/completions", silent)
    running = serve(**models(), server={"api_keys": keys(1.0)})
    assert chat(running, "weak", "word " * 80, stream=is_streamed).status_code == 200
    # 100 tokens in, 104 or more out (a whole answer is measured with its envelope)
    assert spent(running) >= 0.1 + 1.0
    assert running.metric("routellm_uncounted_total", missing="usage", model="openai/small") == 1
    refused = chat(running, "weak")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


def test_answers_without_a_price_are_told_of(serve: Any) -> None:
    running = serve(server={"api_keys": keys(1.0)})
    assert chat(running, "weak").status_code == 200
    assert running.metric("routellm_uncounted_total", missing="price", model="openai/small") == 1


class TestCachedInput:
    def test_it_has_its_own_price(self) -> None:
        price = Price(1.0, 10.0, cached_input_cost_per_token=0.1, cache_write_cost_per_token=1.25)
        assert price.dollars(10, 2, cached_tokens=5, written_tokens=4) == pytest.approx(1 + 0.5 + 5 + 20)
        assert Price(1.0, 10.0).dollars(10, 2, cached_tokens=5) == 30

    def test_the_price_map_is_asked_for_it(self) -> None:
        price = price_of("gpt-4o")
        assert price is not None
        assert price.cached_input_cost_per_token == pytest.approx(price.input_cost_per_token / 2)

    def test_it_is_counted(self, serve: Any, upstream: LocalModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from routellm_core.server import service

        operation = upstream._models.operations["chat/completions"]
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 90}}
        answered = Operation(
            lambda *request: {**operation.answer(*request), "usage": usage}, operation.events, operation.required
        )
        monkeypatch.setitem(upstream._models.operations, "chat/completions", answered)
        monkeypatch.setattr(service, "price_of", lambda _model: Price(0.01, 1.0, cached_input_cost_per_token=0.001))
        running = serve(server={"api_keys": keys(100.0)})
        chat(running, "weak")
        assert spent(running) == pytest.approx(10 * 0.01 + 90 * 0.001 + 1.0)
        assert running.metric("routellm_tokens_total", kind="cached") == 90


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: can_connect(port))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def until(condition: Any) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)


class TestASharedStore:
    def test_servers_count_together_and_a_restart_forgets_nothing(self, serve: Any, redis: str) -> None:
        shared = {"api_keys": [{**keys(0.1)[0], "requests_per_minute": 3}], "limits_storage": redis}
        first, second = (serve(**models(), server=shared) for _ in range(2))
        assert chat(first, "weak", "Hello!").status_code == 200  # 0.054
        assert chat(second, "weak", "Hello!").status_code == 200
        for running in (first, second, serve(**models(), server=shared)):
            refused = chat(running, "weak")
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] in ("insufficient_quota", "rate_limit_exceeded")
            assert 0 < int(refused.headers["retry-after"]) <= 86_400

    async def test_reservations_of_processes_see_each_other(self, redis: str) -> None:
        key = ClientKey.model_validate(keys(1.0)[0])
        here, there = (AccessControl([key], storage=redis) for _ in range(2))
        reserved = await here.reserve(key, lambda: 5.0)
        with pytest.raises(RequestError, match="a day"):
            await there.reserve(key, lambda: 0.1)
        await here.settle(reserved, 0.25)
        again = await there.reserve(key, lambda: 0.1)
        await there.settle(again, 0.75)
        with pytest.raises(RequestError, match="a day"):
            await here.enter(key)

    def test_without_the_store_nothing_is_spent(self, serve: Any, upstream: LocalModelServer) -> None:
        running = serve(**models(), server={"api_keys": keys(1.0), "limits_storage": "redis://127.0.0.1:9"})
        answer = chat(running, "weak")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "limits_unavailable")
        assert not upstream.requests

    def test_a_store_that_does_not_exist_is_told_of_at_once(self, serve: Any) -> None:
        for storage in ("nothing://x", "async+memory://"):
            with pytest.raises(ConfigError, match="limits_storage"):
                AccessControl([], storage=storage)


async def test_a_day_that_ends_in_between_gives_no_credit() -> None:
    key = ClientKey.model_validate(keys(1.0)[0])
    access = AccessControl([key])
    reserved = await access.reserve(key, lambda: 100.0)
    access._storage.reset()
    await access.settle(reserved, 0.5)
    assert access._storage.get(next(iter(access._storage.storage), "")) in (0, 500_000)  # type: ignore[attr-defined]
    await access.settle(await access.reserve(key, lambda: 0.1), 1.0)
    with pytest.raises(RequestError):
        await access.enter(key)


def test_embeddings_are_reserved_for_too(serve: Any) -> None:
    embedder = {"model": "openai/e", "input_cost_per_token": 1.0, "output_cost_per_token": 0.0}
    running = serve(**models(), server={"api_keys": keys(2.0), "embedding_model": embedder})
    sent = {"model": "e", "input": json.dumps("word " * 10)}
    assert [running.post("/embeddings", sent, headers=ALICE).status_code for _ in range(4)].count(200) >= 1
