"""What the local process does with a request: the handlers, and what they remember."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import web

from routellm_core.testing.replies import Reply, completion, completion_chunks

EMBEDDING_DIMENSION = 64
"""Length of an embedding, but for the models named here, which keep their own."""
_EMBEDDING_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
}


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived: path with its query, headers by names in lower case, and body."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """How one of the generating operations is answered, whole and streamed, and the field that it needs.

    ``has_names`` says whether each event of its streams is named after its type, and no ``[DONE]`` ends them.
    """

    answer: Callable[[Mapping[str, Any], Reply | None], Any]
    events: Callable[[Mapping[str, Any], Reply | None], Iterable[Mapping[str, Any]]]
    required: str
    has_names: bool = False


_CHAT = {"chat/completions": Operation(completion, completion_chunks, "messages")}


def create_local_app(models: LocalModels) -> web.Application:
    """Return the application, with and without ``/v1`` before its paths."""
    app = web.Application(client_max_size=64 * 2**20)
    for prefix in ("/v1", ""):
        for path in models.operations:
            app.router.add_post(f"{prefix}/{path}", models.generate)
        app.router.add_post(f"{prefix}/embeddings", models.embeddings)
        app.router.add_get(f"{prefix}/models", models.list_models)
    return app


class LocalModels:
    """The handlers, and what they remember.

    Args:
        api_key: when given, requests with another bearer token get 401.
        reply: asked first what to say.
        operations: further ones by path.
    """

    def __init__(
        self, api_key: str | None, reply: Reply | None = None, operations: Mapping[str, Operation] | None = None
    ) -> None:
        self.operations = {**_CHAT, **(operations or {})}
        self._api_key, self._reply = api_key, reply
        self._calls: Counter[str] = Counter()
        self._released = asyncio.Event()
        self.requests: list[dict[str, Any]] = []
        self.received: list[ReceivedRequest] = []
        self.abandoned = 0
        self.holding = 0

    def release(self) -> None:
        """Let the calls that are held go on."""
        self._released.set()
        self._released = asyncio.Event()

    async def _held(self) -> None:
        self.holding += 1
        try:
            await self._released.wait()
        finally:
            self.holding -= 1

    async def _received(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(ReceivedRequest(request.path_qs, headers, body))
        return body

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answer one of the operations."""
        operation = self.operations[request.path.removeprefix("/v1").strip("/")]
        if refused := self._refused(request):
            return refused
        body = await self._received(request)
        self.requests.append(body)
        model = str(body.get("model", ""))
        self._calls[model] += 1
        try:
            if trouble := await self._trouble(request, body, model):
                return trouble
            if not body.get(operation.required):
                return _error(400, f"{operation.required} is required", operation.required)
            if body.get("stream"):
                return await self._stream(request, body, operation)
            return web.json_response(operation.answer(body, self._reply))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            return _error(400, f"invalid request: {error!r}")
        except _BrokenOnPurpose:
            raise
        except (asyncio.CancelledError, ConnectionResetError):  # the client left (a time-out, an early stop)
            self.abandoned += 1
            _break_connection(request)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Answer with hashed bags of words."""
        if refused := self._refused(request):
            return refused
        body = await self._received(request)
        model = str(body.get("model", ""))
        if trouble := await self._trouble(request, body, model):
            return trouble
        given = body["input"]
        is_one = isinstance(given, str) or (given and isinstance(given[0], int))
        texts = [str(item) for item in ([given] if is_one else given)]  # tokens are words as well
        dimension = _EMBEDDING_DIMENSIONS.get(model, EMBEDDING_DIMENSION)
        if model.startswith("no-base64") and body.get("encoding_format") == "base64":
            return _error(400, "encoding_format must be 'float'", "encoding_format")
        vectors: list[Any] = [_embedding(text, dimension) for text in texts]
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(array("f", vector).tobytes()).decode() for vector in vectors]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return web.json_response({"object": "list", "data": data, "model": model, "usage": usage})

    async def list_models(self, _request: web.Request) -> web.Response:
        """List two of the names; every name is served."""
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in ("strong", "weak")]
        return web.json_response({"object": "list", "data": data})

    def _refused(self, request: web.Request) -> web.Response | None:
        if self._api_key is None or request.headers.get("Authorization") == f"Bearer {self._api_key}":
            return None
        return _error(401, "Incorrect API key provided", code="invalid_api_key")

    async def _trouble(self, request: web.Request, body: Mapping[str, Any], model: str) -> web.StreamResponse | None:
        kind, _, argument = model.partition("-")
        is_streamed = bool(body.get("stream"))
        if kind == "slow":
            await asyncio.sleep(float(argument))
        if kind == "hold" and not is_streamed:
            await self._held()
        if kind == "fail" or (kind == "flaky" and self._calls[model] % 2):
            return _error(int(argument), f"{model} was asked to fail")
        if kind == "broken" and not is_streamed:
            return _error(500, "broken in the middle")
        if kind == "garbage":
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        if kind == "empty":
            return web.json_response(
                {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": []}
            )
        if kind == "drop" or (kind == "cut" and not is_streamed):
            _break_connection(request)
        return None

    async def _stream(self, request: web.Request, body: Mapping[str, Any], operation: Operation) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        model = str(body.get("model", ""))
        # What is wrong with the request shows before the answer begins.
        events = list(operation.events(body, self._reply))
        await response.prepare(request)
        for number, event in enumerate(events):
            if model.startswith("drip-"):
                await asyncio.sleep(float(model.removeprefix("drip-")))
            if model == "cut" and number == 3:
                _break_connection(request)
            if model == "hold" and number == 3:
                await self._held()
            if model == "broken" and number == 3:
                await response.write(b"data: " + (_error(500, "broken in the middle").body or b"") + b"\n\n")  # type: ignore[operator]
                return response
            name = f"event: {event['type']}\n".encode() if operation.has_names else b""
            await response.write(name + b"data: " + json.dumps(event).encode() + b"\n\n")
        if not operation.has_names:
            await response.write(b"data: [DONE]\n\n")
        return response


class _BrokenOnPurpose(asyncio.CancelledError):
    """Nothing more is written to the connection."""


def _break_connection(request: web.Request) -> NoReturn:
    if request.transport is not None:
        request.transport.abort()
    raise _BrokenOnPurpose


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> web.Response:
    kind = _ERROR_TYPES.get(status, "server_error")
    headers = {"Retry-After": "0"} if status == 429 else {}
    envelope = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return web.json_response(envelope, status=status, headers=headers)


def _embedding(text: str, dimension: int) -> list[float]:
    # A hashed bag of words: alike texts have alike vectors.
    vector = [0.0] * dimension
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[2:6], "big") % dimension] += 1.0 if digest[1] % 2 else -1.0
    return vector
