"""Calls the decided model of a pair and, where that is called for, the other one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from routellm_core.backends.base import AsyncBackend, ChatBackend, ModelSettings
from routellm_core.backends.cooldown import CoolDowns
from routellm_core.backends.resilience import Course, Reading, ResiliencePolicy, Rung, arun, fallen_back, run
from routellm_core.providers.errors import empty_stream, timed_out
from routellm_core.providers.events import Emptiness
from routellm_core.providers.parameters import fitted
from routellm_core.types import ModelPair, RoutingDecision, Tier

T = TypeVar("T")


class AsyncResilientCaller:
    """Calls the decided model, and the other one when that is called for.

    A stream counts as answered when it says something; a failure after that cannot be repaired, because the caller has
    seen part of the answer, and surfaces as :class:`BackendError`.

    Args:
        backend: makes the single attempts.
        models: the settings of both tiers.
        reading: what the backend's answers say.
        operation: the path of OpenAI's operation.
        policy: retries and fallback.
        cool_downs: which of the models are failing just now, where other callers share them.
    """

    def __init__(
        self,
        backend: AsyncBackend,
        models: Mapping[Tier, ModelSettings],
        *,
        reading: Reading,
        operation: str = "chat/completions",
        policy: ResiliencePolicy | None = None,
        cool_downs: CoolDowns | None = None,
    ) -> None:
        self._backend = backend
        self._models = dict(models)
        self._reading = reading
        self._operation = operation
        self._policy = policy or ResiliencePolicy()
        self._cool_downs = cool_downs or self._policy.cool_downs()
        self._pair = ModelPair(strong=models["strong"].model, weak=models["weak"].model)
        self._has_other = self._policy.fallback and models["strong"] != models["weak"]

    async def acall(
        self,
        decision: RoutingDecision,
        parameters: Mapping[str, Any],
        *,
        attempts: int | None = None,
        request_for: Callable[[Tier], Mapping[str, Any]] | None = None,
    ) -> tuple[Any, RoutingDecision]:
        """Return the answer and the decision as it ended (see ``fallback_from``).

        Args:
            decision: whom to ask first.
            parameters: of the operation.
            attempts: calls of one model, where it is not the policy's number.
            request_for: the parameters for one tier, where they are not the same for all.

        Raises:
            BackendError: not to be repaired by asking the other model, or both models failed.
        """
        course: Course[Any] = Course(
            self._rungs(decision.tier, attempts), self._policy, self._cool_downs, is_bound=decision.score is None
        )
        request_for = request_for or (lambda _tier: parameters)
        answer, rung = await arun(course, lambda rung: self._aattempt(rung, request_for(rung.key)))
        return answer, self._ended(decision, course, rung)

    async def _aattempt(self, rung: Rung, parameters: Mapping[str, Any]) -> tuple[Any, Emptiness | None]:
        model = self._models[rung.key]
        request = fitted(model, self._operation, parameters)
        if not parameters.get("stream"):
            answer = await self._backend.acomplete(model, request)
            return answer, self._reading.emptiness(answer) if self._has_other else None
        try:
            async with asyncio.timeout(model.opening_seconds):
                return await aopened(await self._backend.acomplete(model, request), self._reading, name=model.model)
        except TimeoutError as error:
            raise timed_out(model.model, model.opening_seconds) from error

    def _rungs(self, tier: Tier, attempts: int | None) -> list[Rung]:
        other: Tier = "weak" if tier == "strong" else "strong"
        return [self._rung(each, attempts) for each in ((tier, other) if self._has_other else (tier,))]

    def _rung(self, tier: Tier, attempts: int | None) -> Rung:
        model = self._models[tier]
        wanted = model.extra.get("num_retries", model.extra.get("max_retries"))
        own = int(wanted) + 1 if attempts is None and wanted is not None else attempts
        return Rung(tier, model.model, own)

    def _ended(self, decision: RoutingDecision, course: Course[Any], rung: Rung) -> RoutingDecision:
        if rung.key == decision.tier:
            return decision
        cause = course.passed_over[0] if course.passed_over else course.failures[0][1]
        return fallen_back(decision, self._pair, cause)


class ResilientCaller(AsyncResilientCaller):
    """The same with blocking calls beside the asynchronous ones, for a whole :class:`ChatBackend`."""

    def __init__(
        self,
        backend: ChatBackend,
        models: Mapping[Tier, ModelSettings],
        *,
        policy: ResiliencePolicy | None = None,
        cool_downs: CoolDowns | None = None,
    ) -> None:
        from routellm_core.backends.chat import ChatReading

        super().__init__(backend, models, reading=ChatReading(), policy=policy, cool_downs=cool_downs)
        self._blocking = backend

    def call(
        self,
        decision: RoutingDecision,
        parameters: Mapping[str, Any],
        *,
        attempts: int | None = None,
        request_for: Callable[[Tier], Mapping[str, Any]] | None = None,
    ) -> tuple[Any, RoutingDecision]:
        """Do as :meth:`acall` does, and block."""
        course: Course[Any] = Course(
            self._rungs(decision.tier, attempts), self._policy, self._cool_downs, is_bound=decision.score is None
        )
        request_for = request_for or (lambda _tier: parameters)
        answer, rung = run(course, lambda rung: self._attempt(rung, request_for(rung.key)))
        return answer, self._ended(decision, course, rung)

    def _attempt(self, rung: Rung, parameters: Mapping[str, Any]) -> tuple[Any, Emptiness | None]:
        model = self._models[rung.key]
        answer = self._blocking.complete(model, fitted(model, self._operation, parameters))
        if parameters.get("stream"):
            return opened(answer, self._reading, name=model.model, seconds=model.opening_seconds)
        return answer, self._reading.emptiness(answer) if self._has_other else None


# --- the beginning of a stream: read until it says something, while another model can still answer in its place ---


def opened(pieces: Iterator[T], reading: Reading, *, name: str, seconds: float) -> tuple[Iterator[T], Emptiness | None]:
    """Read a stream until it says something, while another model can still answer in its place.

    Args:
        pieces: the stream.
        reading: what its pieces say.
        name: the model's, for errors.
        seconds: that it has until then; watched as pieces come, for a blocking read ends by its own limit.

    Returns:
        the stream from its beginning, and why it holds nothing where it ended before it said something.

    Raises:
        BackendError: it broke off, held nothing at all or took too long.
    """
    held: list[T] = []
    stream: Any = _resumed(held, pieces)
    next(stream)
    ends = time.monotonic() + seconds
    try:
        for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return stream, None
            if time.monotonic() > ends:
                raise timed_out(name, seconds, "did not begin to answer")
    except BaseException:
        stream.close()
        raise
    if not held:
        raise empty_stream(name)
    return stream, reading.emptiness(held)


async def aopened(
    pieces: AsyncIterator[T], reading: Reading, *, name: str
) -> tuple[AsyncIterator[T], Emptiness | None]:
    """Do as :func:`opened` does, without blocking the event loop; the caller limits the time."""
    held: list[T] = []
    stream: Any = _aresumed(held, pieces)
    await anext(stream)
    try:
        async for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return stream, None
    except BaseException:
        await stream.aclose()
        raise
    if not held:
        raise empty_stream(name)
    return stream, reading.emptiness(held)


def _resumed(held: Sequence[T], rest: Iterator[T]) -> Iterator[T]:
    try:
        yield held  # type: ignore[misc]  # taken by the caller: a generator that was not begun cannot be closed
        yield from held
        yield from rest
    finally:
        if hasattr(rest, "close"):
            rest.close()


async def _aresumed(held: Sequence[T], rest: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        yield held  # type: ignore[misc]
        for piece in held:
            yield piece
        async for piece in rest:
            yield piece
    finally:
        if hasattr(rest, "aclose"):
            await rest.aclose()
