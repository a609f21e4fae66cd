"""The floor: a relay that reads nothing and decides nothing, on the libraries that our server stands on.

python -m benchmarks.server.relay --port 8098 --backend http://127.0.0.1:8099/v1
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def create_app(backend: str) -> Starlette:
    @asynccontextmanager
    async def session(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app.state.session:
            yield

    async def relay(request: Request) -> Response:
        body = await request.body()
        headers = {"content-type": "application/json"}
        answer = await request.app.state.session.post(f"{backend}/chat/completions", data=body, headers=headers)
        if answer.content_type != "text/event-stream":
            return Response(await answer.read(), answer.status, media_type=answer.content_type)

        async def pieces() -> AsyncIterator[bytes]:
            async with answer:
                async for piece in answer.content.iter_any():
                    yield piece

        return StreamingResponse(pieces(), answer.status, media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", relay, methods=["POST"])], lifespan=session)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", required=True, help="base URL, ending in /v1")
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.backend), port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
