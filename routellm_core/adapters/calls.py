"""Calling the decided model of a framework and, where that is called for, the other one.

The loop is the core's, so that failures, cool-downs, time-outs, empty answers and streams that break off before they
say something are treated as the ``Controller`` and the server treat them. What a framework adds is how a call is made
and how its answers are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from routellm_core.adapters.turns import AdapterRequest, Routing
from routellm_core.backends.caller import aopened, opened
from routellm_core.backends.resilience import Course, Reading, Rung, arun, fallen_back, run
from routellm_core.errors import BackendError
from routellm_core.providers.errors import backend_error, is_retryable, status_of, timed_out
from routellm_core.providers.events import Emptiness
from routellm_core.turns import Recorder
from routellm_core.types import RoutingDecision, Tier

__all__ = ["AnswerReading", "Attempt", "RoutedCall", "mark_failure"]

T = TypeVar("T")


class AnswerReading(Reading, Protocol):
    """What only a framework knows of its answers."""

    def marks(self, piece: Any) -> bytes:
        """Return the JSON of an answer, or of a piece of a stream, where it holds ids or signatures; else nothing."""
        ...


@dataclass(frozen=True)
class Attempt:
    """One call of one model.

    Attributes:
        decision: why this model.
        is_foreign: whether the conversation holds what only the other model can read (signatures, thinking), which
            has to be left out.
    """

    decision: RoutingDecision
    is_foreign: bool = False

    @property
    def tier(self) -> Tier:
        """The model's."""
        return self.decision.tier


def mark_failure(error: Exception, model: str) -> Exception:
    """Note on an SDK's or a framework's error what the core's loop has to know of it; the error stays what it is.

    Args:
        error: what a call raised.
        model: the model that was called.
    """
    if isinstance(error, BackendError) or not (status_of(error) or is_retryable(error)):
        return error
    known = backend_error(error, model=model)
    for name in ("is_timeout", "fits_elsewhere", "retry_after"):
        if not hasattr(error, name):
            setattr(error, name, getattr(known, name))
    return error


