"""Retries on one model, then fallback to the next: one loop for every way that models are called.

A :class:`Rung` is a model that may answer; the rungs of a request are in the order of preference. What happens after a
failure is decided by a :class:`Course`, without any input or output; :func:`run` and :func:`arun` make the calls that
it asks for. How an answer looks (an object, bytes, a framework's message) only the transport knows, which tells by a
:class:`Reading` whether it says something.

There are three kinds of failure. A *retryable* one (lost connection, 408, 409, 425, 429, 5xx) may pass: the same model
is asked again, then the next. One that *fits elsewhere* is this model's own: a time-out, too long a context, a
parameter or an image that it does not take, a status that the policy names. The next model is asked at once. All else
is *final*: it would fail again, or hide a mistake.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from routellm_core.backends.cooldown import CoolDowns
from routellm_core.backends.policy import Failure, ResiliencePolicy
from routellm_core.errors import BackendError
from routellm_core.providers.errors import status_of, unusable
from routellm_core.providers.events import Emptiness
from routellm_core.providers.retries import pause
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = [
    "Course",
    "Reading",
    "ResiliencePolicy",
    "Rung",
    "arun",
    "fallen_back",
    "run",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rung:
    """A model that may answer.

    Attributes:
        key: what its state is kept under; two models of one name differ in it.
        name: the model's, for errors.
        attempts: calls at retryable failures, where it is not the policy's.
    """

    key: str
    name: str
    attempts: int | None = None


class Reading(Protocol):
    """What only a transport knows of its answers."""

    def is_content(self, piece: Any) -> bool:
        """Return whether a piece of a stream says something, so that no other model may answer any more."""
        ...

    def emptiness(self, answer: Any) -> Emptiness | None:
        """Return why an answer, or the list of all pieces of a stream, holds nothing; None where it holds something."""
        ...


class Course(Generic[T]):
    """The course of one request over its rungs: which model is asked next, and when there is none.

    Args:
        rungs: who may answer, in the order of preference.
        policy: what to do after failures.
        cool_downs: the models' states, which the requests of a process share.
        is_bound: whether the first rung was not chosen by a score but asked for, or holds the conversation: it is then
            asked first although it is failing just now, if only once.

    Attributes:
        rung: who is to be asked.
        failures: what went wrong so far, and at whom.
        passed_over: why models were not asked first although they are preferred.

    Raises:
        BackendError: each of the models asked to be left alone for a while (429).
    """

    def __init__(
        self, rungs: Sequence[Rung], policy: ResiliencePolicy, cool_downs: CoolDowns, *, is_bound: bool = False
    ) -> None:
        self.failures: list[tuple[Rung, BaseException]] = []
        self.passed_over: list[BaseException] = []
        self._policy, self._cool_downs = policy, cool_downs
        self._spare: tuple[T, Rung] | None = None
        self._failed = 0
        self._is_alone = len(rungs) == 1
        self._once: set[str] = set()
        self._left = deque(rungs if self._is_alone else self._in_order(rungs, is_bound))
        self.rung = self._left.popleft()

    def after(self, error: Exception) -> float | tuple[T, Rung]:
        """Take in that the rung failed.

        Returns:
            seconds to wait before ``rung``, which may be another one now, is asked; or, where nobody is left, an
            answer from before that held nothing, which is better than an error.

        Raises:
            BackendError: there is nobody left to ask, or the failure is final; the error tells of all of them.
            Exception: likewise, as it came, where the transport's errors are foreign.
        """
        kind = self._policy.kind_of(error)
        self._failed += 1
        self._remember(error, kind)
        asked = getattr(error, "retry_after", None)
        attempts = 1 if self.rung.key in self._once else self.rung.attempts or self._policy.attempts
        if kind == "retryable" and self._failed < attempts and not (self._left and self._waits_too_long(asked)):
            logger.info("retrying %s after %s", self.rung.name, _cause(error))
            return pause(self._failed, asked, self._policy.wait_initial, self._policy.wait_max)
        self.failures.append((self.rung, error))
        if kind == "final" or not self._left:
            return self._spare or self._end()
        self._move(_cause(error))
        return 0.0

    def accepts(self, answer: T, emptiness: Emptiness | None = None) -> bool:
        """Take in that the rung answered; return False where the next one is to be asked for something better."""
        self._cool_downs.succeeded(self.rung.key)
        if not (self._left and self._policy.moves(emptiness)):
            return True
        if self._spare is None:
            self._spare = answer, self.rung
        self.failures.append((self.rung, unusable(self.rung.name, f"answered with nothing ({emptiness})")))
        self._move(f"an {emptiness} answer" if emptiness == "empty" else "a filtered answer")
        return False

    def _in_order(self, rungs: Sequence[Rung], is_bound: bool) -> list[Rung]:
        """Return the rungs with those last that are cooling down, which are asked only once."""
        if self._cool_downs.probe(rungs[0].key):
            self._once.add(rungs[0].key)
            return list(rungs)
        cooling = [rung for rung in rungs if self._cool_downs.remaining(rung.key)]
        self._once.update(rung.key for rung in cooling)
        if len(cooling) == len(rungs):
            states = [self._cool_downs.state(rung.key) for rung in rungs]
            if all(state.is_asked for state in states):
                wait = min(self._cool_downs.remaining(rung.key) for rung in rungs)
                raise _all_too_busy(rungs, wait)
            return list(rungs)
        if is_bound:
            return list(rungs)
        for rung in cooling:
            status = self._cool_downs.state(rung.key).status
            why = f"model {rung.name!r} is passed over for a while after failures (status {status})"
            self.passed_over.append(BackendError(why, model=rung.name, status_code=status or 503, retryable=True))
        return [*(rung for rung in rungs if rung not in cooling), *cooling]

    def _remember(self, error: Exception, kind: Failure) -> None:
        status = status_of(error)
        is_request_s = getattr(error, "fits_elsewhere", False) or status == 413
        if kind != "final" and not is_request_s and not self._is_alone:
            asked = getattr(error, "retry_after", None) if status == 429 else None
            self._cool_downs.failed(self.rung.key, status, asked)
            if self._cool_downs.remaining(self.rung.key):
                self._once.add(self.rung.key)

    def _waits_too_long(self, asked: float | None) -> bool:
        return asked is not None and asked > self._policy.wait_max

    def _move(self, why: str) -> None:
        failed, self.rung, self._failed = self.rung, self._left.popleft(), 0
        logger.warning("%s failed with %s; asking %s", failed.name, why, self.rung.name)

    def _end(self) -> NoReturn:
        errors = [error for _, error in self.failures]
        if len(errors) == 1:
            raise errors[0]
        first = errors[0]
        if isinstance(first, BackendError):
            raise _all_failed(errors) from errors[-1]
        for rung, error in self.failures[1:]:
            first.add_note(f"The other model, {rung.name}, failed too: {type(error).__name__}: {error}")
        raise first


def run(course: Course[T], call: Callable[[Rung], tuple[T, Emptiness | None]]) -> tuple[T, Rung]:
    """Call models until one answers.

    Args:
        course: who is asked, and what follows a failure.
        call: makes one attempt; it returns the answer and, where that holds nothing, why.

    Returns:
        the answer, and who gave it.

    Raises:
        Exception: what :meth:`Course.after` raises.
    """
    while True:
        try:
            answer, emptiness = call(course.rung)
        except Exception as error:
            found = course.after(error)
            if isinstance(found, tuple):
                return found
            if found:
                time.sleep(found)
        else:
            if course.accepts(answer, emptiness):
                return answer, course.rung


async def arun(course: Course[T], call: Callable[[Rung], Awaitable[tuple[T, Emptiness | None]]]) -> tuple[T, Rung]:
    """Do as :func:`run` does, without blocking the event loop."""
    while True:
        try:
            answer, emptiness = await call(course.rung)
        except Exception as error:
            found = course.after(error)
            if isinstance(found, tuple):
                return found
            if found:
                await asyncio.sleep(found)
        else:
            if course.accepts(answer, emptiness):
                return answer, course.rung


def fallen_back(decision: RoutingDecision, pair: ModelPair, error: BaseException) -> RoutingDecision:
    """Return the decision for the other model of ``pair``, after the decided one failed with ``error``."""
    tier: Tier = "weak" if decision.tier == "strong" else "strong"
    failed, other = decision.model, pair.of(tier)
    if failed == other:  # one name at two hosts, or at two efforts
        failed, other = f"{failed} ({decision.tier})", f"{other} ({tier})"
    return replace(
        decision,
        tier=tier,
        model=pair.of(tier),
        fallback_from=decision.model,
        reason=f"{decision.reason}; {failed} failed with {_cause(error)}, so {other} answered",
        details={**decision.details, "fallback_error": str(error)[:500]},
    )


def _cause(error: BaseException) -> str:
    status = status_of(error)
    return type(error).__name__ if status is None else f"status {status}"


def _all_failed(errors: Sequence[BaseException]) -> BackendError:
    """Return one error for all: the first one's status, and each one's words."""
    first = errors[0]
    assert isinstance(first, BackendError)  # noqa: S101 - by its caller
    text = f"both models failed: {'; then '.join(map(str, errors))}"
    combined = BackendError(text, model=first.model, status_code=first.status_code, retryable=first.retryable)
    # Its own facts alone: frameworks write notes of their own on an exception that passes through them.
    vars(combined).update({name: value for name, value in vars(first).items() if name in vars(combined)})
    if all(status_of(error) == 429 for error in errors):
        waits = [wait for error in errors if (wait := getattr(error, "retry_after", None)) is not None]
        combined.retry_after = min(waits, default=1.0)
        combined.should_retry = False  # a client's own retries would multiply with those made here
    return combined


def _all_too_busy(rungs: Sequence[Rung], wait: float) -> BackendError:
    names = " and ".join(repr(rung.name) for rung in rungs)
    return BackendError(
        f"{names} each have too much to do; try again in {wait:.0f} s",
        model=rungs[0].name,
        status_code=429,
        retryable=True,
        error_type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=wait,
        should_retry=False,
    )
