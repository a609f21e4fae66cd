"""An OpenAI-compatible server that costs next to nothing, so that what stands before it is what gets measured.

    python -m benchmarks.server.backend --port 8099 --model-seconds 0.3 --embedding-seconds 0.1

It answers chat completions (a stream is ``EVENTS`` events, each sent by itself, as models send them) and embeddings
with prepared bytes. Raw asyncio and httptools: about ten times the rate of the same server under an HTTP framework.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
from array import array
from typing import Any

import httptools
from pydantic_core import from_json

EVENTS = 20
DIMENSION = 1536
_WORDS = "The quick brown fox jumps over the lazy dog near the old river bank and then"
_BASE = {"id": "chatcmpl-1", "created": 1, "model": "local"}
_USAGE = {"prompt_tokens": 30, "completion_tokens": 16, "total_tokens": 46}
_MESSAGE = {"role": "assistant", "content": _WORDS, "refusal": None}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": "stop", "logprobs": None}


def _whole(body: bytes, content_type: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (content_type, len(body), body)


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def _chunk(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    return _event(json.dumps({**_BASE, "object": "chat.completion.chunk", "choices": choices, **fields}).encode())


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}]


COMPLETION = _whole(json.dumps({**_BASE, "object": "chat.completion", "choices": [_CHOICE], "usage": _USAGE}).encode())
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_PIECES = [f"{word} " for word in (_WORDS * 2).split()][: EVENTS - 3]
STREAM = [
    _chunk(_delta({"role": "assistant", "content": ""})),
    *(_chunk(_delta({"content": piece})) for piece in _PIECES),
    _chunk(_delta({}, "stop")),
]
STREAM_USAGE = _chunk([], usage=_USAGE)
STREAM_END = _event(b"[DONE]") + b"0\r\n\r\n"
_VECTOR = array("f", (math.sin(i) / math.sqrt(DIMENSION / 2) for i in range(DIMENSION)))
_VECTORS = {"base64": base64.b64encode(_VECTOR.tobytes()).decode(), "float": list(_VECTOR)}


class BackendProtocol(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, model_seconds: float, embedding_seconds: float) -> None:
        self._seconds = {b"embeddings": embedding_seconds, b"completions": model_seconds}
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._operation = url.rpartition(b"/")[2]

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = from_json(self._body) if self._body else {}
        seconds = self._seconds.get(self._operation, 0.0)
        if seconds:
            self._loop.call_later(seconds, self._answer, self._operation, request)
        else:
            self._answer(self._operation, request)

    def _answer(self, operation: bytes, request: dict[str, Any]) -> None:
        if operation == b"embeddings":
            self._transport.write(_whole(_embeddings(request)))
        elif request.get("stream"):
            asks_usage = (request.get("stream_options") or {}).get("include_usage")
            pieces = [*STREAM, *([STREAM_USAGE] if asks_usage else []), STREAM_END]
            self._transport.write(STREAM_HEAD)
            self._send(iter(pieces))
        else:
            self._transport.write(COMPLETION)

    def _send(self, pieces: Any) -> None:
        # One event per turn of the loop: nothing gathers them into one packet but a reader that is slower.
        piece = next(pieces, None)
        if piece is not None and not self._transport.is_closing():
            self._transport.write(piece)
            self._loop.call_soon(self._send, pieces)


def _embeddings(request: dict[str, Any]) -> bytes:
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    vector = _VECTORS["base64" if request.get("encoding_format") == "base64" else "float"]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return json.dumps({"object": "list", "data": data, "model": request["model"], "usage": usage}).encode()


async def _serve(port: int, model_seconds: float, embedding_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: BackendProtocol(model_seconds, embedding_seconds), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-seconds", type=float, default=0.0, help="before a completion's first byte")
    parser.add_argument("--embedding-seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    # asyncio's own loop sends each write at once; uvloop gathers those of one turn.
    asyncio.run(_serve(arguments.port, arguments.model_seconds, arguments.embedding_seconds))


if __name__ == "__main__":
    main()
