"""Calls of models, bounded, retried on the same model and counted; and the runner over many items.

Items are worked on in parallel, each finished or failed, until none is left, the money is spent or nothing works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.errors import BackendError, ConfigError
from routellm_core.pricing import estimate_tokens, price_of
from routellm_core.prompts import message_text
from routellm_core.providers.retries import async_retrying
from routellm_core.types import ChatMessage

_UNREADABLE_STATUS: Final = 502
_TIMED_OUT_STATUS: Final = 504


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """How hard to push the providers, how long to try, and how much to spend.

    Attributes:
        concurrency: calls at a time.
        requests_per_minute: calls started per minute; None for no limit.
        attempts: tries per call.
        wait_initial: seconds before the first retry; each further wait doubles.
        wait_max: longest wait in seconds.
        call_seconds: an attempt that takes longer has failed, and a call that has is not tried again.
        failures_in_a_row: so many items fail, one after the other with none between them that is finished, and the run
            stops.
        max_cost: dollars after which no further item is begun; None for no limit.
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    attempts: int = 5
    wait_initial: float = 1.0
    wait_max: float = 60.0
    call_seconds: float = 600.0
    failures_in_a_row: int = 10
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "failures_in_a_row"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be at least 1")
        for name in ("requests_per_minute", "call_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ConfigError(f"{name}={value!r} must be more than 0")


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's text and the tokens of the call."""

    text: str
    input_tokens: float
    output_tokens: float


class Calls:
    """Calls models, by role, and counts what they used.

    A model that fails is asked again; no other one answers in its place, since the answer is what is wanted.
    """

    def __init__(self, models: Mapping[str, ModelSettings], backend: ChatBackend, limits: CallLimits) -> None:
        self._models, self._backend, self._limits = dict(models), backend, limits
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._next_start = 0.0
        self.tokens: dict[str, tuple[float, float]] = {}
        """By role, sent and answered so far."""

    async def ask(self, role: str, messages: Sequence[ChatMessage], parameters: Mapping[str, Any]) -> Answer:
        """Return a model's answer.

        Raises:
            BackendError: not retryable, or the last attempt failed, or the time is up.
        """
        limits, model = self._limits, self._models[role]
        sent = {**parameters, "messages": list(messages)}
        spent = 0.0

        async def attempt() -> Any:
            nonlocal spent
            async with self._slots:
                await self._keep_rate()
                began = asyncio.get_running_loop().time()
                try:
                    async with asyncio.timeout(limits.call_seconds):
                        return await self._backend.acomplete(model, sent)
                except TimeoutError as error:
                    raise _timed_out(model.model, limits.call_seconds) from error
                except BackendError as error:
                    spent += asyncio.get_running_loop().time() - began
                    error.retryable = error.retryable and spent < limits.call_seconds
                    raise

        retrying = async_retrying(attempts=limits.attempts, wait_initial=limits.wait_initial, wait_max=limits.wait_max)
        return self._counted(role, sent["messages"], await retrying(attempt))

    async def _keep_rate(self) -> None:
        if self._limits.requests_per_minute is not None:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next_start)
            self._next_start = start + 60.0 / self._limits.requests_per_minute
            await asyncio.sleep(start - now)

    def _counted(self, role: str, messages: Sequence[ChatMessage], response: Any) -> Answer:
        model = self._models[role].model
        try:
            text = response.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError) as error:
            raise unreadable(model, f"model {model!r} answered without choices[0].message.content") from error
        usage = getattr(response, "usage", None)
        sent, answered = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if sent is None or answered is None:  # some local servers do not count
            sent = sum(estimate_tokens(message_text(message)) for message in messages)
            answered = estimate_tokens(text)
        before = self.tokens.get(role, (0.0, 0.0))
        self.tokens[role] = (before[0] + sent, before[1] + answered)
        return Answer(text, float(sent), float(answered))

    def dollars(self, tokens: Mapping[str, tuple[float, float]] | None = None) -> float | None:
        """Return what so many tokens by role (all so far by default) cost; None where a price is not known."""
        total = 0.0
        for role, used in (self.tokens if tokens is None else tokens).items():
            price = price_of(self._models[role])
            if price is None:
                return None
            total += price.dollars(*used)
        return total

    @property
    def is_affordable(self) -> bool:
        """Whether the money is not spent."""
        return self._limits.max_cost is None or (self.dollars() or 0.0) < self._limits.max_cost


