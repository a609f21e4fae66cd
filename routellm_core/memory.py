"""Opt-in conversation stickiness: once a conversation needed the strong model, it keeps it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from routellm_core.prompts import first_user_text, message_text
from routellm_core.types import ChatMessage

__all__ = ["ConversationMemory", "conversation_key"]


def conversation_key(messages: Sequence[ChatMessage]) -> str:
    """Identify a conversation without a session id: a hash of its system text and first user message.

    Both stay the same while a conversation grows. Two conversations that open with the same words share a key.
    """
    system = "\n".join(message_text(message) for message in messages if message.get("role") in ("system", "developer"))
    opening = f"{system}\x00{first_user_text(messages)}"
    return hashlib.sha256(opening.encode("utf-8", "surrogatepass")).hexdigest()


class ConversationMemory:
    """Remembers which conversations went to the strong model; thread-safe.

    A conversation may go up from weak to strong, never down, so only the strong ones need remembering.

    Args:
        capacity: conversations kept; the least recently used is forgotten first.
        ttl_seconds: a conversation is forgotten so long after its last request.
        clock: seconds from a monotonic clock.
    """

    def __init__(
        self, *, capacity: int = 10_000, ttl_seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._last_used: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Conversations stay with the process that had them: its clock and its lock do not travel.
        return partial(ConversationMemory, capacity=self._capacity, ttl_seconds=self._ttl_seconds), ()

    def is_strong(self, key: str) -> bool:
        """Return whether the conversation went to the strong model, and count this as a use of it."""
        with self._lock:
            used = self._last_used.pop(key, None)
            if used is None or self._clock() - used > self._ttl_seconds:
                return False
            self._last_used[key] = self._clock()
            return True

    def remember_strong(self, key: str) -> None:
        """Keep the conversation on the strong model from now on."""
        with self._lock:
            self._last_used.pop(key, None)
            self._last_used[key] = self._clock()
            while len(self._last_used) > self._capacity:
                self._last_used.popitem(last=False)
