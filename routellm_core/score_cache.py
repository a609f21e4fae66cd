"""Scores that were computed once: per router fingerprint and prompt, in the user's cache folder.

A router's fingerprint changes with its checkpoint, so scores of another checkpoint are never reused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from routellm_core._cache import DiskCache, text_key, user_cache_file
from routellm_core.routers.base import Router, checked_scores
from routellm_core.types import FloatArray

_SCORE = struct.Struct("<d")


class ScoreCache(DiskCache):
    """Remembers scores across runs and processes.

    Args:
        path: the SQLite file; None takes ``scores.sqlite3`` in the user's cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or user_cache_file("scores.sqlite3"), wait_seconds=60.0)

    def scores(
        self,
        router: Router,
        prompts: Sequence[str],
        *,
        batch_size: int = 512,
        on_progress: Callable[[int], None] | None = None,
    ) -> FloatArray:
        """Return the router's scores of n prompts, shape (n,), computing and storing only those that are missing.

        Each distinct prompt is scored once, ``batch_size`` at a time, which are then committed; ``on_progress`` is
        called with the number of further prompts that have a score.

        Raises:
            ScoringError: the router failed; what was scored before is kept.
        """
        report = on_progress or (lambda _done: None)
        keys = [text_key(prompt) for prompt in prompts]
        stored = self.read(router.fingerprint, keys)
        known: dict[bytes, float] = {
            key: _SCORE.unpack(value)[0] for key, value in stored.items() if len(value) == _SCORE.size
        }
        report(sum(key in known for key in keys))
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        remaining = list(missing.items())
        for start in range(0, len(remaining), batch_size):
            batch = remaining[start : start + batch_size]
            scored = checked_scores(router, [prompt for _, prompt in batch])
            fresh = {key: float(score) for (key, _), score in zip(batch, scored, strict=True)}
            self.write(router.fingerprint, {key: _SCORE.pack(score) for key, score in fresh.items()})
            known.update(fresh)
            report(len(batch))
        return np.array([known[key] for key in keys], dtype=np.float64)
