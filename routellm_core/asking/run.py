"""The runner: items in parallel, each finished or failed, until none is left, the money is spent or nothing works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from routellm_core.asking.calls import CallLimits, Calls
from routellm_core.errors import BackendError

__all__ = ["Outcome", "run_all"]

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
        stopped: why it ended before them, for people; None where it did not.
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
    """Do ``work`` for each item, ``limits.concurrency`` at a time.

    A :class:`BackendError` is the item's failure, any other error ends the run and is raised. The run also ends, in
    order, where the money is spent; at the first refusal (401, 403, 404) before anything was finished; and after
    ``limits.failures_in_a_row`` failures without anything finished between them. Work that is then under way is
    cancelled, as it is when the run is.

    Args:
        items: name and item.
        work: finishes an item; what it must not lose when it is cancelled is its own concern.
        calls: counts the money.
        limits: when to end.
        reused: items that were finished before, for progress and outcome.
        on_progress: called with (items ended, in all).
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
