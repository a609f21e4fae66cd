"""What to do when a model fails: the numbers and choices of the loop in :mod:`routellm_core.backends.resilience`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from routellm_core.backends.cooldown import CoolDowns
from routellm_core.errors import ConfigError
from routellm_core.providers.errors import is_retryable, status_of
from routellm_core.providers.events import Emptiness

Failure: TypeAlias = Literal["retryable", "elsewhere", "final"]
"""Whether a failure may pass, is one model's own, or neither."""


@dataclass(frozen=True)
class ResiliencePolicy:
    """What to do when a model fails.

    Attributes:
        attempts: calls of one model at retryable failures (lost connection, 408, 409, 425, 429, 5xx), at least 1. A
            model that timed out is not asked again.
        wait_initial: seconds before the first retry; each further one waits twice as long, with jitter.
        wait_max: the longest wait in seconds. Where the provider asks for longer with ``Retry-After``, the other model
            is asked at once.
        fallback: after the last attempt, ask the other model of the pair.
        statuses: HTTP statuses that are this model's own trouble, so that the other one is asked at once: by default
            402 (out of credit), 404 (the model is gone) and 413 (too large for it).
        empty_answers: ask the other model where one answers with nothing: no text, no tool call, or reasoning alone.
        filtered_answers: do so too where the provider's content filter took the answer.
        cooldown_after: failed calls in a row after which a model is passed over for a while; 0 for never.
        cooldown_seconds: for how long. Then one request tries it again.
    """

    attempts: int = 2
    wait_initial: float = 0.5
    wait_max: float = 8.0
    fallback: bool = True
    statuses: Sequence[int] = (402, 404, 413)
    empty_answers: bool = True
    filtered_answers: bool = False
    cooldown_after: int = 6
    cooldown_seconds: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "statuses", tuple(self.statuses))
        if self.attempts < 1:
            raise ConfigError(f"attempts={self.attempts!r} must be at least 1")
        if self.wait_initial < 0 or self.wait_max < self.wait_initial:
            raise ConfigError(
                f"wait_initial={self.wait_initial!r} and wait_max={self.wait_max!r} must be ascending and not negative"
            )
        if any(not isinstance(status, int) or not 400 <= status <= 599 for status in self.statuses):
            raise ConfigError(f"statuses={self.statuses!r} must be HTTP statuses from 400 to 599")
        if self.cooldown_after < 0 or self.cooldown_seconds < 0:
            raise ConfigError(
                f"cooldown_after={self.cooldown_after!r} and cooldown_seconds={self.cooldown_seconds!r} must not be "
                "negative"
            )

    def kind_of(self, error: BaseException) -> Failure:
        """Return what is to be done about a failure; see the module's text."""
        # An adapter notes both on its framework's errors.
        is_own = getattr(error, "is_timeout", False) or getattr(error, "fits_elsewhere", False)
        if is_own or isinstance(error, TimeoutError) or status_of(error) in self.statuses:
            return "elsewhere"
        return "retryable" if is_retryable(error) else "final"

    def moves(self, emptiness: Emptiness | None) -> bool:
        """Return whether the other model is asked after an answer that holds nothing."""
        return self.filtered_answers if emptiness == "filtered" else self.empty_answers and emptiness == "empty"

    def cool_downs(self) -> CoolDowns:
        """Return the states of models under this policy, none of which has failed yet."""
        return CoolDowns(after=self.cooldown_after, seconds=self.cooldown_seconds)
