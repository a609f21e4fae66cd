"""What was computed once and is kept on disk: embeddings and scores, each in one SQLite file in the user's cache.

SQLite because it gives, without further code, what such a cache needs: each write is committed, so a killed run
loses only what it was computing; writers of several processes wait for each other; a half-written file cannot happen.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

import platformdirs

from routellm_core.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS namespaces (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (namespace, key)
);
"""
_OLDEST_TENTH: Final = """
DELETE FROM entries WHERE id <= (SELECT id FROM entries ORDER BY id LIMIT 1 OFFSET (SELECT COUNT(*) / 10 FROM entries))
"""
_SELECT: Final = """
SELECT key, value FROM entries WHERE namespace = (SELECT id FROM namespaces WHERE name = ?) AND key IN
"""
_LOOKUP_KEYS: Final = 500
"""Keys per query, below SQLite's oldest limit of 999 bound parameters."""
_PAUSE_SECONDS: Final = 60.0
"""How long a cache that failed is left alone: waiting for it at every prompt would cost more than it ever saved."""


def user_cache_file(name: str) -> Path:
    """Return a file in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("routellm", appauthor=False)) / name


def text_key(text: str) -> bytes:
    """Return the SHA-256 that a text is kept under; the text itself is never stored."""
    # surrogatepass: prompts from JSON may hold lone surrogates, which are still prompts.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class DiskCache:
    """Values by namespace and key, shared by threads and processes.

    A cache that is broken, locked or cannot be written holds nothing, and says so in one warning: nothing fails that
    can be computed without it.

    Args:
        path: the SQLite file; made with its folder at the first write.
        limit_bytes: the most that it holds; what was stored first goes first, a tenth at a time.
        wait_seconds: how long to wait for another process that writes.
    """

    def __init__(self, path: Path, *, limit_bytes: int = 1 << 30, wait_seconds: float = 2.0) -> None:
        self.path, self.limit_bytes, self._wait_seconds = path, limit_bytes, wait_seconds
        self._paused_until = 0.0
        self._has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        # The clock of a pause is this machine's.
        return {**vars(self), "_paused_until": 0.0}

    def read(self, namespace: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is stored of ``keys``."""
        wanted = list(dict.fromkeys(keys))

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for start in range(0, len(wanted), _LOOKUP_KEYS):
                part = wanted[start : start + _LOOKUP_KEYS]
                marks = ",".join("?" * len(part))
                found.update(connection.execute(f"{_SELECT} ({marks})", [namespace, *part]))
            return found

        return self._unless_broken(look_up, {}) if wanted else {}

    def write(self, namespace: str, values: Mapping[bytes, bytes]) -> None:
        """Store ``values``, in the place of older ones, and drop the oldest entries above the limit."""

        def store(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", [namespace])
            (number,) = connection.execute("SELECT id FROM namespaces WHERE name = ?", [namespace]).fetchone()
            connection.executemany(
                "INSERT OR REPLACE INTO entries (namespace, key, value) VALUES (?, ?, ?)",
                [(number, key, value) for key, value in values.items()],
            )
            while _held_bytes(connection) > self.limit_bytes and connection.execute(_OLDEST_TENTH).rowcount:
                pass

        self._unless_broken(store, None)

    def forget(self, namespace: str) -> int:
        """Drop every value of a namespace and return how many there were.

        Raises:
            ConfigError: the file cannot be used.
        """
        statement = "DELETE FROM entries WHERE namespace = (SELECT id FROM namespaces WHERE name = ?)"
        return self._in_transaction(lambda connection: connection.execute(statement, [namespace]).rowcount)

    def counts(self) -> dict[str, int]:
        """Return the number of stored values by namespace.

        Raises:
            ConfigError: the file cannot be used.
        """
        statement = (
            "SELECT name, COUNT(*) FROM namespaces JOIN entries ON entries.namespace = namespaces.id GROUP BY name"
        )
        return self._in_transaction(lambda connection: dict(connection.execute(statement).fetchall()))

    def _unless_broken(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if time.monotonic() < self._paused_until:
            return otherwise
        try:
            return self._in_transaction(work)
        except ConfigError as error:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            if not self._has_warned:
                self._has_warned = True
                _log.warning("%s; what it would hold is computed anew", error)
            return otherwise

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Open the file for one transaction: connections must not be shared with threads or forked processes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=self._wait_seconds)) as connection:
                # Readers do not block the writer in this mode. Where the file system cannot do it (some network
                # shares), SQLite keeps its default mode, which is slower and as safe.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(_SCHEMA)
                with connection:
                    return work(connection)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"the cache {self.path} cannot be used ({error}). Delete the file to start anew, or choose another"
            ) from error


def _held_bytes(connection: sqlite3.Connection) -> int:
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    ]
    return int((values[0] - values[1]) * values[2])
