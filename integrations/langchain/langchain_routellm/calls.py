"""Deciding at the public entry points of a runnable, so that the chosen model's own run is the only one.

The chosen model is called through its public methods too: its callbacks, cache, rate limiter and tracing then work as
they do without a router. What happens after a failure is the core's (:class:`routellm_core.adapters.RoutedCall`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_routellm.errors import langchain_errors, mark_unreadable, translated
from langchain_routellm.messages import without_foreign_state
from langchain_routellm.rungs import is_named, routes_itself
from langchain_routellm.stamps import Stamp
from routellm_core.adapters import Attempt, RoutedCall, Routing
from routellm_core.types import RoutingDecision

__all__ = ["Chosen", "Decided", "Plan", "RoutedCalls", "failure"]

T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """One call of one model.

    Attributes:
        stamp: the decision, to be written on the answer.
        runnable: the model, with its tools bound.
        input: the conversation as this model gets it.
        config: the caller's, with the decision in it.
        kwargs: the caller's other keyword arguments.
    """

    stamp: Stamp
    runnable: Runnable[Any, Any]
    input: Any
    config: RunnableConfig
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Decided:
    """An input whose decision was made together with others."""

    input: Any
    decision: RoutingDecision


@dataclass(frozen=True)
class Plan:
    """A call that was accepted and not decided yet.

    Attributes:
        call: decides, and makes the attempts.
        target: the runnable of a tier.
        messages: the conversation.
        config: the caller's.
        kwargs: the caller's keyword arguments that are left to pass.
    """

    call: RoutedCall
    target: Callable[[str], Runnable[Any, Any]]
    messages: Sequence[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]

    def run(self, call: Callable[[Chosen], T]) -> T:
        """Decide, call the model and, where that is called for, the other one."""

        def attempt(made: Attempt) -> T:
            try:
                return call(self._chosen(made))
            except Exception as error:
                raise failure(self.call.routing, made.tier, error) from error.__cause__

        with langchain_errors():
            return self.call.run(attempt)

    async def arun(self, call: Callable[[Chosen], Awaitable[T]]) -> T:
        """Do as :meth:`run` does, without blocking the event loop."""

        async def attempt(made: Attempt) -> T:
            try:
                return await call(self._chosen(made))
            except Exception as error:
                raise failure(self.call.routing, made.tier, error) from error.__cause__

        with langchain_errors():
            return await self.call.arun(attempt)

    def stream(self) -> Iterator[Any]:
        """Decide and stream; only the first chunk carries the decision."""

        def attempt(made: Attempt) -> Iterator[Any]:
            chosen = self._chosen(made)
            is_first = True
            try:
                for piece in chosen.runnable.stream(chosen.input, chosen.config, **chosen.kwargs):
                    yield chosen.stamp.on(piece) if is_first else piece
                    is_first = False
            except Exception as error:
                raise failure(self.call.routing, made.tier, error) from error.__cause__

        with langchain_errors():
            yield from self.call.stream(attempt)

    async def astream(self) -> AsyncIterator[Any]:
        """Do as :meth:`stream` does, without blocking the event loop."""

        async def attempt(made: Attempt) -> AsyncIterator[Any]:
            chosen = self._chosen(made)
            pieces = chosen.runnable.astream(chosen.input, chosen.config, **chosen.kwargs)
            is_first = True
            try:
                async for piece in pieces:
                    yield chosen.stamp.on(piece) if is_first else piece
                    is_first = False
            except Exception as error:
                raise failure(self.call.routing, made.tier, error) from error.__cause__
            finally:
                await pieces.aclose()  # type: ignore[attr-defined]

        with langchain_errors():
            pieces = await self.call.astream(attempt)
            try:
                async for piece in pieces:
                    yield piece
            finally:
                await pieces.aclose()

    def _chosen(self, attempt: Attempt) -> Chosen:
        rung = self.call.routing.models[attempt.tier]
        stamp = Stamp(attempt.decision, is_nested=routes_itself(rung))
        messages = without_foreign_state(self.messages) if attempt.is_foreign else list(self.messages)
        return Chosen(stamp, self.target(attempt.tier), messages, stamp.config(self.config), dict(self.kwargs))


def failure(routing: Routing[Any], tier: str, error: Exception) -> Exception:
    """Return the error of a model that was built here as the core's; that of a given one stays as it is."""
    if not is_named(routing.given.get(tier)):
        return mark_unreadable(error)
    settings = routing.settings[tier]
    secrets = [settings.api_key.get_secret_value()] if settings.api_key else []
    return translated(error, settings.model, secrets)


