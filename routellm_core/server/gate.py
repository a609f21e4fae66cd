"""What stands before every path: who is let in, how many at a time, and that nothing ends without an envelope."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

from starlette.datastructures import Headers, State
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routellm_core.errors import RouteLLMError
from routellm_core.server.error_responses import RequestError, error_response

__all__ = ["Gate", "Operations"]

logger = logging.getLogger(__name__)

Operations: TypeAlias = Mapping[str, Callable[[Request], Awaitable[Response]]]
"""What answers a ``POST`` to a path."""

_GUARDED = "/v1/"
_RETRY_SECONDS = 1.0


class Gate:
    """Middleware: keys, limits and back-pressure for ``/v1/…``, and everywhere an answer whatever is raised.

    Args:
        app: the application behind it.
        state: the application's state, with ``service`` and ``metrics``.
        operations: what is answered from here. FastAPI's way to them, through validation and dependencies of which
            they need none, costs as much as relaying the answer does.
    """

    def __init__(self, app: ASGIApp, *, state: State, operations: Operations) -> None:
        self._app = app
        self._state = state
        self._operations = operations
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP goes straight on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        is_guarded = _path(scope).startswith(_GUARDED)
        with self._counted(scope, answer) if is_guarded else nullcontext():
            await self._answer(scope, receive, answer, is_guarded=is_guarded)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer, *, is_guarded: bool) -> None:
        try:
            if is_guarded:
                self._admit(scope)
            operation = self._operations.get(_path(scope)) if scope["method"] == "POST" else None
            if operation is None:
                await self._app(scope, receive, answer.send)
            else:
                response = await operation(Request(scope, receive, answer.send))
                await response(scope, receive, answer.send)
        except RouteLLMError as error:
            await answer.refuse(error, scope, receive)
        except Exception as error:
            logger.exception("a request failed")
            await answer.refuse(error, scope, receive)

    @contextmanager
    def _counted(self, scope: Scope, answer: _Answer) -> Iterator[None]:
        metrics: Any = self._state.metrics
        self._in_progress += 1
        metrics.in_progress.inc()
        try:
            yield
        finally:
            self._in_progress -= 1
            metrics.in_progress.dec()
            known = _path(scope) if _path(scope) in self._operations else "unknown"
            path = getattr(scope.get("route"), "path", known)
            metrics.requests(path, str(answer.status or 499)).inc()

    def _admit(self, scope: Scope) -> None:
        service = self._state.service
        scope["routellm_key"] = service.access.admit(Headers(scope=scope).get("authorization"))
        if self._in_progress > service.settings.max_concurrent:
            raise RequestError(
                f"the server is busy with {service.settings.max_concurrent} requests, its limit; try again",
                status=429,
                code="server_busy",
                retry_after=_RETRY_SECONDS,
            )


def _path(scope: Scope) -> str:
    # Under another application, the path begins with where this one is mounted.
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class _Answer:
    """Remembers whether an answer has begun, and with which status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, error: Exception, scope: Scope, receive: Receive) -> None:
        if self.status is not None:
            raise error  # too late for another answer; the connection breaks, which tells the client
        await error_response(error)(scope, receive, self.send)
