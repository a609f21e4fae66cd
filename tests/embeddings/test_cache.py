from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from routellm_core.embeddings.base import Embeddings
from routellm_core.embeddings.cache import CachedEmbedder


class Counting:
    """Embeds a text as its length and counts what it was asked."""

    dimension = 2

    def __init__(self, name: str = "counting") -> None:
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_each_text_is_embedded_once(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, path=tmp_path / "c.sqlite")
    np.testing.assert_array_equal(cached.embed(["aa", "b", "aa", "\ud800"]), [[2, 1], [1, 1], [2, 1], [1, 1]])
    assert inner.asked == ["aa", "b", "\ud800"]
    np.testing.assert_array_equal(cached.embed(["b", "ccc"]), [[1, 1], [3, 1]])
    assert inner.asked == ["aa", "b", "\ud800", "ccc"]
    assert cached.embed([]).shape == (0, 2)
    assert (cached.name, cached.dimension) == ("counting", 2)


def test_the_cache_outlives_the_process_and_separates_embedders(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c.sqlite"
    CachedEmbedder(Counting(), path=path).embed(["text"])
    again, other = Counting(), Counting("other")
    CachedEmbedder(again, path=path).embed(["text"])
    CachedEmbedder(other, path=path).embed(["text"])
    assert (again.asked, other.asked) == ([], ["text"])
    assert b"text" not in sqlite3.connect(path).execute("SELECT key FROM embeddings").fetchone()[0]


def test_large_batches(tmp_path: Path) -> None:
    cached = CachedEmbedder(Counting(), path=tmp_path / "c.sqlite")
    texts = ["x" * number for number in range(2000)]
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed(texts)[:, 0], np.arange(2000))


def _embed(path: Path) -> float:
    return float(CachedEmbedder(Counting(), path=path).embed([str(n) for n in range(300)])[:, 0].sum())


def test_threads_and_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    cached = CachedEmbedder(Counting(), path=path)
    with ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(lambda _: cached.embed([str(n) for n in range(300)])[:, 0].sum(), range(16)))
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        sums += processes.map(_embed, [path] * 2)
    assert set(sums) == {10 + 90 * 2 + 200 * 3}