class RoutedCall:
    """A call that was accepted: decided when it is made.

    Args:
        routing: decides, and knows the models and the policy.
        request: what is decided on.
        reading: what the framework's answers say.
        decision: where it was made before.
        retried: the tiers whose model the loop asks again after a failure that may pass, as the policy says; models
            of the framework do so themselves.
    """

    def __init__(
        self,
        routing: Routing[Any],
        request: AdapterRequest,
        reading: AnswerReading,
        *,
        decision: RoutingDecision | None = None,
        retried: Collection[Tier] = (),
    ) -> None:
        self.routing = routing
        self.request = request
        self._reading = reading
        self._decision = decision
        self._retried = retried

    def run(self, attempt: Callable[[Attempt], T]) -> T:
        """Decide, call the model and, where that is called for, the other one.

        Raises:
            Exception: the decided model's own error; a note tells of the other model's where that failed too.
        """
        course, attempt_of = self._begun(self._decision or self.routing.select(self.request))

        def call(rung: Rung) -> tuple[tuple[T, RoutingDecision], Emptiness | None]:
            chosen = attempt_of(rung)
            with _marking(rung):
                answer = attempt(chosen)
            return (answer, chosen.decision), self._emptiness(answer)

        answer: T
        answer, decision = run(course, call)[0]
        self._recorder(decision).saw(self._reading.marks(answer))
        return answer

    async def arun(self, attempt: Callable[[Attempt], Awaitable[T]]) -> T:
        """Do as :meth:`run` does, without blocking the event loop."""
        course, attempt_of = await self._abegun()

        async def call(rung: Rung) -> tuple[tuple[T, RoutingDecision], Emptiness | None]:
            chosen = attempt_of(rung)
            with _marking(rung):
                answer = await attempt(chosen)
            return (answer, chosen.decision), self._emptiness(answer)

        answer: T
        answer, decision = (await arun(course, call))[0]
        await self._recorder(decision).asaw(self._reading.marks(answer))
        return answer

    def stream(self, attempt: Callable[[Attempt], Iterator[T]]) -> Iterator[T]:
        """Decide and stream. The beginning, until it says something, is read now, while the other model can answer."""
        course, attempt_of = self._begun(self._decision or self.routing.select(self.request))

        def call(rung: Rung) -> tuple[tuple[Iterator[T], RoutingDecision], Emptiness | None]:
            chosen = attempt_of(rung)
            with _marking(rung):
                seconds = self._opening_seconds(rung)
                pieces, nothing = opened(attempt(chosen), self._reading, name=rung.name, seconds=seconds)
            return (pieces, chosen.decision), nothing

        pieces, decision = run(course, call)[0]
        return self._watched(pieces, self._recorder(decision))

    async def astream(self, attempt: Callable[[Attempt], AsyncIterator[T] | Awaitable[AsyncIterator[T]]]) -> Any:
        """Do as :meth:`stream` does, without blocking the event loop; returns an asynchronous generator."""
        course, attempt_of = await self._abegun()

        async def call(rung: Rung) -> tuple[tuple[AsyncIterator[T], RoutingDecision], Emptiness | None]:
            chosen = attempt_of(rung)
            seconds = self._opening_seconds(rung)
            with _marking(rung):
                try:
                    async with asyncio.timeout(seconds):
                        made = attempt(chosen)
                        stream = made if isinstance(made, AsyncIterator) else await made
                        pieces, nothing = await aopened(stream, self._reading, name=rung.name)
                except TimeoutError as error:
                    raise timed_out(rung.name, seconds) from error
            return (pieces, chosen.decision), nothing

        pieces, decision = (await arun(course, call))[0]
        return self._awatched(pieces, self._recorder(decision))

    def _watched(self, pieces: Iterator[T], recorder: Recorder) -> Iterator[T]:
        is_first = True
        try:
            for piece in pieces:
                if (marks := self._reading.marks(piece)) or is_first:
                    recorder.saw(marks)
                is_first = False
                yield piece
        finally:
            pieces.close()  # type: ignore[attr-defined]  # a reader that stops early must free the connection

    async def _awatched(self, pieces: AsyncIterator[T], recorder: Recorder) -> AsyncIterator[T]:
        is_first = True
        try:
            async for piece in pieces:
                if (marks := self._reading.marks(piece)) or is_first:
                    await recorder.asaw(marks)
                is_first = False
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]

    def _begun(self, decision: RoutingDecision) -> tuple[Course[Any], Callable[[Rung], Attempt]]:
        sent = self.routing.selector.request_for(self.request.turn, _NOTHING)
        return self._course(decision, sent)

    async def _abegun(self) -> tuple[Course[Any], Callable[[Rung], Attempt]]:
        decision = self._decision or await self.routing.aselect(self.request)
        return self._course(decision, await self.routing.selector.arequest_for(self.request.turn, _NOTHING))

    def _course(
        self, decision: RoutingDecision, sent: Callable[[Tier], Any]
    ) -> tuple[Course[Any], Callable[[Rung], Attempt]]:
        routing = self.routing
        other = next(tier for tier in routing.pair.tiers if tier != decision.tier)
        tiers = (decision.tier, other) if routing.has_other else (decision.tier,)
        rungs = [Rung(tier, routing.pair.of(tier), None if tier in self._retried else 1) for tier in tiers]
        course: Course[Any] = Course(rungs, routing.policy, routing.cool_downs, is_bound=decision.score is None)

        def attempt_of(rung: Rung) -> Attempt:
            is_foreign = sent(rung.key) is not _NOTHING  # raises where only the other model can go on
            if rung.key == decision.tier:
                return Attempt(decision, is_foreign)
            cause = course.passed_over[0] if course.passed_over else course.failures[0][1]
            return Attempt(fallen_back(decision, routing.pair, cause), is_foreign)

        return course, attempt_of

    def _emptiness(self, answer: Any) -> Emptiness | None:
        return self._reading.emptiness(answer) if self.routing.has_other else None

    def _opening_seconds(self, rung: Rung) -> float:
        return self.routing.settings[rung.key].opening_seconds

    def _recorder(self, decision: RoutingDecision) -> Recorder:
        return self.routing.selector.recorder(self.request.turn, decision)


_NOTHING: dict[str, Any] = {}


@contextmanager
def _marking(rung: Rung) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        mark_failure(error, rung.name)
        raise
