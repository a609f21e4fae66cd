from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from routellm_core.errors import ConfigError
from routellm_core.evals import data
from routellm_core.evals.data import DataFile, DownloadError, download, manifest, resolve_data_dir, verify

FILES = {"a/one.csv": b"one," * 5000, "b/two.jsonl": b"{}\n" * 100}


class _Mirror(BaseHTTPRequestHandler):
    """Serves FILES; can be told to cut an answer short, to refuse, and to serve something else."""

    cut_next: int | None = None
    statuses: list[int] = []  # noqa: RUF012 (a test's switchboard)
    asked: list[str] = []  # noqa: RUF012
    replaced: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        kind = type(self)
        name = self.path.removeprefix("/files/")
        kind.asked.append(name)
        if kind.statuses:
            self.send_error(kind.statuses.pop(0))
            return
        content = kind.replaced.get(name, FILES.get(name))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: kind.cut_next])
        kind.cut_next = None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    files = tuple(DataFile(path, hashlib.sha256(body).hexdigest(), len(body)) for path, body in FILES.items())
    monkeypatch.setattr(data, "manifest", lambda: files)
    _Mirror.cut_next, _Mirror.statuses, _Mirror.asked, _Mirror.replaced = None, [], [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mirror)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/files"
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetches_everything_once(mirror: str, tmp_path: Path) -> None:
    seen: list[str] = []
    assert download(tmp_path, base_url=mirror, on_progress=lambda file: seen.append(file.path)) == tmp_path
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    assert seen == list(FILES)
    assert verify(tmp_path) == {}
    download(tmp_path, base_url=mirror)
    assert len(_Mirror.asked) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_that_was_cut_short_is_fetched_again(mirror: str, tmp_path: Path) -> None:
    _Mirror.cut_next = 7000
    download(tmp_path, base_url=mirror)
    assert _Mirror.asked == ["a/one.csv", "a/one.csv", "b/two.jsonl"]
    assert (tmp_path / "a/one.csv").read_bytes() == FILES["a/one.csv"]


def test_a_further_run_fetches_only_what_is_missing(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.csv").write_bytes(FILES["a/one.csv"])
    download(tmp_path, base_url=mirror)
    assert _Mirror.asked == ["b/two.jsonl"]
    assert verify(tmp_path) == {}


def test_a_wrong_file_is_replaced_and_never_kept_under_its_name(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/two.jsonl").write_bytes(b"edited")
    assert verify(tmp_path) == {"a/one.csv": "missing", "b/two.jsonl": "checksum differs"}
    _Mirror.replaced = {"a/one.csv": b"evil" * 5000}
    with pytest.raises(DownloadError, match="not the expected file"):
        download(tmp_path, base_url=mirror)
    assert not (tmp_path / "a/one.csv").exists()
    _Mirror.replaced = {}
    download(tmp_path, base_url=mirror)
    assert verify(tmp_path) == {}


def test_retries_what_is_transient_only(mirror: str, tmp_path: Path) -> None:
    _Mirror.statuses = [503, 429]
    download(tmp_path, base_url=mirror)
    _Mirror.statuses, _Mirror.asked = [404], []
    with pytest.raises(DownloadError, match="--data-dir"):
        download(tmp_path / "other", base_url=mirror)
    assert len(_Mirror.asked) == 1


def test_the_manifest_is_that_of_the_shared_copy(data_dir: Path) -> None:
    assert len(manifest()) == 65
    assert verify(data_dir) == {}


def test_where_data_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"routellm data download.*ROUTELLM_DATA_DIR"):
        resolve_data_dir()
    monkeypatch.setenv("ROUTELLM_DATA_DIR", str(tmp_path))
    assert resolve_data_dir() == tmp_path
    (tmp_path / "given").mkdir()
    assert resolve_data_dir(tmp_path / "given") == tmp_path / "given"
