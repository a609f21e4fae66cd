"""Who may call, how often and for how much: bearer keys compared in constant time, with optional limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Sequence

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from routellm_core.server.error_responses import RequestError
from routellm_core.server.settings import ClientKey

__all__ = ["AccessControl"]

_MICRODOLLARS = 1_000_000


class AccessControl:
    """Checks bearer tokens and their limits. Limits are counted per process.

    Args:
        keys: the keys that are let in; without any, every client is.
        counted: the access control that this one replaces, whose counts go on.
    """

    def __init__(self, keys: Sequence[ClientKey], *, counted: AccessControl | None = None) -> None:
        self._keys = [(_digest(key.key.get_secret_value()), key) for key in keys]
        self._windows: FixedWindowRateLimiter = (
            FixedWindowRateLimiter(MemoryStorage()) if counted is None else counted._windows
        )

    @property
    def needs_key(self) -> bool:
        """Whether a client must present a key."""
        return bool(self._keys)

    def admit(self, authorization: str | None) -> ClientKey | None:
        """Let a request in and count it.

        Args:
            authorization: the request's ``Authorization`` header.

        Returns:
            the client's key; None where no keys are needed.

        Raises:
            RequestError: 401 without a valid key, 429 beyond its limits.
        """
        if not self._keys:
            return None
        key = self._key(authorization)
        if (limit := _request_limit(key)) and not self._windows.hit(limit, key.identity):
            raise self._exhausted(limit, key, f"{key.requests_per_minute} requests a minute", "rate_limit_exceeded")
        if (budget := _budget(key)) and not self._windows.test(budget, key.identity):
            raise self._exhausted(budget, key, f"${key.dollars_per_day:g} a day", "insufficient_quota")
        return key

    def charge(self, key: ClientKey | None, dollars: float) -> None:
        """Count what an answer cost against its client's budget."""
        if key is not None and dollars > 0 and (budget := _budget(key)):
            self._windows.hit(budget, key.identity, cost=math.ceil(dollars * _MICRODOLLARS))

    def _key(self, authorization: str | None) -> ClientKey:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise RequestError(
                "no API key; send the header 'Authorization: Bearer <key>'", status=401, code="missing_api_key"
            )
        presented = _digest(token.strip())
        found = None
        for digest, key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, presented):
                found = key
        if found is None:
            raise RequestError("incorrect API key", status=401, code="invalid_api_key")
        return found

    def _exhausted(self, limit: RateLimitItem, key: ClientKey, allowed: str, code: str) -> RequestError:
        seconds = max(1.0, self._windows.get_window_stats(limit, key.identity).reset_time - time.time())
        return RequestError(
            f"the limit of this key, {allowed}, is reached; try again in {seconds:.0f} s",
            status=429,
            code=code,
            retry_after=seconds,
        )


def _digest(token: str) -> bytes:
    # Digests have one length, which a comparison of the keys themselves would give away.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _request_limit(key: ClientKey) -> RateLimitItem | None:
    return RateLimitItemPerMinute(key.requests_per_minute) if key.requests_per_minute else None


def _budget(key: ClientKey) -> RateLimitItem | None:
    if key.dollars_per_day is None:
        return None
    return RateLimitItemPerDay(math.ceil(key.dollars_per_day * _MICRODOLLARS))
