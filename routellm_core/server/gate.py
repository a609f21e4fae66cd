"""What stands before every path: who is let in, how many at a time, and that nothing ends without an envelope."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from functools import lru_cache

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routellm_core.errors import RouteLLMError
from routellm_core.server.anthropic.backend import wanted_betas
from routellm_core.server.error_responses import (
    SHUTTING_DOWN,
    RequestError,
    error_response,
    is_anthropic,
    is_shutdown,
)
from routellm_core.server.records import REQUEST_ID, REQUEST_LINES, RequestRecord

__all__ = ["Gate"]

logger = logging.getLogger(__name__)

_GUARDED = "/v1/"
_RETRY_SECONDS = 1.0


class Gate:
    """Middleware: keys, limits and back-pressure for ``/v1/…``, and everywhere an answer whatever is raised.

    Args:
        app: the application behind it.
        state: the application's state, with ``service``, ``metrics`` and ``bodies``.
        paths: those of the API, for clients that leave out ``/v1``.
    """

    def __init__(self, app: ASGIApp, *, state: State, paths: frozenset[str]) -> None:
        self._app = app
        self._state = state
        self._paths = paths
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP goes straight on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord.of(scope)
        answer = _Answer(send, record)
        path = _path(scope)
        # One slash too many leads there as well. A redirection would repeat whatever host the request named.
        scope = {**scope, "routellm": record, "path": scope["path"].rstrip("/") or "/"}
        if scope["method"] == "HEAD":  # whoever writes the answer leaves its body out
            scope["method"] = "GET"
        if path.startswith(_GUARDED):
            await self._guarded(scope, receive, answer)
        else:
            await self._answer(scope, receive, answer, is_guarded=False)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        service, metrics, record = self._state.service, self._state.metrics, answer.record
        self._in_progress += 1
        metrics.in_progress.inc()
        try:
            await self._answer(scope, receive, answer, is_guarded=True)
        finally:
            self._in_progress -= 1
            metrics.in_progress.dec()
            self._state.bodies.release(record.held)
            service.access.leave(record.key)
            path = _path(scope)
            record.operation = path if path in self._paths else getattr(scope.get("route"), "path", "unknown")
            metrics.requests(record.operation, str(record.status or 499)).inc()
            if (form := service.settings.request_log) != "off" and REQUEST_LINES.isEnabledFor(logging.INFO):
                REQUEST_LINES.info("%s", record.line(form))

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer, *, is_guarded: bool) -> None:
        try:
            self._check_host(scope, answer.record)
            if is_guarded:
                await self._admit(answer.record)
            elif f"/v1{(path := _path(scope))}" in self._paths:
                raise RequestError(f"no such path; did you mean /v1{path}? The base URL ends in /v1", status=404)
            await self._app(scope, receive, answer.send)
        except RouteLLMError as error:
            await answer.refuse(error, scope, receive)
        except asyncio.CancelledError as error:
            if not is_shutdown(error):
                raise
            await answer.refuse(SHUTTING_DOWN, scope, receive)
        except Exception as error:
            logger.exception("a request failed")
            await answer.refuse(error, scope, receive)

    def _check_host(self, scope: Scope, record: RequestRecord) -> None:
        service, host = self._state.service, _host_of(record.header("host"))
        allowed = service.settings.allowed_hosts
        if "*" in allowed or (
            not allowed and (service.access.needs_key or not _is_local(service.settings.host, scope))
        ):
            return
        if host not in allowed and not _is_this_machine(host):
            raise RequestError(
                f"this server is not {host!r}: without keys, it answers to names of this machine alone; see "
                "server.allowed_hosts",
                status=421,
                code="host_not_allowed",
            )

    async def _admit(self, record: RequestRecord) -> None:
        service = self._state.service
        key = service.access.key_of(_token(record))
        most = service.most_concurrent
        if self._in_progress > most:
            raise RequestError(
                f"the server is busy with {most} requests, its limit; try again",
                status=429,
                code="server_busy",
                retry_after=_RETRY_SECONDS,
            )
        record.key = key
        await service.access.enter(key)
        wanted_betas.set(record.header("anthropic-beta"))


def _path(scope: Scope) -> str:
    # Under another application, the path begins with where this one is mounted.
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _token(record: RequestRecord) -> str:
    scheme, _, token = record.header("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else record.header("x-api-key").strip()


def _host_of(header: str) -> str:
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return name.lower().rstrip(".")


def _is_local(host: str, scope: Scope) -> bool:
    server = scope.get("server")
    return _is_this_machine(host) and server is not None and _is_this_machine(server[0])


@lru_cache(maxsize=256)
def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Answer:
    """Sends what the application answers with, and remembers whether that has begun and with which status."""

    def __init__(self, send: Send, record: RequestRecord) -> None:
        self._send = send
        self.record = record

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            named = (REQUEST_ID.encode(), self.record.id.encode())
            message = {**message, "headers": [*message["headers"], named]}
        elif not message.get("more_body"):  # with which the request's span ends
            self.record.annotate_span()
        await self._send(message)

    async def refuse(self, error: Exception, scope: Scope, receive: Receive) -> None:
        self.record.error = self.record.error or str(error)
        if self.record.status is not None:
            raise error  # too late for another answer; the connection breaks, which tells the client
        await error_response(error, is_anthropic=is_anthropic(scope))(scope, receive, self.send)
