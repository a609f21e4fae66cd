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
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from routellm_core import __version__
from routellm_core.controller import Controller
from routellm_core.errors import RouteLLMError
from routellm_core.providers.http import ModelClient
from routellm_core.server.chat_page import chat_page_router
from routellm_core.server.error_responses import error_response, is_anthropic, status_of
from routellm_core.server.gate import Gate
from routellm_core.server.metrics import Metrics
from routellm_core.server.operations import add_operations, add_probes
from routellm_core.server.reading import BodyReader
from routellm_core.server.records import REQUEST_ID
from routellm_core.server.service import DECISION_FIELDS, RoutingService
from routellm_core.server.settings import ServerSettings
from routellm_core.server.terminal import Terminal

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
    app = FastAPI(
        title="RouteLLM",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the gate takes a slash too many away
    )
    app.state.client = client
    app.state.metrics = Metrics()
    app.state.bodies = BodyReader()
    app.state.service = RoutingService(controller, settings, client)
    app.state.reload = reload
    paths = add_operations(app, needs_key=app.state.service.access.needs_key)
    app.add_middleware(Gate, state=app.state, paths=paths)
    add_probes(app)
    if settings.cors_origins:
        from fastapi.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", REQUEST_ID, *(f"x-routellm-{name}" for name in DECISION_FIELDS)],
        )
    _add_traces(app)
    for kind in (RouteLLMError, HTTPException):
        app.add_exception_handler(kind, _told)
    if settings.chat_page:
        app.include_router(chat_page_router(lambda: _page_settings(app.state.service)))
    return app


def _add_traces(app: FastAPI) -> None:
    """Let OpenTelemetry's own middleware make a span of each request, where it is installed and set up."""
    try:
        from opentelemetry import trace
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    except ImportError:
        return
    if hasattr(trace.get_tracer_provider(), "add_span_processor"):  # the API's own, without an SDK, keeps nothing
        app.add_middleware(OpenTelemetryMiddleware, exclude_spans=["receive", "send"])


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


async def _told(request: Request, error: Exception) -> Response:
    if status_of(error) >= 500:
        request.scope["routellm"].failed(error)
    else:
        request.scope["routellm"].error = str(error)
    return error_response(error, is_anthropic=is_anthropic(request.scope))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    handles_signal = app.state.reload is not None and threading.current_thread() is threading.main_thread()
    wanted = asyncio.Event()
    reloading = asyncio.create_task(_reload_when(wanted, app))
    if handles_signal and hasattr(signal, "SIGHUP"):
        terminal = Terminal()

        def hung_up() -> None:
            if terminal.has_closed:
                signal.raise_signal(signal.SIGTERM)
            else:
                wanted.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
    if handles_signal:
        _settle_memory()
    try:
        yield
    finally:
        reloading.cancel()
        app.state.bodies.close()
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
