"""Connections that ask for nothing: time limits for a request's head and body, and how many may be open."""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from routellm_core.server.error_responses import RequestError, envelope
from routellm_core.server.settings import ServerSettings

__all__ = ["Connection", "guarded", "most_concurrent", "raise_descriptor_limit"]

_BYTES_A_SECOND = 16 * 1024  # a body that comes faster than this takes as long as it likes
_SPARE_DESCRIPTORS = 64  # files, the listener, the event loop, litellm's connections
_LATE = RequestError("the request did not arrive in time", status=408, code="request_timeout")


def raise_descriptor_limit() -> None:
    """Let this process and its workers open as many descriptors as it may: two for each request in progress."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_concurrent(settings: ServerSettings) -> int:
    """Return how many requests may be in progress: ``max_concurrent``, or what the descriptors suffice for."""
    return min(settings.max_concurrent, max(1, (_descriptors() - _SPARE_DESCRIPTORS) // 3))


def _descriptors() -> int:
    if sys.platform == "win32":
        return 2**20
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft


@dataclass
class _Guard:
    """What the connections of one process share: the limits, and which of them wait for a request, oldest first."""

    header_seconds: float
    body_seconds: float
    most: int
    waiting: dict[Connection, None] = field(default_factory=dict)
    sweep: Any = None


def guarded(settings: ServerSettings) -> Callable[..., Connection]:
    """Return uvicorn's ``http`` option: connections that keep to ``settings``."""
    open_at_most = min(
        settings.max_connections, max(8, _descriptors() - _SPARE_DESCRIPTORS - most_concurrent(settings))
    )
    return partial(Connection, guard=_Guard(settings.header_seconds, settings.body_seconds, open_at_most))


class Connection(HttpToolsProtocol):
    """A client's connection. What it owes is looked at every half second, which costs less than timers for each."""

    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._owed_by: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a new connection; beyond the limit, for the one that has waited for longest."""
        super().connection_made(transport)
        guard = self._guard
        if len(self.connections) > guard.most:
            longest = next(iter(guard.waiting), self)
            guard.waiting.pop(longest, None)
            longest.transport.abort()
        self._wait(guard.header_seconds)
        if guard.sweep is None:
            guard.sweep = self.loop.call_later(0.5, _sweep, guard, self.connections, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._guard.waiting.pop(self, None)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Expect the head of a request."""
        self._owed_by = self.loop.time() + self._guard.header_seconds
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Expect the body of a request."""
        self._guard.waiting.pop(self, None)
        self._owed_by = self.loop.time() + self._guard.body_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Allow more time for what comes steadily."""
        if self._owed_by is not None:
            self._owed_by += len(body) / _BYTES_A_SECOND
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing more."""
        self._owed_by = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's own limit is for a client that sends nothing at all."""
        super().on_response_complete()
        if not self.pipeline and self._owed_by is None and not self.transport.is_closing():
            self._wait(self.timeout_keep_alive + self._guard.header_seconds)

    def is_late(self, now: float) -> bool:
        """Return whether its client has not sent what it owes; a request before it may hold the reading up."""
        return self._owed_by is not None and self._owed_by < now and not self.pipeline and not self.flow.read_paused

    def give_up(self) -> None:
        """Tell the client, if it has sent enough to be told, and close."""
        self._owed_by = None
        if self.cycle is not None and not self.cycle.response_started:
            body = to_json(envelope(_LATE))
            head = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n"
            self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self.transport.close()

    def _wait(self, seconds: float) -> None:
        self._owed_by = self.loop.time() + seconds
        self._guard.waiting[self] = None


def _sweep(guard: _Guard, connections: set[Any], loop: AbstractEventLoop) -> None:
    now = loop.time()
    for connection in [each for each in connections if isinstance(each, Connection) and each.is_late(now)]:
        connection.give_up()
    guard.sweep = loop.call_later(0.5, _sweep, guard, connections, loop) if connections else None
