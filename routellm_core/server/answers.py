"""From a decided request to the client's answer: relayed whole or as a stream, dropped when the client leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from routellm_core.backends.wire import Operation, WireAnswer
from routellm_core.errors import BackendError
from routellm_core.pricing import price_of
from routellm_core.server.error_responses import RequestError, error_event, error_response
from routellm_core.server.metrics import Metrics
from routellm_core.server.request_bodies import OperationRequest
from routellm_core.server.service import RoutingService, decision_headers
from routellm_core.server.settings import ClientKey
from routellm_core.server.usage import StreamedUsage, token_counts, with_usage
from routellm_core.turns import Recorder, Turn
from routellm_core.types import RoutingDecision

__all__ = ["answer_embedding", "answer_request"]

logger = logging.getLogger(__name__)

_EMBEDDINGS = "embeddings"


async def answer_request(
    request: Request,
    operation: Operation,
    body: Mapping[str, Any],
    parsed: OperationRequest,
    *,
    service: RoutingService,
    metrics: Metrics,
    key: ClientKey | None,
) -> Response:
    """Decide, call the model and pass its answer on.

    Args:
        request: the client's request, which is watched: when the client leaves, the model's call is cancelled.
        operation: which of OpenAI's operations this is.
        body: its body as it came.
        parsed: the same, as far as the server reads it.
        service: decides and calls.
        metrics: counts.
        key: the client's.

    Raises:
        RouteLLMError: the request cannot be routed, or its client left.
    """
    turn = Turn.of(parsed.conversation(body), body, headers=request.headers, client="" if key is None else key.identity)
    async with _cancelled_when_client_leaves(request.receive):
        decision = await service.decide(turn, model=parsed.model)
        metrics.decided(decision)
        account = _Account(service, metrics, decision, key, turn)
        return await _answered(operation, body, parsed, account)


async def _answered(
    operation: Operation, body: Mapping[str, Any], parsed: OperationRequest, account: _Account
) -> Response:
    service, metrics = account.service, account.metrics
    is_counted = bool(parsed.stream) and service.settings.count_streamed_tokens and operation != "responses"
    wants_usage = bool((parsed.stream_options or {}).get("include_usage"))
    if is_counted and not wants_usage:
        body = with_usage(body)
    try:
        request_for = await service.controller.arequest_for(account.turn, body)
        answer, account.decision = await service.callers[operation].acall(
            account.decision, body, request_for=request_for
        )
    except BackendError as error:
        metrics.failed(error.model, error.status_code)
        return error_response(error, decision_headers(account.decision))
    headers = decision_headers(account.decision)
    account.recorder = service.controller.recorder(account.turn, account.decision)
    if isinstance(answer, WireAnswer):
        await account.recorder.asaw(answer.content)
        account.close(token_counts(answer.usage))
        return Response(answer.content, media_type="application/json", headers=headers)
    account.first_event()
    return _RelayedStream(answer, StreamedUsage(is_hidden=is_counted and not wants_usage), account, headers)


async def answer_embedding(
    request: Request, body: Mapping[str, Any], *, service: RoutingService, metrics: Metrics, key: ClientKey | None
) -> Response:
    """Pass an embedding request on; nothing is routed. See :func:`answer_request`.

    Raises:
        RequestError: no model answers it, or its client left.
    """
    model = service.embedding_model(str(body["model"]))
    # A name that a client chose is no label: there may be any number of them.
    label = model.model if service.settings.embedding_model is not None else _EMBEDDINGS
    try:
        async with _cancelled_when_client_leaves(request.receive):
            answer = await service.embed(model, body)
    except BackendError as error:
        metrics.failed(label, error.status_code)
        return error_response(error)
    name = key.name if key else None
    dollars = metrics.spent(label, token_counts(answer.usage), price_of(model), name)
    service.access.charge(key, dollars)
    return Response(answer.content, media_type="application/json")


class _Account:
    """What one call is counted under, once its answer is known."""

    def __init__(
        self,
        service: RoutingService,
        metrics: Metrics,
        decision: RoutingDecision,
        key: ClientKey | None,
        turn: Turn,
    ) -> None:
        self.decision = decision
        self.turn = turn
        self.recorder: Recorder | None = None
        self.metrics = metrics
        self.service = service
        self._key = key
        self._started = time.perf_counter()

    def first_event(self) -> None:
        self.metrics.started(self.decision, time.perf_counter() - self._started)

    def close(self, usage: Mapping[str, int]) -> None:
        seconds = time.perf_counter() - self._started
        name = self._key.name if self._key else None
        dollars = self.metrics.answered(self.decision, seconds, usage, self.service.prices, name)
        self.service.access.charge(self._key, dollars)


class _RelayedStream(Response):
    """Passes a model's events on as they come. What goes wrong after the first byte becomes an error event."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[bytes], usage: StreamedUsage, account: _Account, headers: Mapping[str, str]
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._usage = usage
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with _cancelled_when_client_leaves(receive):
                async for events in self._events:
                    if self._account.recorder is not None:
                        await self._account.recorder.asaw(events)
                    if passed := self._usage.passed(events):
                        await send({"type": "http.response.body", "body": passed, "more_body": True})
        except RequestError:
            return  # the client left
        except Exception as error:
            await send({"type": "http.response.body", "body": self._failed(error), "more_body": True})
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]
            self._account.close(self._usage.counts)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _failed(self, error: Exception) -> bytes:
        if isinstance(error, BackendError):
            self._account.metrics.failed(error.model, error.status_code)
            logger.warning("a stream broke off: %s", error)
        else:
            logger.exception("a stream failed")
        return error_event(error)


@asynccontextmanager
async def _cancelled_when_client_leaves(receive: Receive) -> AsyncIterator[None]:
    """Cancel what is inside when the client disconnects.

    Raises:
        RequestError: it did (499, which nobody reads).
    """
    task = asyncio.current_task()
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not has_left or task is None:
            raise
        task.uncancel()
        raise RequestError("the client left", status=499) from None
    finally:
        watcher.cancel()
