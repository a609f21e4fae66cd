"""When a model or an embedding service is asked again, and after how long."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from routellm_core.errors import BackendError

__all__ = ["Retries", "async_retrying", "pause", "retrying"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often one service is asked, and how long to wait in between.

    Attributes:
        attempts: calls in all, at least 1.
        wait_initial: seconds before the first retry; each further wait doubles, with jitter.
        wait_max: the longest wait in seconds, also where the provider's ``Retry-After`` asks for longer.
    """

    attempts: int
    wait_initial: float
    wait_max: float

    def after(self, failed: int, error: BaseException) -> float | None:
        """Return the seconds until the next attempt, or None where there is none.

        Args:
            failed: attempts so far.
            error: what the last one raised.
        """
        if failed >= self.attempts or not (isinstance(error, BackendError) and error.retryable):
            return None
        logger.info("retrying %s after status %d", error.model, error.status_code)
        return pause(failed, error.retry_after, self.wait_initial, self.wait_max)


def pause(failed: int, asked: float | None, initial: float, maximum: float) -> float:
    """Return the seconds to wait after ``failed`` attempts: what the provider ``asked`` for, else twice the last."""
    if asked is not None:
        return min(asked, maximum)
    return min(initial * 2.0 ** (failed - 1) + random.uniform(0, initial / 2), maximum)


def retrying(*, attempts: int, wait_initial: float, wait_max: float) -> Callable[..., Any]:
    """Return a caller, ``retrying(...)(function, *args)``, that tries again at retryable :class:`BackendError`.

    The last error is raised as it is. See :class:`Retries`.
    """
    retries = Retries(attempts, wait_initial, wait_max)

    def call(function: Callable[..., T], *args: Any) -> T:
        failed = 0
        while True:
            try:
                return function(*args)
            except BackendError as error:
                failed += 1
                if (seconds := retries.after(failed, error)) is None:
                    raise
            time.sleep(seconds)

    return call


def async_retrying(*, attempts: int, wait_initial: float, wait_max: float) -> Callable[..., Awaitable[Any]]:
    """Return the asynchronous twin of :func:`retrying`."""
    retries = Retries(attempts, wait_initial, wait_max)

    async def call(function: Callable[..., Awaitable[T]], *args: Any) -> T:
        failed = 0
        while True:
            try:
                return await function(*args)
            except BackendError as error:
                failed += 1
                if (seconds := retries.after(failed, error)) is None:
                    raise
            await asyncio.sleep(seconds)

    return call
