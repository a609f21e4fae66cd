"""Which models are failing just now: they are passed over for a while, then tried by one request."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

_LONGEST_ASKED = 300.0  # seconds; a provider that asks for longer is tried sooner


@dataclass(frozen=True, slots=True)
class ModelState:
    """How one model has been doing.

    Attributes:
        failures: failed calls in a row.
        until: until when it is passed over, by the monotonic clock; 0 where it is not.
        is_asked: whether the provider itself asked for the wait.
        status: the last failure's status.
    """

    failures: int = 0
    until: float = 0.0
    is_asked: bool = False
    status: int | None = None


class CoolDowns:
    """The states of a process's models. States are replaced as wholes, so that no lock is needed, nor left by a fork.

    Args:
        after: failed calls in a row after which a model is passed over; 0 for never.
        seconds: for how long. Then one request tries it, and the others go on passing it over until that succeeded.
    """

    def __init__(self, *, after: int, seconds: float) -> None:
        self._after, self._seconds = after, seconds
        self._states: dict[Hashable, ModelState] = {}

    def remaining(self, key: Hashable) -> float:
        """Return the seconds for which a model is passed over yet; 0 where it is not."""
        state = self._states.get(key)
        return 0.0 if state is None else max(0.0, state.until - time.monotonic())

    def state(self, key: Hashable) -> ModelState:
        """Return how a model has been doing."""
        return self._states.get(key, ModelState())

    def probe(self, key: Hashable) -> bool:
        """Return whether the caller is the one that tries a model whose time is over; the others wait on."""
        state = self.state(key)
        if not state.until or self.remaining(key):
            return False
        self._states[key] = replace(state, until=time.monotonic() + self._seconds)
        return True

    def failed(self, key: Hashable, status: int | None, asked: float | None) -> None:
        """Count a failed call.

        Args:
            key: the model.
            status: of the failure.
            asked: seconds that a provider with too much to do asked to be left alone.
        """
        state = self.state(key)
        failures, until, now = state.failures + 1, state.until, time.monotonic()
        if asked and self._after:
            until = max(until, now + min(asked, _LONGEST_ASKED))
        elif self._after and failures >= self._after:
            until = now + self._seconds
        self._states[key] = ModelState(failures, until, bool(asked), status)

    def succeeded(self, key: Hashable) -> None:
        """Forget a model's failures."""
        self._states.pop(key, None)

    def cooling(self) -> Mapping[Hashable, float]:
        """Return the models that are passed over, with the seconds that remain."""
        found = {key: self.remaining(key) for key in list(self._states)}
        return {key: seconds for key, seconds in found.items() if seconds}
