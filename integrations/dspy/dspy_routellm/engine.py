"""The engines behind a routing LM: one canonical request in, one answer of the chosen model out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Self

from dspy.clients.engines.base import validate_request
from dspy.lm15 import (
    RateLimitError,
    Request,
    Response,
    ServerError,
    StreamAssemblyError,
    StreamEndEvent,
    StreamErrorEvent,
    StreamStartEvent,
    TransportError,
)
from dspy.lm15 import TimeoutError as ProviderTimeoutError

from dspy_routellm.attempts import UnreadableAnswerError, acall_model, call_model
from dspy_routellm.children import ChildModel
from dspy_routellm.fields import request_text
from dspy_routellm.routing import Routing
from dspy_routellm.stamps import stamped, stamped_end
from dspy_routellm.usage import record_usage
from routellm_core.types import RoutingDecision

__all__ = ["AsyncRoutingEngine", "RoutingEngine"]


_PASSING_ERRORS = {
    error.default_code: error for error in (RateLimitError, ServerError, ProviderTimeoutError, TransportError)
}


class _RoutingEngine:
    """What both engines share. A copy of one is itself, and saving it saves its :class:`Routing`.

    Args:
        routing: the router, the models and the policy.
    """

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    @property
    def supports_function_calling(self) -> bool:
        """Whether both models do."""
        return self.routing.supports("supports_function_calling")

    @property
    def supports_reasoning(self) -> bool:
        """Whether both models do."""
        return self.routing.supports("supports_reasoning")

    @property
    def supports_response_schema(self) -> bool:
        """Whether both models do."""
        return self.routing.supports("supports_response_schema")

    @property
    def supported_params(self) -> frozenset[str]:
        """What both models take."""
        return self.routing.supported_params

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` takes; see :meth:`Routing.dump_state`."""
        return self.routing.dump_state()

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild a saved engine."""
        return cls(Routing.load_state(state))

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def _text(self, request: Request) -> str | None:
        validate_request(request)
        if self.routing.extract is not None:
            return self.routing.extract(request)
        return request_text(request, self.routing.route_fields)

    def _answered(self, response: Response, decision: RoutingDecision) -> Response:
        self._account(decision, response)
        return stamped(response, decision)

    def _account(self, decision: RoutingDecision, answer: Response | StreamEndEvent) -> None:
        inner = (answer.provider_data or {}).get("routing")
        self.routing.count(inner["model"] if inner else decision.model)
        if not inner:  # else the inner engine recorded it
            record_usage(decision.model, answer.usage)


class RoutingEngine(_RoutingEngine):
    """The synchronous engine."""

    def complete(self, request: Request) -> Response:
        """Decide, and return the chosen model's answer with the decision in ``provider_data["routing"]``.

        Raises:
            LM15Error: the model failed, and so did the other one or fallback is off.
            ScoringError: the score cannot be computed and ``on_scoring_error`` is ``"raise"``.
        """
        decision = self.routing.select(self._text(request))

        def call(child: ChildModel) -> Response:
            return _readable(child, child.engine().complete(child.request(request)))

        response, decision = call_model(self.routing, decision, call)
        return self._answered(response, decision)

    def stream(self, request: Request) -> Iterator[Any]:
        """Stream from the chosen model. Once its first piece has arrived, a failure is final."""
        decision = self.routing.select(self._text(request))
        events, decision = call_model(self.routing, decision, lambda child: _opened(child, request))
        with contextlib.closing(events):
            for event in events:
                if isinstance(event, StreamEndEvent):
                    self._account(decision, event)
                    event = stamped_end(event, decision)
                yield event

    def close(self) -> None:
        """Do nothing: the models' engines are shared with every copy."""


class AsyncRoutingEngine(_RoutingEngine):
    """The asynchronous engine."""

    async def complete(self, request: Request) -> Response:
        """Do as :meth:`RoutingEngine.complete` does, without blocking the event loop."""
        decision = await self.routing.aselect(self._text(request))

        async def call(child: ChildModel) -> Response:
            return _readable(child, await child.async_engine().complete(child.request(request)))

        response, decision = await acall_model(self.routing, decision, call)
        return self._answered(response, decision)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Do as :meth:`RoutingEngine.stream` does, without blocking the event loop."""
        decision = await self.routing.aselect(self._text(request))
        events, decision = await acall_model(self.routing, decision, lambda child: _aopened(child, request))
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, StreamEndEvent):
                    self._account(decision, event)
                    event = stamped_end(event, decision)
                yield event

    async def aclose(self) -> None:
        """Do nothing: the models' engines are shared with every copy."""


def _readable(child: ChildModel, response: Response) -> Response:
    is_empty = not (response.text or response.tool_calls)
    if is_empty and all(part.type in ("text", "tool_call") for part in response.message.parts):
        _check_said(child, response.usage)
    return response


def _check_said(child: ChildModel, usage: Any) -> None:
    # From an answer without choices, or a web page in place of a stream, litellm makes an empty answer. A model that
    # really said nothing has still read the prompt.
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        raise UnreadableAnswerError(f"{child.name} gave no readable answer")


def _opened(child: ChildModel, request: Request) -> Any:
    """Start a stream and wait for its first piece, in time for a fallback."""
    events = iter(child.engine().stream(child.request(request)))
    begun: list[Any] = []
    try:
        for event in events:
            begun.append(_checked(child, event))
            if not isinstance(event, StreamStartEvent):
                return _resumed(begun, events)
    except BaseException:
        events.close()
        raise
    raise StreamAssemblyError(f"{child.name} sent a stream without an answer")


async def _aopened(child: ChildModel, request: Request) -> Any:
    engine = child.async_engine()
    events = aiter(engine.stream(child.request(request)))
    begun: list[Any] = []
    try:
        async for event in events:
            begun.append(_checked(child, event))
            if not isinstance(event, StreamStartEvent):
                return _aresumed(begun, events)
    except BaseException:
        await events.aclose()
        raise
    raise StreamAssemblyError(f"{child.name} sent a stream without an answer")


def _checked(child: ChildModel, event: Any) -> Any:
    if isinstance(event, StreamEndEvent):  # as the first event after the start, so nothing was said
        _check_said(child, event.usage)
    # An engine may end a stream by an event instead of an exception; only an exception can lead to a fallback. The
    # other errors are for DSPy to raise.
    if isinstance(event, StreamErrorEvent) and event.error.code in _PASSING_ERRORS:
        raise _PASSING_ERRORS[event.error.code](event.error.message, provider_code=event.error.provider_code)
    return event


def _resumed(begun: list[Any], events: Any) -> Iterator[Any]:
    try:
        yield from begun
        yield from events
    finally:
        _close(events)


def _close(events: Any) -> None:
    if hasattr(events, "close"):
        events.close()


async def _aresumed(begun: list[Any], events: Any) -> AsyncIterator[Any]:
    try:
        for event in begun:
            yield event
        async for event in events:
            yield event
    finally:
        if hasattr(events, "aclose"):
            await events.aclose()
