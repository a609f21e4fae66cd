from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError, ScoringError
from routellm_core.evals import ScoreCache
from routellm_core.testing import FixedScoreRouter

# Scores slowly, so that a kill or another process comes in between.
WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from routellm_core.score_cache import ScoreCache
from routellm_core.routers.base import Router

class Slow(Router):
    name = "slow"
    def score(self, prompts):
        time.sleep(float(sys.argv[2]))
        return np.array([int(prompt) / 1000 for prompt in prompts])

count = int(sys.argv[3])
scores = ScoreCache(Path(sys.argv[1])).scores(Slow(), [str(i) for i in range(count)], batch_size=10)
assert np.array_equal(scores, np.arange(count) / 1000)
"""


def start_worker(path: Path, *, pause: float, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(path), str(pause), str(count)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "error"})


def stored(path: Path) -> int:
    return ScoreCache(path).counts().get("slow", 0) if path.exists() else 0


@pytest.fixture
def cache(tmp_path: Path) -> ScoreCache:
    return ScoreCache(tmp_path / "deep" / "scores.sqlite3")


def test_a_second_run_scores_nothing(cache: ScoreCache, length_router: Any) -> None:
    prompts = ["a", "bb", "a", "\ud800", ""]
    first = cache.scores(length_router, prompts)
    assert length_router.scored == 4  # the duplicate once
    progress: list[int] = []
    again = cache.scores(length_router, prompts, on_progress=progress.append)
    np.testing.assert_array_equal(first, again)
    assert length_router.scored == 4
    assert progress == [5]


def test_another_checkpoint_never_reuses_scores(cache: ScoreCache, make_length_router: Callable[[str], Any]) -> None:
    cache.scores(make_length_router("1"), ["a", "b"])
    retrained = make_length_router("2")
    cache.scores(retrained, ["a", "b"])
    assert retrained.scored == 2
    assert cache.counts() == {"length:1": 2, "length:2": 2}
    assert cache.forget("length:1") == 2
    assert cache.counts() == {"length:2": 2}


def test_what_was_scored_before_a_failure_is_kept(cache: ScoreCache) -> None:
    def rule(prompt: str) -> float:
        if prompt == "15":
            raise ScoringError("out of memory")
        return 0.5

    with pytest.raises(ScoringError):
        cache.scores(FixedScoreRouter(score=rule), [str(i) for i in range(30)], batch_size=10)
    assert cache.counts() == {"fixed": 10}


def test_a_killed_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite3"
    worker = start_worker(path, pause=0.05, count=500)
    deadline = time.monotonic() + 30
    while stored(path) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    kept = stored(path)
    assert 50 <= kept < 500
    assert kept % 10 == 0  # whole batches

    router = FixedScoreRouter(score=lambda prompt: int(prompt) / 1000)
    router.name = "slow"  # type: ignore[misc]
    scores = ScoreCache(path).scores(router, [str(i) for i in range(500)])
    np.testing.assert_array_equal(scores, np.arange(500) / 1000)
    assert sum(map(len, router.batches)) == 500 - kept


def test_two_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite3"
    workers = [start_worker(path, pause=0.002, count=400) for _ in range(3)]
    for worker in workers:
        _, error = worker.communicate(timeout=60)
        assert worker.returncode == 0, error.decode()
    assert stored(path) == 400
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_file_that_is_no_database_is_a_warning(
    tmp_path: Path, length_router: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.sqlite3"
    content = b"this is not a database at all, whatever its name says" * 10
    path.write_bytes(content)
    cache = ScoreCache(path)
    for _ in range(2):
        np.testing.assert_array_equal(cache.scores(length_router, ["a"]), length_router.score(["a"]))
    assert len(caplog.records) == 1
    assert "Delete the file" in caplog.text
    assert path.read_bytes() == content
    with pytest.raises(ConfigError, match=r"cannot be used.*Delete the file"):
        cache.forget("length:1")


def test_the_default_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert ScoreCache().path == tmp_path / "routellm" / "scores.sqlite3"
