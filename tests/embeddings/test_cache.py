from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

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
    assert b"text" not in sqlite3.connect(path).execute("SELECT key FROM entries").fetchone()[0]


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


class OtherModel(Counting):
    """The same name, vectors of another length: a service that has changed its model."""

    dimension = None

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.asked.extend(texts)
        return np.array([[len(text), 1.0, 2.0] for text in texts], dtype=np.float32)


def no_database(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def another_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE entries (something TEXT)")


def truncated(path: Path) -> None:
    CachedEmbedder(Counting(), path=path).embed([str(number) for number in range(3000)])
    path.write_bytes(path.read_bytes()[:20_000])


def damaged(path: Path) -> None:
    CachedEmbedder(Counting(), path=path).embed([str(number) for number in range(3000)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("damage", [no_database, another_schema, truncated, damaged, a_folder])
def test_a_broken_cache_is_a_miss_and_one_warning(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(tmp_path / "c.sqlite")
    caplog.clear()
    inner = Counting()
    cached = CachedEmbedder(inner, path=tmp_path / "c.sqlite")
    for _ in range(3):
        np.testing.assert_array_equal(cached.embed(["aa", "b"]), [[2, 1], [1, 1]])
    assert inner.asked == ["aa", "b"] * 3
    assert len(caplog.records) == 1
    assert "c.sqlite cannot be used" in caplog.text


def test_a_file_where_the_folder_should_be_and_a_file_system_that_takes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file" / "c.sqlite"]
    if Path("/proc/self").exists():
        places.append(Path("/proc/self/c.sqlite"))
    for place in places:
        np.testing.assert_array_equal(CachedEmbedder(Counting(), path=place).embed(["aa"]), [[2, 1]])
    assert len(caplog.records) == len(places)


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_cache import Counting
from routellm_core.embeddings.cache import CachedEmbedder
os.setuid(65534)
inner = Counting()
cached = CachedEmbedder(inner, path=Path(sys.argv[1]))
for _ in range(2):
    print(cached.embed(["known", "unknown"]).tolist(), inner.asked)
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_cache_of_another_user(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.sqlite"
    CachedEmbedder(Counting(), path=path).embed(["known"])
    path.chmod(mode)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(Path(tempfile.gettempdir())) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(path), str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert line.startswith("[[5.0, 1.0], [7.0, 1.0]]")
    assert len(done.stderr.splitlines()) <= 1


def test_a_locked_cache_holds_nobody_up_for_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.sqlite"
    CachedEmbedder(Counting(), path=path).embed(["known"])
    inner = Counting()
    cached = CachedEmbedder(inner, path=path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO namespaces (name) VALUES ('x')")
        start = time.monotonic()
        for number in range(5):
            assert cached.embed([str(number)]).shape == (1, 2)
        assert time.monotonic() - start < 10
    assert len(inner.asked) == 5
    assert len(caplog.records) == 1


def test_the_oldest_embeddings_make_room(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    inner = Counting()
    inner.embed = lambda texts: (inner.asked.extend(texts), np.full((len(texts), 2), 1.0, np.float32))[1]  # type: ignore[method-assign]
    cached = CachedEmbedder(inner, path=path, megabytes=1)
    for start in range(0, 60_000, 2000):
        cached.embed([str(number) for number in range(start, start + 2000)])
    assert path.stat().st_size < 1_400_000
    inner.asked.clear()
    cached.embed([str(number) for number in range(58_000, 60_000)])
    assert inner.asked == []
    cached.embed(["0"])
    assert inner.asked == ["0"]


def test_a_batch_above_the_limit_is_returned_whole(tmp_path: Path) -> None:
    cached = CachedEmbedder(Counting(), path=tmp_path / "c.sqlite", megabytes=0)
    assert cached.embed([str(number) for number in range(2000)]).shape == (2000, 2)


def test_vectors_of_another_length_are_embedded_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    CachedEmbedder(Counting(), path=path).embed(["a", "bb"])
    changed = OtherModel()
    cached = CachedEmbedder(changed, path=path)
    np.testing.assert_array_equal(cached.embed(["a", "ccc"]), [[1, 1, 2], [3, 1, 2]])
    assert sorted(changed.asked) == ["a", "ccc"]
    np.testing.assert_array_equal(cached.embed(["a", "bb", "ccc"])[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(CachedEmbedder(Counting(), path=path).embed(["a", "bb"]), [[1, 1], [2, 1]])


def test_it_is_pickled_copied_and_survives_a_fork(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    cached = CachedEmbedder(Counting(), path=path)
    cached.embed(["a"])
    for twin in (pickle.loads(pickle.dumps(cached)), copy.deepcopy(cached)):
        np.testing.assert_array_equal(twin.embed(["a", "bb"]), [[1, 1], [2, 1]])
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map(_embed, [path] * 8) == [float(10 + 90 * 2 + 200 * 3)] * 8
    np.testing.assert_array_equal(cached.embed(["bb"]), [[2, 1]])


def test_the_wrapped_embedder_says_what_it_does_with_long_texts(tmp_path: Path) -> None:
    inner = Counting()
    inner.prompt_limit = "All of it."  # type: ignore[attr-defined]
    assert CachedEmbedder(inner, path=tmp_path / "c.sqlite").prompt_limit == "All of it."


class Cutting(Counting):
    """Takes long texts for once by a part of them, and says so."""

    def embed_and_tell(self, texts: Sequence[str]) -> tuple[Embeddings, Sequence[bool]]:
        return self.embed(texts), [len(text) < 5 for text in texts]


def test_a_vector_that_is_not_lasting_is_not_kept(tmp_path: Path) -> None:
    inner = Cutting()
    cached = CachedEmbedder(inner, path=tmp_path / "c.sqlite")
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed(["short", "ab"])[:, 0], [5, 2])
    assert inner.asked == ["short", "ab", "short"]
