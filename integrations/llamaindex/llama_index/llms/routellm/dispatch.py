"""Deciding for a call, calling the chosen model, and asking the other one where that is called for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_index.core.llms.llm import LLM
from llama_index.llms.routellm.events import report
from llama_index.llms.routellm.stamps import stamped
from llama_index.llms.routellm.turns import Turn, TurnRouter

from routellm_core.backends.resilience import fallen_back
from routellm_core.providers.errors import is_retryable
from routellm_core.types import RoutingDecision, Tier

__all__ = ["Plan"]

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A call that was accepted and not decided yet.

    Attributes:
        turn_router: decides.
        turn: what is decided on.
        model: the model of a tier.
        has_fallback: ask the other model when the decided one fails in a way that may pass.
        rate_limiter: LlamaIndex's, which the router was given, or None.
    """

    turn_router: TurnRouter
    turn: Turn
    model: Callable[[Tier], LLM]
    has_fallback: bool
    rate_limiter: Any = None

    def run(self, call: Callable[[LLM], T]) -> T:
        """Decide, call the model and, where that is called for, the other one.

        Raises:
            Exception: the decided model's own error; a note tells of the other model's where that failed too.
        """
        return self._run(lambda llm, decision: stamped(call(llm), decision))

    async def arun(self, call: Callable[[LLM], Awaitable[T]]) -> T:
        """Do as :meth:`run` does, without blocking the event loop."""

        async def answer(llm: LLM, decision: RoutingDecision) -> T:
            return stamped(await call(llm), decision)

        return await self._arun(answer)

    def stream(self, call: Callable[[LLM], Iterator[T]]) -> Generator[T, None, None]:
        """Decide and stream; the first piece is read now, while the other model can still be asked."""
        return self._run(lambda llm, decision: _opened(call(llm), decision))

    async def astream(self, call: Callable[[LLM], Awaitable[AsyncIterator[T]]]) -> AsyncGenerator[T, None]:
        """Do as :meth:`stream` does, without blocking the event loop."""

        async def answer(llm: LLM, decision: RoutingDecision) -> AsyncGenerator[T, None]:
            return await _aopened(await call(llm), decision)

        return await self._arun(answer)

    def _run(self, call: Callable[[LLM, RoutingDecision], T]) -> T:
        decision = self.turn_router.select(self.turn)
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()
        report(decision)
        try:
            return call(self.model(decision.tier), decision)
        except Exception as error:
            other = self._fallback(decision, error)
            try:
                return call(self.model(other.tier), other)
            except Exception as second:
                raise _noted(error, other, second)  # noqa: B904 (its own cause stays)

    async def _arun(self, call: Callable[[LLM, RoutingDecision], Awaitable[T]]) -> T:
        decision = await self.turn_router.aselect(self.turn)
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()
        report(decision)
        try:
            return await call(self.model(decision.tier), decision)
        except Exception as error:
            other = self._fallback(decision, error)
            try:
                return await call(self.model(other.tier), other)
            except Exception as second:
                raise _noted(error, other, second)  # noqa: B904 (its own cause stays)

    def _fallback(self, decision: RoutingDecision, error: Exception) -> RoutingDecision:
        if not (self.has_fallback and is_retryable(error)):
            raise error
        other = fallen_back(decision, self.turn_router.pair, error)
        report(other)
        return other


def _noted(error: Exception, other: RoutingDecision, second: Exception) -> Exception:
    error.add_note(f"The other model, {other.model}, failed too: {type(second).__name__}: {second}")
    return error


def _opened(pieces: Iterator[T], decision: RoutingDecision) -> Generator[T, None, None]:
    first = list(_next(pieces))

    def resumed() -> Generator[T, None, None]:
        try:
            for piece in first:
                yield stamped(piece, decision)
            for piece in pieces:
                yield stamped(piece, decision)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    return resumed()


def _next(pieces: Iterator[T]) -> Iterator[T]:
    for piece in pieces:
        yield piece
        return


async def _aopened(pieces: AsyncIterator[T], decision: RoutingDecision) -> AsyncGenerator[T, None]:
    first: list[T] = []
    async for piece in pieces:
        first.append(piece)
        break

    async def resumed() -> AsyncGenerator[T, None]:
        try:
            for piece in first:
                yield stamped(piece, decision)
            async for piece in pieces:
                yield stamped(piece, decision)
        finally:  # unlike a `for` loop over a generator, nothing closes an asynchronous one in time
            if hasattr(pieces, "aclose"):
                await pieces.aclose()

    return resumed()
