"""The engines behind a routing LM: one canonical request in, one answer of the chosen model out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Self

from dspy.clients.engines.base import validate_request
from dspy.lm15 import (
    RateLimitError,
    Request,
    Response,
    ServerError,
    StreamEndEvent,
    StreamErrorEvent,
    StreamStartEvent,
    TransportError,
)
from dspy.lm15 import TimeoutError as ProviderTimeoutError

from dspy_routellm.children import NO_OPTIONS, CallOptions, ChildModel
from dspy_routellm.fields import Asked, read_request
from dspy_routellm.requests import ResponseReading, UnreadableAnswerError, dspy_errors, marked, turn_of, unsigned
from dspy_routellm.routing import Routing
from dspy_routellm.stamps import stamped, stamped_end
from dspy_routellm.usage import record_usage
from routellm_core.adapters import AdapterRequest, Attempt, RoutedCall
from routellm_core.types import RoutingDecision

__all__ = ["AsyncRoutingEngine", "RoutingEngine", "call_options"]

call_options: ContextVar[CallOptions] = ContextVar("dspy_routellm_call_options", default=NO_OPTIONS)
"""What the call that is being made says beside its request."""

_READING = ResponseReading()
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

    def _call(self, request: Request) -> RoutedCall:
        validate_request(request)
        routing = self.routing
        asked = read_request(request, routing.route_fields)
        if routing.extract is not None:
            asked = Asked(routing.extract(request), None, True, asked.is_under_way)
        turn = turn_of(request, asked, call_options.get().body)
        return RoutedCall(routing.core, AdapterRequest(turn), _READING, retried=routing.pair.tiers)

    def _attempted(self, attempt: Attempt, request: Request) -> tuple[ChildModel, Request, CallOptions]:
        request = unsigned(request) if attempt.is_foreign else request
        return self.routing.models[attempt.tier], request, call_options.get()

    def _answered(self, response: Response, decision: RoutingDecision) -> Response:
        self._account(decision, response)
        return stamped(response, decision)

    def _ended(self, event: Any, decision: RoutingDecision) -> Any:
        if not isinstance(event, StreamEndEvent):
            return event
        self._account(decision, event)
        return stamped_end(event, decision)

    def _account(self, decision: RoutingDecision, answer: Response | StreamEndEvent) -> None:
        inner = (answer.provider_data or {}).get("routing")
        self.routing.count(inner["model"] if inner else decision.model, decision.tier)
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

        def attempt(chosen: Attempt) -> Response:
            child, sent, options = self._attempted(chosen, request)
            with marked():
                return self._answered(_readable(child, child.complete(sent, options)), chosen.decision)

        with dspy_errors():
            return self._call(request).run(attempt)

    def stream(self, request: Request) -> Iterator[Any]:
        """Stream from the chosen model. Once it has said something, a failure is final."""

        def attempt(chosen: Attempt) -> Iterator[Any]:
            child, sent, options = self._attempted(chosen, request)
            events = child.stream(sent, options)
            check = _Checked(child)
            try:
                with marked():
                    for event in events:
                        yield self._ended(check(event), chosen.decision)
            finally:
                if hasattr(events, "close"):
                    events.close()

        with dspy_errors():
            yield from self._call(request).stream(attempt)

    def close(self) -> None:
        """Do nothing: the models' engines are shared with every copy."""


class AsyncRoutingEngine(_RoutingEngine):
    """The asynchronous engine."""

    async def complete(self, request: Request) -> Response:
        """Do as :meth:`RoutingEngine.complete` does, without blocking the event loop."""

        async def attempt(chosen: Attempt) -> Response:
            child, sent, options = self._attempted(chosen, request)
            with marked():
                return self._answered(_readable(child, await child.acomplete(sent, options)), chosen.decision)

        with dspy_errors():
            return await self._call(request).arun(attempt)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Do as :meth:`RoutingEngine.stream` does, without blocking the event loop."""

        async def attempt(chosen: Attempt) -> AsyncIterator[Any]:
            child, sent, options = self._attempted(chosen, request)
            events = child.astream(sent, options)
            check = _Checked(child)
            try:
                with marked():
                    async for event in events:
                        yield self._ended(check(event), chosen.decision)
            finally:
                await events.aclose()  # type: ignore[attr-defined]

        with dspy_errors():
            events = await self._call(request).astream(attempt)
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()

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


class _Checked:
    """Looks at a stream's events as they pass."""

    def __init__(self, child: ChildModel) -> None:
        self._child = child
        self._has_begun = False

    def __call__(self, event: Any) -> Any:
        """Return the event.

        Raises:
            LM15Error: it ends the stream before anything was said.
        """
        if not self._has_begun:
            if isinstance(event, StreamEndEvent):
                _check_said(self._child, event.usage)
            # An engine may end a stream by an event instead of an exception; only an exception can lead to a fallback.
            # The other errors are for DSPy to raise.
            if isinstance(event, StreamErrorEvent) and event.error.code in _PASSING_ERRORS:
                raise _PASSING_ERRORS[event.error.code](event.error.message, provider_code=event.error.provider_code)
        self._has_begun = self._has_begun or not isinstance(event, StreamStartEvent)
        return event
