"""Calls OpenAI-compatible endpoints without an SDK: one JSON object out, the answer's bytes back as they came."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from pydantic_core import to_json

from routellm_core._optional import import_extra
from routellm_core.backends.base import ModelSettings
from routellm_core.providers.endpoints import OpenAIEndpoint
from routellm_core.providers.http_errors import connection_error, not_understood, refusal

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = ["DirectClient"]

# Servers close idle connections after 5 s (uvicorn, and so vLLM) or later; a request on a closed one is lost.
_KEEP_ALIVE_SECONDS = 4.0
_CONNECT_SECONDS = 30.0
_READ_BYTES = 64 * 1024
_LONGEST_EVENT = 32 * 2**20  # a generated image is one event
_ERROR_EVENT = re.compile(rb'^data:\s*(\{\s*"error"\s*:\s*[^\sn].*)', re.MULTILINE)  # not: "error": null


class DirectClient:
    """A pool of keep-alive connections to OpenAI-compatible servers.

    It belongs to the event loop of its first call. :meth:`aclose` frees the connections.
    """

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def send(
        self, model: ModelSettings, endpoint: OpenAIEndpoint, path: str, body: Mapping[str, Any]
    ) -> bytes | AsyncIterator[bytes]:
        """Post one request.

        Args:
            model: the model's settings; its time-out is for the whole answer, or until a stream's next piece.
            endpoint: where the model is.
            path: the operation, such as ``chat/completions``.
            body: the request; its ``model`` is replaced, and the endpoint's defaults are filled in.

        Returns:
            the body of the answer, or, where the request says ``stream``, its bytes as they arrive.

        Raises:
            BackendError: the server cannot be reached, refused, timed out, or answered with something else; from the
                iterator too.
        """
        import aiohttp

        is_streamed = bool(body.get("stream"))
        data = to_json({**endpoint.defaults, **body, "model": endpoint.model})
        limits = aiohttp.ClientTimeout(
            total=None if is_streamed else model.timeout,
            sock_connect=min(model.timeout, _CONNECT_SECONDS),
            sock_read=model.timeout,
        )
        try:
            # A redirection is refused: it could lead the key to another host.
            response = await self._open().post(
                endpoint.url(path), data=data, headers=endpoint.headers, timeout=limits, allow_redirects=False
            )
            if response.status >= 300:
                raise refusal(response.status, response.headers, await response.read(), model, endpoint)
            if is_streamed:
                return await _checked_stream(response, model, endpoint)
            return await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise connection_error(error, model, is_timeout=isinstance(error, TimeoutError)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> ClientSession:
        if self._session is None:
            aiohttp = import_extra("aiohttp", extra="serve", purpose="relaying to an OpenAI-compatible model")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=bool(getproxies()),
                read_bufsize=_READ_BYTES,
                auto_decompress=True,
            )
        session: ClientSession = self._session
        return session


async def _checked_stream(
    response: ClientResponse, model: ModelSettings, endpoint: OpenAIEndpoint
) -> AsyncIterator[bytes]:
    if response.content_type.startswith("text/event-stream"):
        return _events(response, model, endpoint)
    content = await response.read()
    if b'"error"' in content:
        raise refusal(response.status, response.headers, content, model, endpoint)
    raise not_understood(model.model, content)


async def _events(response: ClientResponse, model: ModelSettings, endpoint: OpenAIEndpoint) -> AsyncIterator[bytes]:
    """Yield the stream in whole events, so that nothing is ever cut within one; an error event is raised."""
    import aiohttp

    pending = b""
    try:
        async with response:
            async for piece in response.content.iter_any():
                whole, pending = _whole_events(pending + piece if pending else piece)
                if len(pending) > _LONGEST_EVENT:
                    raise not_understood(model.model, pending)
                if b'"error"' in whole and (found := _ERROR_EVENT.search(whole)):
                    if before := _whole_events(whole[: found.start()])[0]:
                        yield before
                    raise refusal(response.status, response.headers, found[1], model, endpoint)
                if whole:
                    yield whole
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise connection_error(error, model, is_timeout=isinstance(error, TimeoutError)) from error
    if pending.strip():
        yield pending + b"\n\n"


def _whole_events(data: bytes) -> tuple[bytes, bytes]:
    """Split after the last event that is complete; events end with an empty line."""
    if data.endswith((b"\n\n", b"\r\n\r\n")):
        return data, b""
    after = (data.rfind(ending) + len(ending) for ending in (b"\n\n", b"\r\n\r\n") if ending in data)
    end = max(after, default=0)
    return data[:end], data[end:]