def unreadable(model: str, message: str) -> BackendError:
    """Return the error of an answer that was paid for and cannot be used."""
    return BackendError(message, model=model, status_code=_UNREADABLE_STATUS, retryable=False)


def _timed_out(model: str, seconds: float) -> BackendError:
    message = f"model {model!r} gave no answer within {seconds:g} seconds"
    return BackendError(message, model=model, status_code=_TIMED_OUT_STATUS, retryable=False)


T = TypeVar("T")
# Before anything has worked, the same call will fail for every other item too: a wrong key or a wrong model's name.
# Later it is about the item: some providers refuse what they moderate with 403.
_HOPELESS_STATUSES: Final = frozenset({401, 403, 404})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did.

    Attributes:
        reused: items that were finished before.
        done: items finished now.
        failures: an item's name to its error; they are tried again by the next run.
        left: items that were not finished because the run ended before them.
        stopped: why it did, for people; None where it did not.
    """

    reused: int
    done: int
    failures: Mapping[str, str]
    left: int
    stopped: str | None

    @property
    def is_complete(self) -> bool:
        """Whether every item is finished."""
        return not self.failures and not self.left


class _Stopped(Exception):  # noqa: N818 (no error: it ends the group of tasks)
    pass


async def run_all(
    items: Sequence[tuple[str, T]],
    work: Callable[[T], Awaitable[None]],
    *,
    calls: Calls,
    limits: CallLimits,
    reused: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Do ``work`` for each named item, ``limits.concurrency`` at a time.

    A :class:`BackendError` is the item's failure, any other error ends the run and is raised. The run also ends, in
    order, where the money that ``calls`` counts is spent; at the first refusal (401, 403, 404) before anything was
    finished; and after ``limits.failures_in_a_row`` failures without anything finished between them. Work that is then
    under way is cancelled, as it is when the run is; what it must not lose is its own concern. ``on_progress`` is
    called with (items ended, in all), the ``reused`` ones included.
    """
    failures: dict[str, str] = {}
    done = in_a_row = 0
    stopped: str | None = None
    remaining = iter(items)

    def report() -> None:
        if on_progress is not None:
            on_progress(reused + done + len(failures), reused + len(items))

    async def worker() -> None:
        nonlocal done, in_a_row, stopped
        while calls.is_affordable and (entry := next(remaining, None)) is not None:
            name, item = entry
            try:
                await work(item)
            except BackendError as error:
                failures[name] = str(error)
                in_a_row += 1
                stopped = stopped or _reason(error, done, in_a_row, limits)
                if stopped:
                    raise _Stopped from error
            else:
                done += 1
                in_a_row = 0
            report()

    report()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limits.concurrency, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        _, others = errors.split(_Stopped)
        if others is not None:
            raise others.exceptions[0] from None
    left = len(items) - done - len(failures)
    if left and stopped is None:
        stopped = "the most that may be spent is reached"
    return Outcome(reused=reused, done=done, failures=failures, left=left, stopped=stopped if left else None)


def _reason(error: BackendError, done: int, in_a_row: int, limits: CallLimits) -> str | None:
    if not done and error.status_code in _HOPELESS_STATUSES:
        return f"the model refuses every call: {error}"
    if in_a_row >= limits.failures_in_a_row:
        return f"{in_a_row} failures in a row, the last one: {error}"
    return None