class RoutedCalls:
    """The entry points of a runnable that routes. Mix in before the runnable class."""

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        """Accept a call: read its messages, and take ``model`` out of its keyword arguments."""
        raise NotImplementedError

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Decide, and invoke the chosen model. ``model="strong"`` or ``"weak"`` takes that one unscored."""

        def call(chosen: Chosen) -> Any:
            return chosen.stamp.on(chosen.runnable.invoke(chosen.input, chosen.config, **chosen.kwargs))

        return self._plan(input, config, kwargs).run(call)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Do as :meth:`invoke` does, without blocking the event loop."""

        async def call(chosen: Chosen) -> Any:
            return chosen.stamp.on(await chosen.runnable.ainvoke(chosen.input, chosen.config, **chosen.kwargs))

        return await self._plan(input, config, kwargs).arun(call)

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Decide for all inputs together, and invoke the chosen models in parallel."""
        return super().batch(self._decided(inputs, config, kwargs), config, **kwargs)  # type: ignore[misc,no-any-return]

    def batch_as_completed(self, inputs: Sequence[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Do as :meth:`batch` does, and give each answer with its index when it is there."""
        yield from super().batch_as_completed(self._decided(inputs, config, kwargs), config, **kwargs)  # type: ignore[misc]

    def _decided(self, inputs: Sequence[Any], config: Any, kwargs: dict[str, Any]) -> list[Any]:
        rest = {key: value for key, value in kwargs.items() if key != "return_exceptions"}
        configs = config if isinstance(config, Sequence) else [config] * len(inputs)
        try:
            plans = [self._plan(item, each, dict(rest)) for item, each in zip(inputs, configs, strict=True)]
            if not plans or any(plan.call.routing is not plans[0].call.routing for plan in plans):
                return list(inputs)
            decisions = plans[0].call.routing.select_batch([plan.call.request for plan in plans])
        except Exception:  # one of them is at fault, which it says when it is its turn
            return list(inputs)
        return [Decided(item, decision) for item, decision in zip(inputs, decisions, strict=True)]

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """Decide, and stream from the chosen model; only its first chunk carries the decision."""
        yield from self._plan(input, config, kwargs).stream()

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Do as :meth:`stream` does, without blocking the event loop."""
        chunks = self._plan(input, config, kwargs).astream()
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
        """Stream events; with ``version="v3"`` the chosen model's own typed stream, which says something already."""
        if version != "v3":
            return super().stream_events(input, config, version=version, **kwargs)  # type: ignore[misc]

        def call(chosen: Chosen) -> Any:
            runnable = cast("Any", chosen.runnable)
            stream = runnable.stream_events(chosen.input, chosen.config, version="v3", **chosen.kwargs)
            chosen.stamp.watch(stream)
            for event in stream:  # kept for later readers; an error surfaces here, in time for a fallback
                if _says_something(event):
                    break
            return stream

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

        async def call(chosen: Chosen) -> Any:
            runnable = cast("Any", chosen.runnable)
            stream = await runnable.astream_events(chosen.input, chosen.config, version="v3", **chosen.kwargs)
            chosen.stamp.watch(stream)
            async for event in stream:
                if _says_something(event):
                    break
            return stream

        return self._plan(input, config, kwargs).arun(call)


def _says_something(event: Any) -> bool:
    kind = event.get("event") if isinstance(event, dict) else None
    return kind in ("content-block-delta", "content-block-finish")
