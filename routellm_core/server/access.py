"""Who may call, how often, how many at a time and for how much: bearer keys, with optional limits."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from routellm_core.errors import ConfigError
from routellm_core.server.error_responses import RequestError
from routellm_core.server.settings import ClientKey

__all__ = ["AccessControl", "Reservation"]

logger = logging.getLogger(__name__)

_MICRODOLLARS = 1_000_000
_DAY = 86_400  # seconds, from the first answer on
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is counted against a budget for a request in progress.

    Attributes:
        key: the client's.
        cost: microdollars.
    """

    key: ClientKey
    cost: int


class AccessControl:
    """Checks bearer tokens and their limits.

    Args:
        keys: the keys that are let in; without any, every client is.
        storage: where requests and dollars are counted, as an address for the package ``limits``.
        counted: the access control that this one replaces, whose counts go on.

    Raises:
        ConfigError: there is no such storage.
    """

    def __init__(
        self, keys: Sequence[ClientKey], *, storage: str = "memory://", counted: AccessControl | None = None
    ) -> None:
        self._keys = [(_digest(key.key.get_secret_value()), key) for key in keys]
        self._address = storage
        if counted is not None and counted._address == storage:
            self._storage: Storage = counted._storage
            self._in_progress: Counter[str] = counted._in_progress
        else:
            self._storage, self._in_progress = _storage(storage), Counter()
        self._windows = FixedWindowRateLimiter(self._storage)

    @property
    def needs_key(self) -> bool:
        """Whether a client must present a key."""
        return bool(self._keys)

    def key_of(self, token: str | None) -> ClientKey | None:
        """Return the client's key; None where no keys are needed.

        Args:
            token: what the client presents.

        Raises:
            RequestError: 401 without a valid one.
        """
        if not self._keys:
            return None
        if not token:
            raise RequestError(
                "no API key; send the header 'Authorization: Bearer <key>'", status=401, code="missing_api_key"
            )
        presented = _digest(token)
        found = None
        for digest, key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, presented):
                found = key
        if found is None:
            raise RequestError("incorrect API key", status=401, code="invalid_api_key")
        return found

    async def enter(self, key: ClientKey | None) -> None:
        """Count a request that begins, until :meth:`leave`.

        Raises:
            RequestError: 429 beyond the key's limits.
        """
        if key is None:
            return
        identity = key.identity
        self._in_progress[identity] += 1
        if key.max_concurrent and self._in_progress[identity] > key.max_concurrent:
            raise _exhausted(f"{key.max_concurrent} requests at a time", "rate_limit_exceeded", 0.0)
        if key.requests_per_minute:
            limit = RateLimitItemPerMinute(key.requests_per_minute)
            if not await self._counted(self._windows.hit, limit, identity):
                ends = (await self._counted(self._windows.get_window_stats, limit, identity)).reset_time
                raise _exhausted(f"{key.requests_per_minute} requests a minute", "rate_limit_exceeded", ends)
        if key.dollars_per_day is not None:
            await self._check(key, await self._counted(self._storage.get, _spent_by(key)))

    def leave(self, key: ClientKey | None) -> None:
        """End a request."""
        if key is not None:
            identity = key.identity
            self._in_progress[identity] -= 1
            if not self._in_progress[identity]:
                del self._in_progress[identity]

    async def reserve(self, key: ClientKey | None, dollars: Callable[[], float]) -> Reservation | None:
        """Count what an answer may cost against the key's budget, until :meth:`settle` knows.

        A request is let in while the budget has anything left; so one answer more than it holds is the most that is
        ever spent, as far as the estimates reach.

        Args:
            key: the client's.
            dollars: the estimate, asked for where there is a budget.

        Raises:
            RequestError: 429 where the budget is spent, what is in progress included.
        """
        if key is None or key.dollars_per_day is None:
            return None
        cost = math.ceil(dollars() * _MICRODOLLARS)
        total = await self._counted(self._add, key, cost)
        try:
            await self._check(key, total - cost)
        except RequestError:
            await self._counted(self._add, key, -cost)
            raise
        return Reservation(key, cost)

    async def settle(self, reservation: Reservation | None, dollars: float) -> None:
        """Count what an answer did cost in place of what was reserved."""
        if reservation is None:
            return
        difference = math.ceil(dollars * _MICRODOLLARS) - reservation.cost
        try:
            total = await self._counted(self._add, reservation.key, difference)
            if total < 0:  # a new day began meanwhile: what was reserved yesterday is no credit
                await self._counted(self._add, reservation.key, -total)
        except RequestError:
            logger.error("$%.6f of key %s could not be counted", dollars, reservation.key.name)

    async def _check(self, key: ClientKey, spent: int) -> None:
        if key.dollars_per_day is not None and spent >= math.ceil(key.dollars_per_day * _MICRODOLLARS):
            ends = await self._counted(self._storage.get_expiry, _spent_by(key))
            raise _exhausted(f"${key.dollars_per_day:g} a day", "insufficient_quota", ends)

    def _add(self, key: ClientKey, amount: int) -> int:
        name = _spent_by(key)
        total: int = self._storage.incr(name, _DAY, amount) if amount else self._storage.get(name)
        return total

    async def _counted(self, function: Callable[..., _T], *args: object) -> _T:
        try:
            if isinstance(self._storage, MemoryStorage):
                return function(*args)
            return await asyncio.to_thread(function, *args)
        except StorageError as error:
            logger.error("limits_storage does not answer: %s", error)
            raise RequestError(
                "the limits of this key cannot be checked just now",
                status=503,
                code="limits_unavailable",
                retry_after=1.0,
            ) from error


def _exhausted(allowed: str, code: str, ends: float) -> RequestError:
    seconds = max(1.0, ends - time.time())
    return RequestError(
        f"the limit of this key, {allowed}, is reached; try again in {seconds:.0f} s",
        status=429,
        code=code,
        retry_after=seconds,
    )


def _storage(address: str) -> Storage:
    try:
        storage = storage_from_string(address, wrap_exceptions=True)
    except (ConfigurationError, ValueError) as error:
        raise ConfigError(f"server.limits_storage {address.partition('@')[2] or address!r}: {error}") from error
    if not isinstance(storage, Storage):
        raise ConfigError("server.limits_storage must be a blocking storage, without async+ before its name")
    return storage


def _digest(token: str) -> bytes:
    # Digests have one length, which a comparison of the keys themselves would give away.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _spent_by(key: ClientKey) -> str:
    # Without the limit itself, which a reload can change in the middle of a day.
    return f"routellm-dollars/{key.identity}"
