"""What stands before every path: who is let in, how many at a time, and that nothing ends without an envelope."""

from __future__ import annotations

import logging
from typing import Any

from starlette.datastructures import Headers, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routellm_core.errors import RouteLLMError
from routellm_core.server.error_responses import RequestError, error_response

__all__ = ["Gate"]

logger = logging.getLogger(__name__)

_GUARDED = "/v1/"
_RETRY_SECONDS = 1.0


class Gate:
    """Middleware: keys and limits for ``/v1/…``, back-pressure, and an answer whatever is raised.

    Args:
        app: the application behind it.
        state: the application's state, with ``service`` and ``metrics``.
    """

    def __init__(self, app: ASGIApp, *, state: State) -> None:
        self._app = app
        self._state = state
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP under ``/v1/`` goes straight on."""
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        metrics: Any = self._state.metrics
        self._in_progress += 1
        metrics.in_progress.inc()
        try:
            self._admit(scope)
            await self._app(scope, receive, answer.send)
        except RouteLLMError as error:
            await answer.refuse(error, scope, receive)
        except Exception as error:
            logger.exception("a request failed")
            await answer.refuse(error, scope, receive)
        finally:
            self._in_progress -= 1
            metrics.in_progress.dec()
            route = scope.get("route")
            metrics.requests.labels(getattr(route, "path", "unknown"), str(answer.status or 499)).inc()

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
