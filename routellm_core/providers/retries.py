"""Retrying calls of models and embedding services, on top of tenacity."""

from __future__ import annotations

import logging

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_random

from routellm_core.errors import BackendError

__all__ = ["async_retrying", "retrying"]

logger = logging.getLogger(__name__)


def retrying(*, attempts: int, wait_initial: float, wait_max: float) -> Retrying:
    """Return a caller, ``retrying(...)(function, *args)``, that tries again at retryable :class:`BackendError`.

    Args:
        attempts: calls in all, at least 1. The last error is raised as it is.
        wait_initial: seconds before the first retry; each further wait doubles, with jitter.
        wait_max: the longest wait in seconds, also where the provider's ``Retry-After`` asks for longer.
    """
    return Retrying(
        stop=stop_after_attempt(attempts),
        wait=_Wait(wait_initial, wait_max),
        retry=retry_if_exception(_is_retryable),
        before_sleep=_log,
        reraise=True,
    )


def async_retrying(*, attempts: int, wait_initial: float, wait_max: float) -> AsyncRetrying:
    """Return the asynchronous twin of :func:`retrying`."""
    return AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=_Wait(wait_initial, wait_max),
        retry=retry_if_exception(_is_retryable),
        before_sleep=_log,
        reraise=True,
    )


class _Wait(wait_base):
    def __init__(self, initial: float, maximum: float) -> None:
        self._exponential = wait_exponential(multiplier=initial, max=maximum) + wait_random(0, initial / 2)
        self._maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, BackendError) and error.retry_after is not None:
            return min(error.retry_after, self._maximum)
        return self._exponential(retry_state)


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, BackendError) and error.retryable


def _log(retry_state: RetryCallState) -> None:
    error = retry_state.outcome.exception() if retry_state.outcome else None
    if isinstance(error, BackendError):
        logger.info("retrying %s after status %d", error.model, error.status_code)
