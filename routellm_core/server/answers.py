"""From a decided request to the client's answer: relayed whole or as a stream, dropped when the client leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from routellm_core.backends.wire import WireAnswer
from routellm_core.errors import BackendError
from routellm_core.pricing import CHARACTERS_PER_TOKEN, price_of
from routellm_core.providers.events import Events
from routellm_core.server.accounts import Account
from routellm_core.server.error_responses import (
    SHUTTING_DOWN,
    RequestError,
    error_event,
    error_response,
    is_anthropic,
    is_shutdown,
)
from routellm_core.server.metrics import Metrics
from routellm_core.server.records import RequestRecord
from routellm_core.server.request_bodies import EmbeddingRequest, OperationRequest
from routellm_core.server.service import RoutingService, decision_headers
from routellm_core.server.usage import StreamedUsage, estimated_input, token_counts, with_usage
from routellm_core.turns import Recorder, Turn

__all__ = ["answer_embedding", "answer_request", "count_tokens"]

logger = logging.getLogger(__name__)

_EMBEDDINGS = "embeddings"
_READ_OF_A_TEXT = 100_000  # characters from either end
_ASKED_FOR_USAGE = ("chat/completions", "completions")  # the others tell it unasked


async def answer_request(request: Request, operation: str, parsed: OperationRequest) -> Response:
    """Decide, call the model and pass its answer on.

    Args:
        request: the client's request, which is watched: when the client leaves, the model's call is cancelled.
        operation: the path of OpenAI's operation, or ``messages``, Anthropic's.
        parsed: its body.

    Raises:
        RouteLLMError: the request cannot be routed, its key's budget is spent, or its client left.
    """
    service: RoutingService = request.app.state.service
    metrics: Metrics = request.app.state.metrics
    record: RequestRecord = request.scope["routellm"]
    turn = await request.app.state.bodies.apart(record.held, _turn_of, request, parsed)
    if service.settings.log_prompts:
        record.prompt = turn.messages
    async with _cancelled_when_client_leaves(request.receive):
        decision = await service.decide(turn, model=parsed.model)
        metrics.decided(decision)
        account = Account(service.access, metrics, service.prices, record, decision, parsed.sent)
        await account.reserve()
        return await _answered(service, operation, parsed, turn, account)


async def _answered(
    service: RoutingService, operation: str, parsed: OperationRequest, turn: Turn, account: Account
) -> Response:
    body: Mapping[str, Any] = parsed.sent
    is_counted = bool(parsed.stream) and service.settings.count_streamed_tokens and operation in _ASKED_FOR_USAGE
    wants_usage = bool((parsed.stream_options or {}).get("include_usage"))
    if is_counted and not wants_usage:
        body = with_usage(body)
    try:
        request_for = await service.controller.arequest_for(turn, body)
        answer, account.decision = await service.callers[operation].acall(
            account.decision, body, request_for=request_for
        )
    except BackendError as error:
        await account.cancel(error)
        return error_response(error, decision_headers(account.decision), is_anthropic=operation == "messages")
    except asyncio.CancelledError:
        await account.close({}, made=0)  # the model has read the request by now, and its provider charges for that
        raise
    headers = decision_headers(account.decision)
    if dropped := service.dropped_fields(operation, account.decision.tier, parsed.sent):
        headers["x-routellm-dropped"] = ", ".join(quote(name, safe="") for name in dropped)
    recorder = service.controller.recorder(turn, account.decision)
    if isinstance(answer, WireAnswer):
        await recorder.asaw(answer.content)
        await account.close(token_counts(answer.usage), made=int(len(answer.content) / CHARACTERS_PER_TOKEN))
        return Response(answer.content, media_type="application/json", headers=headers)
    account.first_event()
    usage = StreamedUsage(is_hidden=is_counted and not wants_usage)
    return _RelayedStream(answer, usage, account, recorder, headers)


async def count_tokens(request: Request, parsed: OperationRequest) -> Response:
    """Count the tokens of a request of the Messages API: as Anthropic does where its model would answer, else roughly.

    Raises:
        RouteLLMError: the request cannot be routed.
    """
    service: RoutingService = request.app.state.service
    turn = await request.app.state.bodies.apart(request.scope["routellm"].held, _turn_of, request, parsed)
    decision = await service.decide(turn, model=parsed.model)
    request.scope["routellm"].decision = decision
    headers = decision_headers(decision)
    try:
        counted = await service.messages.count_tokens(service.controller.models[decision.tier], parsed.sent)
    except BackendError as error:
        request.scope["routellm"].failed(error)
        return error_response(error, headers, is_anthropic=True)
    content = counted or to_json({"input_tokens": max(1, estimated_input(parsed.sent))})
    return Response(content, media_type="application/json", headers=headers)


async def answer_embedding(request: Request, parsed: EmbeddingRequest) -> Response:
    """Pass an embedding request on; nothing is routed. See :func:`answer_request`.

    Raises:
        RequestError: no model answers it, its key's budget is spent, or its client left.
    """
    service: RoutingService = request.app.state.service
    metrics: Metrics = request.app.state.metrics
    record: RequestRecord = request.scope["routellm"]
    model = service.embedding_model(parsed.model)
    # A name that a client chose is no label: there may be any number of them.
    label = model.model if service.settings.embedding_model is not None else _EMBEDDINGS
    price = price_of(model)

    def estimate() -> float:
        return price.dollars(estimated_input(parsed.sent), 0) if price else 0.0

    reservation = await service.access.reserve(record.key, estimate)
    dollars = 0.0
    try:
        async with _cancelled_when_client_leaves(request.receive):
            answer = await service.embed(model, parsed.sent)
        counts = token_counts(answer.usage) or {"input": estimated_input(parsed.sent), "output": 0}
        dollars = metrics.spent(label, counts, price, record.key.name if record.key else None)
        record.tokens, record.dollars = counts, dollars
    except BackendError as error:
        metrics.failed(label, error.status_code)
        record.failed(error)
        return error_response(error)
    finally:
        await service.access.settle(reservation, dollars)
    return Response(answer.content, media_type="application/json")


def _turn_of(request: Request, parsed: OperationRequest) -> Turn:
    record: RequestRecord = request.scope["routellm"]
    messages = parsed.conversation()
    if record.held > _READ_OF_A_TEXT:
        messages = _clipped(messages)
    client = "" if record.key is None else record.key.identity
    return Turn.of(messages, parsed.sent, headers=request.headers, client=client)


def _clipped(value: Any) -> Any:
    """Return messages without the middle of very long texts: no router reads so far, and every look takes time."""
    if isinstance(value, str):
        return value if len(value) <= 2 * _READ_OF_A_TEXT else value[:_READ_OF_A_TEXT] + value[-_READ_OF_A_TEXT:]
    if isinstance(value, dict):
        return {name: _clipped(item) for name, item in value.items()}
    return [_clipped(item) for item in value] if isinstance(value, list) else value


class _RelayedStream(Response):
    """Passes a model's events on as they come. What goes wrong after the first byte becomes an error event."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Events],
        usage: StreamedUsage,
        account: Account,
        recorder: Recorder,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._usage = usage
        self._account = account
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with _cancelled_when_client_leaves(receive):
                async for events in self._events:
                    await self._recorder.asaw(events.raw)
                    if passed := self._usage.passed(events):
                        await send({"type": "http.response.body", "body": passed, "more_body": True})
        except RequestError:
            return  # the client left
        except asyncio.CancelledError as error:
            if not is_shutdown(error):
                raise
            await send({"type": "http.response.body", "body": self._failed(SHUTTING_DOWN, scope), "more_body": True})
        except Exception as error:
            await send({"type": "http.response.body", "body": self._failed(error, scope), "more_body": True})
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]
            await self._account.close(self._usage.counts, made=self._usage.made)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _failed(self, error: Exception, scope: Scope) -> bytes:
        scope["routellm"].error = str(error)
        if isinstance(error, BackendError):
            self._account.failed(error)
        elif not isinstance(error, RequestError):
            logger.exception("a stream failed")
        return error_event(error, is_anthropic=is_anthropic(scope))


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
