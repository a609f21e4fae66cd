"""The one client of OpenAI's protocol: one JSON object out, the answer's bytes or events back as they came.

Blocking calls go through httpx, asynchronous ones through aiohttp, which takes a third of the processor's time per
relayed request. Neither is imported before it is used.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from pydantic_core import to_json

from routellm_core.errors import BackendError
from routellm_core.providers.endpoints import OpenAIEndpoint
from routellm_core.providers.errors import (
    connection_error,
    empty_stream,
    is_timeout,
    not_understood,
    refusal,
    timed_out,
)
from routellm_core.providers.events import EventReader, Events
from routellm_core.providers.redaction import safe_cause
from routellm_core.providers.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import ClientResponse, ClientSession
    from httpx import Client, Response


# Servers close idle connections after 5 s (uvicorn, and so vLLM) or later; a request on a closed one is lost.
_KEEP_ALIVE_SECONDS = 4.0
_READ_BYTES = 64 * 1024


@cache
def shared_client() -> ModelClient:
    """Return the client that the whole process shares, so that its connections are."""
    return ModelClient()


class ModelClient:
    """Pools of keep-alive connections to OpenAI-compatible servers.

    Any number of threads and event loops may use one. A process that was forked off opens connections of its own. Those
    of an event loop are closed when the loop ends, or by :meth:`aclose`.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._client: Client | None = None
        self._sessions: dict[asyncio.AbstractEventLoop, tuple[ClientSession, AsyncGenerator[None]]] = {}

    def send(
        self, model: ModelSettings, endpoint: OpenAIEndpoint, path: str, body: Mapping[str, Any]
    ) -> bytes | Iterator[Events]:
        """Post one request.

        Args:
            model: the model's settings, for its time limits.
            endpoint: where the model is.
            path: the operation, such as ``chat/completions``.
            body: the request; its ``model`` is replaced, and the endpoint's defaults are filled in.

        Returns:
            the body of the answer, or, where the request says ``stream``, its events as they arrive; the iterator's
            ``close`` ends the connection.

        Raises:
            BackendError: the server cannot be reached, refused, timed out, or answered with something else; from the
                iterator too.
        """
        import httpx

        is_streamed = bool(body.get("stream"))
        # One limit for all reads: what a stream may take before it says something is watched as its pieces come.
        limit = max(model.opening_seconds, model.silent_seconds) if is_streamed else model.timeout
        limits = httpx.Timeout(limit, connect=min(model.timeout, model.connect_timeout), pool=None)
        try:
            client = self._open()
            data, headers = _body(endpoint, body), dict(endpoint.headers)
            request = client.build_request("POST", endpoint.url(path), content=data, headers=headers, timeout=limits)
            response = client.send(request, stream=True)  # a redirection is refused: it could lead the key elsewhere
            try:
                if response.status_code < 300 and _is_event_stream(response.headers) and is_streamed:
                    return _events(response, EventReader(path, model.model, endpoint.secrets), model, limit)
                content = _whole(response, model)
            except BaseException:
                response.close()
                raise
            return _checked(response.status_code, response.headers, content, model, endpoint, is_streamed=is_streamed)
        except BackendError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _failure(error, model, endpoint.secrets, limit) from safe_cause(error, endpoint.secrets)

    async def asend(
        self, model: ModelSettings, endpoint: OpenAIEndpoint, path: str, body: Mapping[str, Any]
    ) -> bytes | AsyncIterator[Events]:
        """Do as :meth:`send` does, without blocking the event loop."""
        import aiohttp

        is_streamed = bool(body.get("stream"))
        limit = model.opening_seconds if is_streamed else model.timeout
        limits = aiohttp.ClientTimeout(
            total=None if is_streamed else model.timeout,
            sock_connect=min(model.timeout, model.connect_timeout),
            sock_read=limit,
        )
        try:
            session = await self._aopen()
            data, headers = _body(endpoint, body), endpoint.headers
            response = await session.post(
                endpoint.url(path), data=data, headers=headers, timeout=limits, allow_redirects=False
            )
            if response.status < 300 and is_streamed and _is_event_stream(response.headers):
                return _aevents(response, EventReader(path, model.model, endpoint.secrets), model)
            content = await response.read()
            return _checked(response.status, response.headers, content, model, endpoint, is_streamed=is_streamed)
        except BackendError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error, model, endpoint.secrets, limit) from safe_cause(error, endpoint.secrets)

    def close(self) -> None:
        """Close the connections of blocking calls."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        session, _ = self._sessions.pop(asyncio.get_running_loop(), (None, None))
        if session is not None:
            await session.close()

    def _open(self) -> Client:
        self._forget_the_parent_s()
        if self._client is None:
            from http.cookiejar import CookieJar, DefaultCookiePolicy

            import httpx

            self._client = httpx.Client(
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE_SECONDS),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one client's must not reach another's
            )
        return self._client

    async def _aopen(self) -> ClientSession:
        self._forget_the_parent_s()
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            for ended in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[ended]
            session = _session()
            keeper = _until_the_loop_ends(session)
            await anext(keeper)
            self._sessions[loop] = session, keeper
        return self._sessions[loop][0]

    def _forget_the_parent_s(self) -> None:
        # Two processes on one connection would read each other's answers.
        if self._process != os.getpid():
            self._client, self._sessions, self._process = None, {}, os.getpid()


def _session() -> ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=bool(getproxies()),
        read_bufsize=_READ_BYTES,
        auto_decompress=True,
    )


async def _until_the_loop_ends(session: ClientSession) -> AsyncGenerator[None]:
    # asyncio.run() closes the asynchronous generators that are open at its end, and so the connections.
    try:
        yield
    finally:
        await session.close()


def _body(endpoint: OpenAIEndpoint, body: Mapping[str, Any]) -> bytes:
    return to_json({**endpoint.defaults, **body, "model": endpoint.model})


def _is_event_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").startswith("text/event-stream")


def _checked(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    model: ModelSettings,
    endpoint: OpenAIEndpoint,
    *,
    is_streamed: bool,
) -> bytes:
    if status >= 300 or (is_streamed and b'"error"' in content):
        raise refusal(status, headers, content, model.model, endpoint.secrets)
    if is_streamed:
        raise not_understood(model.model, content)
    return content


def _whole(response: Response, model: ModelSettings) -> bytes:
    ends = time.monotonic() + model.timeout
    pieces = []
    for piece in response.iter_bytes():
        pieces.append(piece)
        if time.monotonic() > ends:
            raise timed_out(model.model, model.timeout)
    return b"".join(pieces)


def _events(response: Response, reader: EventReader, model: ModelSettings, limit: float) -> Iterator[Events]:
    import httpx

    try:
        for piece in response.iter_raw() if "Content-Encoding" not in response.headers else response.iter_bytes():
            events = reader.feed(piece)
            if events.raw:
                yield events
            if events.error:
                raise events.error
        yield from _rest(reader, model)
    except (httpx.HTTPError, OSError) as error:
        raise _failure(error, model, (), limit) from error
    finally:
        response.close()


async def _aevents(response: ClientResponse, reader: EventReader, model: ModelSettings) -> AsyncIterator[Events]:
    import aiohttp

    has_begun = False
    try:
        async with response:
            async for piece in response.content.iter_any():
                events = reader.feed(piece)
                if events.raw:
                    yield events
                if events.error:
                    raise events.error
                if not has_begun and reader.progress.has_content:
                    has_begun = True
                    _limit_silence(response, model.silent_seconds)
        for events in _rest(reader, model):
            yield events
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        limit = model.silent_seconds if has_begun else model.opening_seconds
        raise _failure(error, model, (), limit) from error


def _limit_silence(response: ClientResponse, seconds: float) -> None:
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.read_timeout = seconds


def _rest(reader: EventReader, model: ModelSettings) -> Iterator[Events]:
    left = reader.close()
    if left.raw:
        yield left
    if left.error:
        raise left.error
    if not reader.progress.events:
        raise empty_stream(model.model)


def _failure(error: Exception, model: ModelSettings, secrets: Sequence[str], limit: float) -> BackendError:
    if not is_timeout(error):
        return connection_error(error, model.model, secrets)
    if "Connect" in type(error).__name__:
        return timed_out(model.model, min(model.timeout, model.connect_timeout), "could not be reached")
    return timed_out(model.model, limit)
