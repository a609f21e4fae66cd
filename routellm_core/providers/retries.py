"""When a model or an embedding service is asked again, and after how long."""

from __future__ import annotations

import logging
import random
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from routellm_core.errors import BackendError

logger = logging.getLogger(__name__)


def pause(failed: int, asked: float | None, initial: float, maximum: float) -> float:
    """Return the seconds to wait after ``failed`` attempts: what the provider ``asked`` for, else twice the last."""
    if asked is not None:
        return min(asked, maximum)
    return min(initial * 2.0 ** (failed - 1) + random.uniform(0, initial / 2), maximum)


def retrying(*, attempts: int, wait_initial: float, wait_max: float) -> Retrying:
    """Return a caller, ``retrying(...)(function, *args)``, that tries again at retryable :class:`BackendError`.

    The last error is raised as it is.

    Args:
        attempts: calls in all, at least 1.
        wait_initial: seconds before the first retry; each further wait doubles, with jitter.
        wait_max: the longest wait in seconds, also where the provider's ``Retry-After`` asks for longer.
    """
    return Retrying(**_rules(attempts, wait_initial, wait_max))


def async_retrying(*, attempts: int, wait_initial: float, wait_max: float) -> AsyncRetrying:
    """Return the asynchronous twin of :func:`retrying`."""
    return AsyncRetrying(**_rules(attempts, wait_initial, wait_max))


def _rules(attempts: int, wait_initial: float, wait_max: float) -> dict[str, Any]:
    def wait(state: RetryCallState) -> float:
        error: Any = state.outcome and state.outcome.exception()
        logger.info("retrying %s after status %d", error.model, error.status_code)
        return pause(state.attempt_number, error.retry_after, wait_initial, wait_max)

    is_retried = retry_if_exception(lambda error: isinstance(error, BackendError) and error.retryable)
    return {"retry": is_retried, "wait": wait, "stop": stop_after_attempt(attempts), "reraise": True}
