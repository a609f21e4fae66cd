"""A server that speaks Anthropic's Messages API, deterministically, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from aiohttp import web


class LocalAnthropic:
    """Runs in a thread; ``received`` holds the requests' paths, headers and bodies. Use it as a context manager."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/messages", self._message)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    def __enter__(self) -> LocalAnthropic:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _received(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.received.append((request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        return body

    async def _count(self, request: web.Request) -> web.Response:
        body = await self._received(request)
        if "max_tokens" in body or "stream" in body:
            return _error(400, "extra inputs are not permitted")
        return web.json_response({"input_tokens": 4242})

    async def _message(self, request: web.Request) -> web.StreamResponse:
        body = await self._received(request)
        if body["model"].startswith("claude-fail-"):
            return _error(int(body["model"].removeprefix("claude-fail-")), "asked to fail")
        content = _content(body)
        stop = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
        usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0}
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 7},
        }
        if not body.get("stream"):
            return web.json_response(message)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        await _send(response, {"type": "message_start", "message": start})
        for index, block in enumerate(content):
            field, delta = {
                "text": ("text", "text_delta"),
                "thinking": ("thinking", "thinking_delta"),
                "tool_use": ("input", "input_json_delta"),
            }[block["type"]]
            empty: Any = {} if field == "input" else ""
            await _send(
                response, {"type": "content_block_start", "index": index, "content_block": {**block, field: empty}}
            )
            said = json.dumps(block[field]) if field == "input" else block[field]
            name = "partial_json" if field == "input" else field
            for piece in (said[:4], said[4:]):
                change = {"type": delta, name: piece}
                await _send(response, {"type": "content_block_delta", "index": index, "delta": change})
            await _send(response, {"type": "content_block_stop", "index": index})
        ended = {"stop_reason": stop, "stop_sequence": None}
        await _send(response, {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}})
        await _send(response, {"type": "message_stop"})
        return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


def _content(body: dict[str, Any]) -> list[dict[str, Any]]:
    last = body["messages"][-1]["content"]
    blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
    thoughts = (
        [{"type": "thinking", "thinking": "Let me think.", "signature": "signed"}] if body.get("thinking") else []
    )
    if body.get("tools") and all(block["type"] != "tool_result" for block in blocks):
        name = body["tools"][0]["name"]
        return [*thoughts, {"type": "tool_use", "id": "toolu_1", "name": name, "input": {"city": "Paris"}}]
    said = " ".join(block.get("text") or str(block.get("content", "")) for block in blocks)
    return [*thoughts, {"type": "text", "text": f"{body['model']} answers: {said}"}]


def _error(status: int, message: str) -> web.Response:
    kind = {400: "invalid_request_error", 529: "overloaded_error"}.get(status, "api_error")
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)
