"""Scores that were computed once: per router fingerprint and prompt, in one SQLite file in the user's cache folder.

SQLite because it gives, without further code, what a cache of hour-long scoring runs needs: each batch is committed, so
a killed run resumes; writers of several processes wait for each other; a half-written file cannot happen. A router's
fingerprint changes with its checkpoint, so scores of another checkpoint are never reused.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from routellm_core.errors import ConfigError
from routellm_core.routers.base import Router, checked_scores
from routellm_core.types import FloatArray

__all__ = ["ScoreCache", "default_cache_path"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    router BLOB NOT NULL, prompt BLOB NOT NULL, score REAL NOT NULL, PRIMARY KEY (router, prompt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS routers (router BLOB PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
"""
_WAIT_FOR_OTHER_WRITERS_SECONDS = 60.0
_LOOKUP_BATCH = 500  # SQLite's oldest limit on bound parameters is 999


def default_cache_path() -> Path:
    """Return the cache file in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("routellm", appauthor=False)) / "scores.sqlite3"


def _digest(text: str) -> bytes:
    # surrogatepass: prompts from JSON may hold lone surrogates, which are still prompts.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class ScoreCache:
    """Remembers scores across runs and processes.

    Args:
        path: the SQLite file; created with its folder on first use.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_cache_path()

    def scores(
        self,
        router: Router,
        prompts: Sequence[str],
        *,
        batch_size: int = 512,
        on_progress: Callable[[int], None] | None = None,
    ) -> FloatArray:
        """Return the router's scores, computing and storing only those that are missing.

        Args:
            router: scores what is missing; each distinct prompt once.
            prompts: n prompts.
            batch_size: prompts scored, and committed, at a time.
            on_progress: called with the number of further prompts that have a score.

        Returns:
            shape (n,), float64.

        Raises:
            ScoringError: the router failed; what was scored before is kept.
            ConfigError: the cache file is not a database or cannot be written.
        """
        report = on_progress or (lambda _done: None)
        keys = [_digest(prompt) for prompt in prompts]
        known = self._read(router.fingerprint, set(keys))
        report(sum(key in known for key in keys))
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        remaining = list(missing.items())
        for start in range(0, len(remaining), batch_size):
            batch = remaining[start : start + batch_size]
            scored = checked_scores(router, [prompt for _, prompt in batch])
            fresh = {key: float(score) for (key, _), score in zip(batch, scored, strict=True)}
            self._write(router.fingerprint, fresh)
            known.update(fresh)
            report(len(batch))
        return np.array([known[key] for key in keys], dtype=np.float64)

    def forget(self, fingerprint: str) -> int:
        """Drop every score of a router and return how many there were."""
        with self._connection() as connection:
            cursor = connection.execute("DELETE FROM scores WHERE router = ?", (_digest(fingerprint),))
            return cursor.rowcount

    def counts(self) -> dict[str, int]:
        """Return the number of stored scores by fingerprint."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT fingerprint, COUNT(*) FROM routers JOIN scores USING (router) GROUP BY fingerprint"
            )
            return dict(rows.fetchall())

    def _read(self, fingerprint: str, keys: set[bytes]) -> dict[bytes, float]:
        router, wanted = _digest(fingerprint), list(keys)
        found: dict[bytes, float] = {}
        with self._connection() as connection:
            for chunk in _chunks(wanted, _LOOKUP_BATCH):
                marks = ",".join("?" * len(chunk))
                statement = f"SELECT prompt, score FROM scores WHERE router = ? AND prompt IN ({marks})"  # noqa: S608
                found.update(connection.execute(statement, (router, *chunk)))
        return found

    def _write(self, fingerprint: str, scores: dict[bytes, float]) -> None:
        router = _digest(fingerprint)
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO routers VALUES (?, ?)", (router, fingerprint))
            connection.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)",
                [(router, key, score) for key, score in scores.items()],
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; connections are not shared between threads or forked processes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_FOR_OTHER_WRITERS_SECONDS)) as connection:
                # Readers do not block the writer in this mode. Where the file system cannot do it (some network
                # shares), SQLite keeps its default mode, which is slower and as safe.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(_SCHEMA)
                with connection:
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"the score cache {self.path} cannot be used ({error}). Delete the file to start anew, or "
                "choose another with --cache"
            ) from error


def _chunks(items: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    return (items[start : start + size] for start in range(0, len(items), size))
