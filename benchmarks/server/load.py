"""Closed-loop load: so many clients, each with one request in progress, over keep-alive connections.

Raw asyncio and httptools, since the generator shares its core with the backend and must not be the bottleneck;
``python -m benchmarks.server.throughput`` measures both alone and prints that rate first.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools
import uvloop

_VOCABULARY = (
    "please",
    "write",
    "explain",
    "how",
    "a",
    "function",
    "in",
    "python",
    "sorts",
    "the",
    "river",
    "and",
    "why",
)
_PROMPTS = 512
_NUMBER = b"#NUMBER#"  # replaced by one of the same length
_NUMBERS = itertools.count()  # one for the process: a prompt of an earlier run would be found in a cache
_WARM_UP_SECONDS = 0.3


@dataclass(frozen=True)
class Sample:
    """What one run measured.

    Attributes:
        rate: answers a second.
        latencies: seconds from a request's first byte to its answer's last, ascending.
        first_events: seconds to the answer's first byte of body, ascending.
    """

    rate: float
    latencies: Sequence[float]
    first_events: Sequence[float]

    def milliseconds(self, share: float, *, first: bool = False) -> float:
        """Return a quantile of the latencies; of those to the first byte if ``first``."""
        values = self.first_events if first else self.latencies
        return 1000 * values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def requests_for(
    port: int, model: str, *, stream: bool = False, operation: str = "chat/completions", key: str = "local"
) -> Iterator[bytes]:
    """Yield HTTP requests without end, no two prompts alike; 8 to 120 words, half of them under 30."""
    rng = random.Random(0)
    lengths = [min(120, 8 + int(rng.expovariate(1 / 32))) for _ in range(_PROMPTS)]
    prompts = [f"{_NUMBER.decode()} {' '.join(rng.choices(_VOCABULARY, k=words))}?" for words in lengths]
    bodies = [_body(model, prompt, stream=stream, operation=operation) for prompt in prompts]
    prepared = [_request(port, operation, key, body).split(_NUMBER) for body in bodies]
    for number in _NUMBERS:
        head, tail = prepared[number % len(prepared)]
        yield b"%s%08d%s" % (head, number, tail)


def _body(model: str, prompt: str, *, stream: bool, operation: str) -> dict[str, Any]:
    if operation == "embeddings":
        return {"model": model, "input": [prompt], "encoding_format": "base64"}
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, **({"stream": True} if stream else {})}


def _request(port: int, operation: str, key: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/{operation} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}authorization: Bearer {key}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


@dataclass
class _Tally:
    begin: float = 0.0
    end: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    fault: str | None = None


class _Client(asyncio.Protocol):
    """Sends the requests of each round one after the other; several requests make up a round, timed as one."""

    def __init__(self, requests: Sequence[Iterator[bytes]], tally: _Tally) -> None:
        self._rounds = zip(*requests, strict=True)
        self._tally = tally
        self._left: Iterator[bytes] = iter(())
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next_round()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._tally.fault = self._tally.fault or f"the server closed the connection ({exc})"
            self.finished.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if self._first == 0.0:
            self._first = time.perf_counter()
        self._tail = body

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200 or b'"error"' in self._tail:
            self._tally.fault = f"status {self._parser.get_status_code()}: {self._tail[:300]!r}"
            self._stop()
            return
        following = next(self._left, None)
        if following is not None:
            self._send(following)
            return
        now = time.perf_counter()
        if self._tally.begin <= now <= self._tally.end:
            self._tally.latencies.append(now - self._started)
            self._tally.first_events.append(self._first - self._started)
        if now >= self._tally.end or self._tally.fault:
            self._stop()
        else:
            self._next_round()

    def _next_round(self) -> None:
        self._left = iter(next(self._rounds))
        request = next(self._left)
        self._started = time.perf_counter()
        self._send(request)

    def _send(self, request: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._first = 0.0
        self._tail = b""
        self._transport.write(request)

    def _stop(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
        self._transport.close()


def run_load(port: int, requests: Sequence[Iterator[bytes]], *, clients: int, seconds: float) -> Sample:
    """Keep ``clients`` requests in progress for ``seconds``.

    Args:
        port: the server's, on the loopback interface.
        requests: a stream of requests; several are sent one after the other and count as one answer.
        clients: connections.
        seconds: measured time, after a short warm-up.

    Raises:
        SystemExit: a request failed.
    """
    return uvloop.run(_run(port, requests, clients, seconds))


async def _run(port: int, requests: Sequence[Iterator[bytes]], clients: int, seconds: float) -> Sample:
    loop = asyncio.get_running_loop()
    tally = _Tally(begin=time.perf_counter() + _WARM_UP_SECONDS)
    tally.end = tally.begin + seconds
    connected = [
        (await loop.create_connection(lambda: _Client(requests, tally), "127.0.0.1", port))[1] for _ in range(clients)
    ]
    # What is still in progress at the end is not counted, nor waited for where the server is very slow.
    await asyncio.wait([client.finished for client in connected], timeout=seconds + _WARM_UP_SECONDS + 0.5)
    for client in connected:
        client._stop()
    if tally.fault:
        raise SystemExit(f"port {port}: {tally.fault}")
    return Sample(len(tally.latencies) / seconds, sorted(tally.latencies), sorted(tally.first_events))
