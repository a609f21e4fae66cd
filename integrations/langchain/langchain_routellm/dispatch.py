"""Deciding at the public entry points of a runnable, so that the chosen model's own run is the only one.

The chosen model is called through its public methods too: its callbacks, cache, rate limiter and tracing then work as
they do without a router.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_routellm.failures import awith_fallback, with_fallback
from langchain_routellm.stamps import routed_config, stamp_stream, stamped
from langchain_routellm.turns import Turn, TurnRouter
from routellm_core.types import RoutingDecision, Tier

__all__ = ["Attempt", "Plan", "RoutedCalls"]

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """One call of one model.

    Attributes:
        decision: why this model.
        runnable: the model, with its tools bound.
        config: the caller's, with the decision in it.
        kwargs: the caller's other keyword arguments.
    """

    decision: RoutingDecision
    runnable: Runnable[Any, Any]
    config: RunnableConfig
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A call that was accepted and not decided yet.

    Attributes:
        turn_router: decides.
        turn: what is decided on.
        target: the runnable of a tier, and the keyword arguments that are left to pass.
        config: the caller's.
    """

    turn_router: TurnRouter
    turn: Turn
    target: Callable[[Tier], tuple[Runnable[Any, Any], dict[str, Any]]]
    config: RunnableConfig

    def run(self, call: Callable[[Attempt], T]) -> T:
        """Decide, call the model and, where that is called for, the other one."""
        decision = self.turn_router.select(self.turn)
        return with_fallback(self.turn_router, decision, lambda chosen: call(self._attempt(chosen)))

    async def arun(self, call: Callable[[Attempt], Awaitable[T]]) -> T:
        """Do as :meth:`run` does, without blocking the event loop."""
        decision = await self.turn_router.aselect(self.turn)
        return await awith_fallback(self.turn_router, decision, lambda chosen: call(self._attempt(chosen)))

    def _attempt(self, decision: RoutingDecision) -> Attempt:
        runnable, kwargs = self.target(decision.tier)
        is_fallback = decision.fallback_from is not None
        return Attempt(decision, runnable, routed_config(self.config, decision, is_fallback=is_fallback), kwargs)


class RoutedCalls:
    """The entry points of a runnable that routes. Mix in before the runnable class."""

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        """Accept a call: read its messages, and take ``model`` out of its keyword arguments."""
        raise NotImplementedError

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Decide, and invoke the chosen model. ``model="strong"`` or ``"weak"`` takes that one unscored."""

        def call(attempt: Attempt) -> Any:
            return stamped(attempt.runnable.invoke(input, attempt.config, **attempt.kwargs), attempt.decision)

        return self._plan(input, config, kwargs).run(call)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Do as :meth:`invoke` does, without blocking the event loop."""

        async def call(attempt: Attempt) -> Any:
            return stamped(await attempt.runnable.ainvoke(input, attempt.config, **attempt.kwargs), attempt.decision)

        return await self._plan(input, config, kwargs).arun(call)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """Decide, and stream from the chosen model; only its first chunk carries the decision."""

        def call(attempt: Attempt) -> Iterator[Any]:
            return _opened(attempt.runnable.stream(input, attempt.config, **attempt.kwargs), attempt.decision)

        yield from self._plan(input, config, kwargs).run(call)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Do as :meth:`stream` does, without blocking the event loop."""

        async def call(attempt: Attempt) -> AsyncIterator[Any]:
            return await _aopened(attempt.runnable.astream(input, attempt.config, **attempt.kwargs), attempt.decision)

        chunks = await self._plan(input, config, kwargs).arun(call)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    def stream_events(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        **kwargs: Any,
    ) -> Any:
        """Stream events; with ``version="v3"`` the chosen model's own typed stream, whose first event has arrived."""
        if version != "v3":
            return super().stream_events(input, config, version=version, **kwargs)  # type: ignore[misc]

        def call(attempt: Attempt) -> ChatModelStream:
            stream: Any = attempt.runnable.stream_events(input, attempt.config, version="v3", **attempt.kwargs)
            stamp_stream(stream, attempt.decision)
            for _ in stream:  # its events are kept for later readers; an error surfaces here, in time for a fallback
                break
            return cast("ChatModelStream", stream)

        return self._plan(input, config, kwargs).run(call)

    def astream_events(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        **kwargs: Any,
    ) -> Any:
        """Do as :meth:`stream_events` does; to be awaited with ``version="v3"``, else iterated over."""
        if version != "v3":
            return super().astream_events(input, config, version=version, **kwargs)  # type: ignore[misc]

        async def call(attempt: Attempt) -> AsyncChatModelStream:
            stream: Any = await attempt.runnable.astream_events(input, attempt.config, version="v3", **attempt.kwargs)
            stamp_stream(stream, attempt.decision)
            async for _ in stream:
                break
            return cast("AsyncChatModelStream", stream)

        return self._plan(input, config, kwargs).arun(call)


def _opened(chunks: Iterator[Any], decision: RoutingDecision) -> Iterator[Any]:
    """Read the first chunk now, while the other model can still be asked, and stamp it."""
    first = next(chunks, None)

    def resumed() -> Iterator[Any]:
        if first is not None:
            yield stamped(first, decision)
            yield from chunks

    return resumed()


async def _aopened(chunks: AsyncIterator[Any], decision: RoutingDecision) -> AsyncIterator[Any]:
    first = await anext(chunks, None)

    async def resumed() -> AsyncIterator[Any]:
        try:
            if first is not None:
                yield stamped(first, decision)
                async for chunk in chunks:
                    yield chunk
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    return resumed()
