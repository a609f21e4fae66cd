"""The FastAPI application: which path does what, and what stands before all of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from routellm_core import __version__
from routellm_core.backends.wire import Operation
from routellm_core.controller import Controller
from routellm_core.errors import RouteLLMError
from routellm_core.providers.http import ModelClient
from routellm_core.server.answers import answer_embedding, answer_request
from routellm_core.server.chat_page import chat_page_router
from routellm_core.server.error_responses import error_response
from routellm_core.server.gate import Gate, Operations
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
from routellm_core.server.service import DECISION_FIELDS, RoutingService, decision_headers
from routellm_core.server.settings import ServerSettings
from routellm_core.turns import Turn

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
    client = ModelClient()
    app = FastAPI(title="RouteLLM", version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.client = client
    app.state.metrics = Metrics()
    app.state.service = RoutingService(controller, settings, client)
    app.state.reload = reload
    app.add_middleware(Gate, state=app.state, operations=_add_operations(app))
    if settings.cors_origins:
        from fastapi.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", *(f"x-routellm-{name}" for name in DECISION_FIELDS)],
        )
    for kind in (RouteLLMError, HTTPException):
        app.add_exception_handler(kind, _told)
    _add_models(app)
    _add_operation_routes(app)
    if settings.chat_page:
        app.include_router(chat_page_router(lambda: _page_settings(app.state.service)))
    describe(app)
    return app


def _add_operations(app: FastAPI) -> Operations:
    """Declare the operations, which the gate answers."""

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
        key = request.scope.get("routellm_key")
        return await answer_embedding(request, body, service=service, metrics=request.app.state.metrics, key=key)

    @app.post("/v1/route", openapi_extra=request_body(RouteRequest), tags=["Routing"])
    async def route(request: Request) -> Response:
        """Return the decision for a prompt or for messages, without calling a model."""
        service: RoutingService = request.app.state.service
        _, parsed = await read_body(request, RouteRequest, limit=service.settings.max_body_bytes)
        decision = await service.decide(Turn.of(parsed.conversation()), model=parsed.model)
        request.app.state.metrics.decided(decision)
        return JSONResponse(decision.as_dict(), headers=decision_headers(decision))

    return {
        "/v1/chat/completions": chat_completions,
        "/v1/completions": completions,
        "/v1/responses": responses,
        "/v1/embeddings": embeddings,
        "/v1/route": route,
    }


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
        """Tell that the process lives, and which models are passed over after failures, for how many seconds yet."""
        cooling = app.state.service.cooling_models()
        failing = {model: round(seconds, 1) for model, seconds in cooling.items() if seconds}
        return JSONResponse({"status": "online", **({"failing_models": failing} if failing else {})})

    @app.get("/ready", tags=["Operation"])
    async def ready(request: Request) -> JSONResponse:
        """Tell which routers are loaded and that requests are taken."""
        return JSONResponse({"status": "ready", "routers": list(request.app.state.service.controller.routers)})

    @app.get("/metrics", tags=["Operation"])
    async def metrics(request: Request) -> Response:
        """Return Prometheus metrics."""
        state = request.app.state
        state.metrics.failing(state.service.cooling_models())
        text = await asyncio.to_thread(state.metrics.exposition)
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
    return error_response(error)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    handles_signal = app.state.reload is not None and threading.current_thread() is threading.main_thread()
    wanted = asyncio.Event()
    reloading = asyncio.create_task(_reload_when(wanted, app))
    if handles_signal and hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wanted.set)
    if handles_signal:
        _settle_memory()
    try:
        yield
    finally:
        reloading.cancel()
        await app.state.client.aclose()


def _settle_memory() -> None:
    """Take what is loaded for good out of the garbage collector's rounds, which cost a tenth of a request's time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def _reload_when(wanted: asyncio.Event, app: FastAPI) -> None:
    """Take the new settings each time they are wanted, or keep the old ones where they are faulty."""
    while await wanted.wait():
        wanted.clear()
        state = app.state
        try:
            controller, settings = await asyncio.to_thread(state.reload)
            state.service = RoutingService(controller, settings, state.client, replaces=state.service)
        except RouteLLMError as error:
            logger.error("the settings were not reloaded; the old ones stay: %s", error)
        except Exception:
            logger.exception("the settings were not reloaded; the old ones stay")
        else:
            _settle_memory()
            logger.warning("settings reloaded")
