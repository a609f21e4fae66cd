"""An OpenAI-compatible process for demos, tests and benchmarks: every model name is served, deterministically.

``python -m routellm_core.testing.local_models --port 8099`` runs it in the foreground, :class:`LocalModelServer` in a
thread of a test. A model's name can ask for trouble, or for an answer of one's own (``echo…``):

=====================  ==========================================================================
``fail-<status>``      every call fails with that status (429 with ``Retry-After: 0``)
``flaky-<status>``     every other call of that name fails so, the first one included
``slow-<seconds>``     answers after so long
``garbage``            answers 200 with HTML
``empty``              answers 200 without choices
``drop``               closes the connection without an answer
``no-base64``          refuses embeddings in base64, as some servers do
``cut``                a stream that breaks off in the middle (not streamed: as ``drop``)
``broken``             a stream with an error event in the middle (not streamed: as ``fail-500``)
``hold``               waits for :meth:`LocalModelServer.release`; a stream does so after its third event
``drip-<seconds>``     streams with such a pause before each chunk
``echo…``              answers with the last user message itself, so that a test can say what a model says
=====================  ==========================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from routellm_core.testing.local_handlers import (
    EMBEDDING_DIMENSION,
    LocalModels,
    Operation,
    ReceivedRequest,
    create_local_app,
)
from routellm_core.testing.replies import Reply

__all__ = ["EMBEDDING_DIMENSION", "LocalModelServer"]


class LocalModelServer:
    """Runs the application in a thread, on a free port of the loopback interface.

    Use it as a context manager.

    Args:
        api_key: when given, requests with another bearer token get 401.
        reply: called with the body of each request (as a chat completion's), in the thread that serves: the text to
            answer, or None to answer as usual. A call of a tool is answered as usual.
        operations: what is served beside chat completions and embeddings, by path.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        reply: Reply | None = None,
        operations: Mapping[str, Operation] | None = None,
    ) -> None:
        self._models = LocalModels(api_key, reply, operations)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-models", daemon=True)
        self._runner = web.AppRunner(create_local_app(self._models), shutdown_timeout=0.1, handler_cancellation=True)
        self.base_url = ""

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of the calls so far, but for embeddings, in order."""
        return self._models.requests

    @property
    def received(self) -> list[ReceivedRequest]:
        """The same calls and the embeddings', with their paths and headers."""
        return self._models.received

    @property
    def abandoned(self) -> int:
        """How many requests lost their client before they were answered."""
        return self._models.abandoned

    @property
    def holding(self) -> int:
        """How many calls of ``hold`` are waiting."""
        return self._models.holding

    def release(self) -> None:
        """Let the calls of ``hold`` that are waiting now go on."""
        self._loop.call_soon_threadsafe(self._models.release)

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


def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve OpenAI-compatible models for demos and tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--api-key", default=None, help="refuse other bearer tokens")
    arguments = parser.parse_args()
    web.run_app(create_local_app(LocalModels(arguments.api_key)), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    _main()
