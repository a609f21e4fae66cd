"""An OpenAI-compatible process for demos, tests and benchmarks: every model name is served, deterministically.

``python -m routellm_core.testing.local_models --port 8099`` runs it in the foreground, :class:`LocalModelServer` in a
thread of a test. A model's name can ask for trouble:

=====================  ==========================================================================
``fail-<status>``      every call fails with that status (429 with ``Retry-After: 0``)
``flaky-<status>``     every other call of that name fails so, the first one included
``slow-<seconds>``     answers after so long
``garbage``            answers 200 with HTML
``empty``              answers 200 without choices
``drop``               closes the connection without an answer
``no-base64``          refuses embeddings in base64, as some servers do
``cut``                a stream that breaks off in the middle (not streamed: as ``drop``)
=====================  ==========================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import threading
from array import array
from collections import Counter
from typing import Any

from aiohttp import web

from routellm_core.testing.replies import completion, completion_chunks

__all__ = ["LocalModelServer"]

EMBEDDING_DIMENSION = 64
"""Length of an embedding, but for the models named here, which keep their own."""
_EMBEDDING_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
}


def _create_app(models: _LocalModels) -> web.Application:
    app = web.Application(client_max_size=64 * 2**20)
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", models.chat)
        app.router.add_post(f"{prefix}/embeddings", models.embeddings)
        app.router.add_get(f"{prefix}/models", models.list_models)
    return app


class LocalModelServer:
    """Runs the application in a thread, on a free port of the loopback interface.

    Use it as a context manager. ``requests`` holds the bodies of the chat calls it got, in order.

    Args:
        api_key: when given, requests with another bearer token get 401.
    """

    def __init__(self, *, api_key: str | None = None) -> None:
        self._models = _LocalModels(api_key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-models", daemon=True)
        self._runner = web.AppRunner(_create_app(self._models), shutdown_timeout=0.1)
        self.base_url = ""

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of the chat calls so far."""
        return self._models.requests

    def __enter__(self) -> LocalModelServer:
        self._thread.start()
        self.base_url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    async def _start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        _, port = self._runner.addresses[0][:2]
        return f"http://127.0.0.1:{port}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class _LocalModels:
    """The handlers, and what they remember."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key
        self._calls: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        self.requests.append(body)
        model = str(body.get("model", ""))
        self._calls[model] += 1
        if trouble := await self._trouble(request, model):
            return trouble
        if not body.get("messages"):
            return _error(400, "messages is required", "messages")
        if body.get("stream"):
            return await self._stream(request, body, model)
        return web.json_response(completion(body))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        model = str(body.get("model", ""))
        if trouble := await self._trouble(request, model):
            return trouble
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
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
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in ("strong", "weak")]
        return web.json_response({"object": "list", "data": data})

    def _refused(self, request: web.Request) -> web.Response | None:
        if self._api_key is None or request.headers.get("Authorization") == f"Bearer {self._api_key}":
            return None
        return _error(401, "Incorrect API key provided", code="invalid_api_key")

    async def _trouble(self, request: web.Request, model: str) -> web.StreamResponse | None:
        kind, _, argument = model.partition("-")
        if kind == "slow":
            await asyncio.sleep(float(argument))
        if kind == "fail" or (kind == "flaky" and self._calls[model] % 2):
            return _error(int(argument), f"{model} was asked to fail")
        if kind == "garbage":
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        if kind == "empty":
            return web.json_response(
                {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": []}
            )
        if kind == "drop" or (kind == "cut" and not (await request.json()).get("stream")):
            _break_connection(request)
        return None

    async def _stream(self, request: web.Request, body: dict[str, Any], model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        try:
            await response.prepare(request)
            for number, chunk in enumerate(completion_chunks(body)):
                if model == "cut" and number == 3:
                    _break_connection(request)
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        except ConnectionResetError:  # the client left (a time-out, an early stop)
            _break_connection(request)
        return response


def _break_connection(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError  # nothing is written to the closed connection


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


def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve OpenAI-compatible models for demos and tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--api-key", default=None, help="refuse other bearer tokens")
    arguments = parser.parse_args()
    web.run_app(_create_app(_LocalModels(arguments.api_key)), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    _main()
