"""What is remembered, for how long and where."""

from __future__ import annotations

import logging
import pickle
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest

from routellm_core.memory import ConversationMemory


def test_an_entry_is_forgotten_so_long_after_its_last_use() -> None:
    now = [0.0]
    memory = ConversationMemory(ttl_seconds=10, clock=lambda: now[0])
    memory.remember({"a": "strong"})
    now[0] = 9
    assert memory.recall(["a"]) == {"a": "strong"}
    now[0] = 18  # each use counts anew
    assert memory.recall(["a"]) == {"a": "strong"}
    now[0] = 29
    assert memory.recall(["a"]) == {}


def test_the_least_recently_used_is_forgotten_first() -> None:
    memory = ConversationMemory(capacity=2)
    memory.remember({"a": "strong", "b": "weak"})
    memory.recall(["a"])
    memory.remember({"c": "strong"})
    assert memory.recall("abc") == {"a": "strong", "c": "strong"}
    memory.remember({"c": "weak"})
    assert memory.recall(["c"]) == {"c": "weak"}


def test_what_is_pickled_is_how_it_remembers_and_not_what() -> None:
    memory = ConversationMemory(capacity=7, ttl_seconds=5)
    memory.remember({"a": "strong"})
    arrived = pickle.loads(pickle.dumps(memory))
    assert arrived.recall(["a"]) == {}
    arrived.remember(dict.fromkeys("abcdefghij", "weak"))
    assert len(arrived.recall("abcdefghij")) == 7


class BrokenStore:
    def get(self, keys: Sequence[str], seconds: float) -> list[str | None]:
        raise ConnectionError("no store")

    def put(self, values: Mapping[str, str], seconds: float) -> None:
        raise ConnectionError("no store")


def test_a_store_that_fails_is_as_good_as_empty_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = ConversationMemory(store=BrokenStore())
    memory.remember({"a": "strong"})
    assert memory.recall(["a"]) == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis server of its own, on a free port of the loopback interface."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def test_processes_share_what_they_remember_through_redis(redis_url: str) -> None:
    one, other = ConversationMemory(store=redis_url, ttl_seconds=100), ConversationMemory(store=redis_url)
    assert not one.is_local
    one.remember({"a": "strong", "b": "weak"})
    assert other.recall(["a", "b", "c"]) == {"a": "strong", "b": "weak"}
    short = ConversationMemory(store=redis_url, ttl_seconds=1)
    short.remember({"d": "strong"})
    time.sleep(1.2)
    assert other.recall(["d"]) == {}


def test_a_redis_that_is_gone_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    memory = ConversationMemory(store=f"redis://127.0.0.1:{port}/0")
    with caplog.at_level(logging.WARNING):
        assert memory.recall(["a"]) == {}
        memory.remember({"a": "weak"})
    assert len(caplog.records) == 1
