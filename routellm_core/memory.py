"""Which model has the conversation: hashes of what earlier answers left behind, each with the tier it belongs to.

What is hashed, and what a request refers to, is in :mod:`routellm_core.turns`; see ``docs/conversations.md``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from routellm_core._optional import import_extra
from routellm_core.types import Tier

logger = logging.getLogger(__name__)

_PREFIX = "routellm:"


class MemoryStore(Protocol):
    """Where a memory keeps its entries; may be called from several threads at once."""

    def get(self, keys: Sequence[str], seconds: float) -> list[str | None]:
        """Return the values of keys, None where there is none, and keep those found so long from now on."""
        ...

    def put(self, values: Mapping[str, str], seconds: float) -> None:
        """Keep values, each so long after its last use."""
        ...


class ConversationMemory:
    """Remembers which model has a conversation.

    Args:
        capacity: entries kept in this process; the least recently used is forgotten first.
        ttl_seconds: an entry is forgotten so long after its last use.
        clock: seconds from a monotonic clock.
        store: where entries are kept; ``"redis://host:6379/0"`` shares them between processes and hosts, None keeps
            them in this process. A store that fails is as good as empty, which a warning tells once.

    Raises:
        MissingExtraError: a Redis store without the package ``redis``.
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        ttl_seconds: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
        store: str | MemoryStore | None = None,
    ) -> None:
        self._options = {"capacity": capacity, "ttl_seconds": ttl_seconds, "clock": clock, "store": store}
        self._ttl_seconds = ttl_seconds
        if store is None:
            store = _LocalStore(capacity, clock)
        self._store: MemoryStore = _RedisStore(store) if isinstance(store, str) else store
        self._has_warned = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Conversations stay with the process, or the store, that has them.
        return partial(ConversationMemory, **self._options), ()  # type: ignore[arg-type]

    @property
    def is_local(self) -> bool:
        """Whether looking something up takes no time worth mentioning."""
        return isinstance(self._store, _LocalStore)

    def recall(self, keys: Iterable[str]) -> dict[str, Tier]:
        """Return what is known of these keys, and count this as a use of it."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return {}
        try:
            found = self._store.get(asked, self._ttl_seconds)
        except Exception as error:
            self._failed(error)
            return {}
        return {key: value for key, value in zip(asked, found, strict=True) if value is not None}

    def remember(self, values: Mapping[str, Tier]) -> None:
        """Keep what belongs to which tier."""
        if not values:
            return
        try:
            self._store.put(values, self._ttl_seconds)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("the memory of conversations cannot be reached, and is taken for empty: %s", error)


class _LocalStore:
    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Sequence[str], seconds: float) -> list[str | None]:
        now, found = self._clock(), []
        with self._lock:
            for key in keys:
                until, value = self._entries.pop(key, (0.0, None))
                found.append(value if now <= until else None)
                if value is not None and now <= until:
                    self._entries[key] = (now + seconds, value)
        return found

    def put(self, values: Mapping[str, str], seconds: float) -> None:
        with self._lock:
            for key, value in values.items():
                self._entries.pop(key, None)
                self._entries[key] = (self._clock() + seconds, value)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)


class _RedisStore:
    def __init__(self, url: str) -> None:
        redis = import_extra("redis", extra="redis", purpose=f"sticky_store {url.partition('://')[0]}://…")
        self._client: Any = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=1.0, socket_connect_timeout=1.0
        )

    def get(self, keys: Sequence[str], seconds: float) -> list[str | None]:
        with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.getex(_PREFIX + key, ex=max(1, round(seconds)))
            found: list[str | None] = pipeline.execute()
        return found

    def put(self, values: Mapping[str, str], seconds: float) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(_PREFIX + key, value, ex=max(1, round(seconds)))
            pipeline.execute()
