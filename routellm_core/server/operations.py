"""The paths of the API: each declared once, with what it takes and what it answers with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from routellm_core.server.answer_models import (
    ANTHROPIC_ERRORS,
    ERRORS,
    STREAMED,
    AnthropicMessage,
    ChatCompletion,
    Decision,
    Embeddings,
    Health,
    ModelCard,
    ModelCards,
    Readiness,
    ResponseObject,
    TextCompletion,
    TokenCount,
)
from routellm_core.server.answers import answer_embedding, answer_request, count_tokens
from routellm_core.server.metrics import Metrics
from routellm_core.server.request_bodies import (
    ChatCompletionRequest,
    CompletionRequest,
    EmbeddingRequest,
    MessagesRequest,
    Received,
    ResponseRequest,
    RouteRequest,
    TokenCountRequest,
)
from routellm_core.server.service import RoutingService, decision_headers
from routellm_core.turns import Turn

__all__ = ["add_operations", "add_probes"]

_Endpoint = Callable[..., Awaitable[Response]]


class _Operation(APIRoute):
    """A path whose body is read by :class:`~routellm_core.server.reading.BodyReader`.

    FastAPI's own way parses bodies on the event loop and collects every fault in them; what a body must look like, and
    so the description, comes from the endpoint's signature all the same.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return what answers a request."""
        endpoint: _Endpoint = self.endpoint
        kind = get_type_hints(endpoint).get("body")
        if kind is None or not issubclass(kind, Received):
            return super().get_route_handler()

        async def answer(request: Request) -> Response:
            state = request.app.state
            body = await state.bodies.read(request, kind, limit=state.service.settings.max_body_bytes)
            return await endpoint(request, body)

        return answer


def add_operations(app: FastAPI, *, needs_key: bool) -> frozenset[str]:
    """Declare what is under ``/v1``, and return the paths.

    Args:
        app: the application.
        needs_key: whether the gate asks for a key, which is described here.
    """
    app.router.route_class = _Operation
    key = [Depends(HTTPBearer(auto_error=False))] if needs_key else []
    options: dict[str, Any] = {"responses": ERRORS, "dependencies": key}
    streamed: dict[str, Any] = {**options, "responses": {**ERRORS, **STREAMED}}

    @app.post("/v1/chat/completions", response_model=ChatCompletion, tags=["OpenAI"], **streamed)
    async def chat_completions(request: Request, body: ChatCompletionRequest) -> Response:
        """Answer a chat completion by the model that the routing decides on; streamed where the request says so."""
        return await answer_request(request, "chat/completions", body)

    @app.post("/v1/completions", response_model=TextCompletion, tags=["OpenAI"], **streamed)
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """Answer a text completion likewise."""
        return await answer_request(request, "completions", body)

    @app.post("/v1/responses", response_model=ResponseObject, tags=["OpenAI"], **streamed)
    async def responses(request: Request, body: ResponseRequest) -> Response:
        """Answer a request of the Responses API likewise."""
        return await answer_request(request, "responses", body)

    @app.post("/v1/embeddings", response_model=Embeddings, tags=["OpenAI"], **options)
    async def embeddings(request: Request, body: EmbeddingRequest) -> Response:
        """Pass an embedding request on. Nothing is routed."""
        return await answer_embedding(request, body)

    anthropic: dict[str, Any] = {"dependencies": key, "tags": ["Anthropic"]}
    events = {**ANTHROPIC_ERRORS, **STREAMED}

    @app.post("/v1/messages", response_model=AnthropicMessage, responses=events, **anthropic)
    async def messages(request: Request, body: MessagesRequest) -> Response:
        """Answer a request of Anthropic's Messages API likewise, by any model."""
        return await answer_request(request, "messages", body)

    @app.post("/v1/messages/count_tokens", response_model=TokenCount, responses=ANTHROPIC_ERRORS, **anthropic)
    async def message_tokens(request: Request, body: TokenCountRequest) -> Response:
        """Count its tokens: as Anthropic does where a model of its own would answer, else by the texts' length."""
        return await count_tokens(request, body)

    @app.post("/v1/route", response_model=Decision, tags=["Routing"], **options)
    async def route(request: Request, body: RouteRequest) -> Response:
        """Return the decision for a prompt or for messages, without calling a model."""
        service: RoutingService = request.app.state.service
        decision = await service.decide(Turn.of(body.conversation()), model=body.model)
        request.app.state.metrics.decided(decision)
        request.scope["routellm"].decision = decision
        return JSONResponse(decision.as_dict(), headers=decision_headers(decision))

    @app.get("/v1/models", response_model=ModelCards, tags=["OpenAI"], **options)
    async def models(request: Request) -> Response:
        """List each router at its default threshold, ``auto``, and the two models, which bypass routing."""
        return JSONResponse({"object": "list", "data": request.app.state.service.model_cards()})

    @app.get("/v1/models/{model:path}", response_model=ModelCard, tags=["OpenAI"], **options)
    async def model(request: Request, model: str) -> Response:
        """Describe one model; routers answer to every threshold."""
        return JSONResponse(request.app.state.service.model_card(model))

    return frozenset(route.path for route in app.router.routes if isinstance(route, _Operation))


def add_probes(app: FastAPI) -> None:
    """Declare what those ask for who run the server."""
    options: dict[str, Any] = {"responses": ERRORS, "tags": ["Operation"]}

    @app.get("/health", response_model=Health, **options)
    async def health(request: Request) -> Response:
        """Tell that the process lives, and which models are passed over after failures, for how many seconds yet."""
        cooling = request.app.state.service.cooling_models()
        failing = {model: round(seconds, 1) for model, seconds in cooling.items() if seconds}
        return JSONResponse({"status": "online", **({"failing_models": failing} if failing else {})})

    @app.get("/ready", response_model=Readiness, **options)
    async def ready(request: Request) -> Response:
        """Tell which routers are loaded and that requests are taken."""
        return JSONResponse({"status": "ready", "routers": list(request.app.state.service.controller.routers)})

    @app.get("/metrics", response_class=PlainTextResponse, **options)
    async def metrics(request: Request) -> Response:
        """Return Prometheus metrics."""
        state = request.app.state
        state.metrics.failing(state.service.cooling_models())
        text = await asyncio.to_thread(state.metrics.exposition)
        return Response(text, media_type=Metrics.content_type)
