"""The FastAPI application: which path does what, and what stands before all of them."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from routellm_core import __version__
from routellm_core.backends.direct import DirectClient
from routellm_core.backends.wire import Operation
from routellm_core.controller import Controller
from routellm_core.errors import RouteLLMError
from routellm_core.server.answers import answer_request
from routellm_core.server.chat_page import chat_page_router
from routellm_core.server.error_responses import RequestError, error_response
from routellm_core.server.gate import Gate
from routellm_core.server.metrics import Metrics
from routellm_core.server.openapi import describe, request_body
from routellm_core.server.request_bodies import (
    ChatCompletionRequest,
    CompletionRequest,
    EmbeddingRequest,
    OperationRequest,
    ResponseRequest,
    RouteRequest,
    read_body,
)
from routellm_core.server.service import RoutingService, decision_headers
from routellm_core.server_settings import ServerSettings

__all__ = ["Reload", "create_app"]

logger = logging.getLogger(__name__)

Reload = Callable[[], tuple[Controller, ServerSettings]]


def create_app(
    controller: Controller, settings: ServerSettings | None = None, *, reload: Reload | None = None
) -> FastAPI:
    """Return the server's application.

    Args:
        controller: decides; its models, and its policy of retries and fallback, serve the requests.
        settings: of the server; ``host``, ``port`` and ``shutdown_seconds`` are for whoever runs the application.
        reload: reads everything anew when SIGHUP arrives; requests in progress finish as they began.

    Raises:
        ConfigError: the file of client keys cannot be read.
    """
    settings = settings or ServerSettings()
    client = DirectClient()
    app = FastAPI(title="RouteLLM", version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.client = client
    app.state.metrics = Metrics()
    app.state.service = RoutingService(controller, settings, client)
    app.state.reload = reload
    app.add_middleware(Gate, state=app.state)
    if settings.cors_origins:
        from fastapi.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[
                f"x-routellm-{name}" for name in ("model", "tier", "score", "threshold", "router", "reason")
            ],
        )
    for kind in (RouteLLMError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _told)
    _add_operations(app)
    _add_models(app)
    _add_operation_routes(app)
    if settings.chat_page:
        app.include_router(chat_page_router(lambda: _page_settings(app.state.service)))
    describe(app)
    return app


def _add_operations(app: FastAPI) -> None:
    @app.post("/v1/chat/completions", openapi_extra=request_body(ChatCompletionRequest), tags=["OpenAI"])
    async def chat_completions(request: Request) -> Response:
        """Answer a chat completion by the model that the routing decides on; streamed where the request says so."""
        return await _answered(request, "chat/completions", ChatCompletionRequest)

    @app.post("/v1/completions", openapi_extra=request_body(CompletionRequest), tags=["OpenAI"])
    async def completions(request: Request) -> Response:
        """Answer a text completion likewise."""
        return await _answered(request, "completions", CompletionRequest)

    @app.post("/v1/responses", openapi_extra=request_body(ResponseRequest), tags=["OpenAI"])
    async def responses(request: Request) -> Response:
        """Answer a request of the Responses API likewise."""
        return await _answered(request, "responses", ResponseRequest)

    @app.post("/v1/embeddings", openapi_extra=request_body(EmbeddingRequest), tags=["OpenAI"])
    async def embeddings(request: Request) -> Response:
        """Pass an embedding request on. Nothing is routed."""
        service: RoutingService = request.app.state.service
        body, _ = await read_body(request, EmbeddingRequest, limit=service.settings.max_body_bytes)
        answer = await service.embed(body)
        return Response(answer.content, media_type="application/json")

    @app.post("/v1/route", openapi_extra=request_body(RouteRequest), tags=["Routing"])
    async def route(request: Request) -> Response:
        """Return the decision for a prompt or for messages, without calling a model."""
        service: RoutingService = request.app.state.service
        _, parsed = await read_body(request, RouteRequest, limit=service.settings.max_body_bytes)
        decision = await service.decide(parsed.conversation(), model=parsed.model, session=None)
        request.app.state.metrics.decided(decision)
        return JSONResponse(decision.as_dict(), headers=decision_headers(decision))


async def _answered(request: Request, operation: Operation, kind: type[OperationRequest]) -> Response:
    state = request.app.state
    service: RoutingService = state.service
    body, parsed = await read_body(request, kind, limit=service.settings.max_body_bytes)
    key = request.scope.get("routellm_key")
    return await answer_request(request, operation, body, parsed, service=service, metrics=state.metrics, key=key)


def _add_models(app: FastAPI) -> None:
    @app.get("/v1/models", tags=["OpenAI"])
    async def models(request: Request) -> JSONResponse:
        """List each router at its default threshold, ``auto``, and the two models, which bypass routing."""
        return JSONResponse({"object": "list", "data": request.app.state.service.model_cards()})

    @app.get("/v1/models/{model:path}", tags=["OpenAI"])
    async def model(request: Request, model: str) -> JSONResponse:
        """Describe one model; routers answer to every threshold."""
        return JSONResponse(request.app.state.service.model_card(model))


def _add_operation_routes(app: FastAPI) -> None:
    @app.get("/health", tags=["Operation"])
    async def health() -> JSONResponse:
        """Tell that the process lives."""
        return JSONResponse({"status": "online"})

    @app.get("/ready", tags=["Operation"])
    async def ready(request: Request) -> JSONResponse:
        """Tell which routers are loaded and that requests are taken."""
        return JSONResponse({"status": "ready", "routers": list(request.app.state.service.controller.routers)})

    @app.get("/metrics", tags=["Operation"])
    async def metrics(request: Request) -> Response:
        """Return Prometheus metrics."""
        text = await asyncio.to_thread(request.app.state.metrics.exposition)
        return Response(text, media_type=Metrics.content_type)


def _page_settings(service: RoutingService) -> Mapping[str, Any]:
    controller = service.controller
    default = next(iter(controller.routers))
    return {
        "models": {
            tier: {
                "name": controller.model_pair.of(tier),
                "input_cost_per_token": price.input_cost_per_token if price else None,
                "output_cost_per_token": price.output_cost_per_token if price else None,
            }
            for tier, price in service.prices.items()
        },
        "routers": [
            {"name": name, "quantiles": _every_percent(router.reference_quantiles)}
            for name, router in controller.routers.items()
        ],
        "default_router": default,
        "default_threshold": controller.selector(default).threshold,
        "needs_key": service.access.needs_key,
    }


def _every_percent(quantiles: Any) -> list[float] | None:
    return None if quantiles is None else [float(value) for value in quantiles[:: max(1, (len(quantiles) - 1) // 100)]]


async def _told(_request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = RequestError(str(error.errors()[0].get("msg", "invalid request")), code="invalid_value")
    return error_response(error)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    handles_signal = app.state.reload is not None and threading.current_thread() is threading.main_thread()
    loop = asyncio.get_running_loop()
    if handles_signal and hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(_reloaded(app)))
    try:
        yield
    finally:
        await app.state.client.aclose()


async def _reloaded(app: FastAPI) -> None:
    """Take the new settings, or keep the old ones where they are faulty."""
    try:
        controller, settings = await asyncio.to_thread(app.state.reload)
        app.state.service = RoutingService(controller, settings, app.state.client)
    except RouteLLMError as error:
        logger.error("the settings were not reloaded; the old ones stay: %s", error)
        return
    logger.info("settings reloaded")
