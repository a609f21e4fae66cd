"""RouteLLM's benchmark files: where they are, and fetching them at one commit with every checksum verified."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import platformdirs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from routellm_core.errors import ConfigError, RouteLLMError

__all__ = [
    "COMMIT",
    "DATA_DIR_VARIABLE",
    "DataFile",
    "DownloadError",
    "default_data_dir",
    "download",
    "manifest",
    "resolve_data_dir",
    "verify",
]

COMMIT = "0b64fdafe049e596a3f5657c219329f24af24198"
"""The commit of github.com/lm-sys/RouteLLM that the files are taken from."""
BASE_URL = f"https://raw.githubusercontent.com/lm-sys/RouteLLM/{COMMIT}"
DATA_DIR_VARIABLE = "ROUTELLM_DATA_DIR"

_MANIFEST = Path(__file__).with_name("data_manifest.json")
_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 60.0
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class DownloadError(RouteLLMError):
    """A benchmark file could not be fetched, or is not the file that was expected."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of the manifest."""

    path: str
    sha256: str
    size: int


@cache
def manifest() -> tuple[DataFile, ...]:
    """Return the files of the pinned commit: path in the repository, SHA-256, size in bytes."""
    entries: Mapping[str, list[object]] = json.loads(_MANIFEST.read_text(encoding="utf-8"))
    return tuple(
        DataFile(path=path, sha256=str(sha256), size=int(cast(int, size))) for path, (sha256, size) in entries.items()
    )


def default_data_dir() -> Path:
    """Return the folder in the user's data directory that :func:`download` fills."""
    return Path(platformdirs.user_data_dir("routellm", appauthor=False)) / "benchmarks" / COMMIT[:7]


def resolve_data_dir(given: Path | None = None) -> Path:
    """Return the folder to read benchmark files from: the given one, ``$ROUTELLM_DATA_DIR``, or the downloaded one.

    Raises:
        ConfigError: it does not exist.
    """
    variable = os.environ.get(DATA_DIR_VARIABLE)
    folder = given or (Path(variable) if variable else default_data_dir())
    folder = folder.expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"there is no benchmark data at {folder}. Fetch it with `routellm data download`, or point --data-dir (or "
            f"the environment variable {DATA_DIR_VARIABLE}) at a copy of RouteLLM's repository"
        )
    return folder


def verify(folder: Path) -> dict[str, str]:
    """Return what is wrong with the files under ``folder``: path to ``"missing"`` or ``"checksum differs"``."""
    problems = {}
    for file in manifest():
        path = folder / file.path
        if not path.exists():
            problems[file.path] = "missing"
        elif not _is_complete(path, file):
            problems[file.path] = "checksum differs"
    return problems


def download(
    folder: Path | None = None,
    *,
    base_url: str = BASE_URL,
    on_progress: Callable[[DataFile], None] | None = None,
    attempts: int = 5,
) -> Path:
    """Fetch every file that is missing or differs; a file cut short continues where it stopped.

    A file takes its final name only after its checksum was verified, so a folder never holds a wrong file under a
    right name.

    Args:
        folder: where to; :func:`default_data_dir` by default.
        base_url: the repository's root, for mirrors.
        on_progress: called for each file that is in place.
        attempts: tries per file, with growing pauses.

    Returns:
        the folder.

    Raises:
        DownloadError: a file could not be fetched, or its checksum differs from the manifest's.
    """
    folder = folder or default_data_dir()
    report = on_progress or (lambda _file: None)
    for file in manifest():
        target = folder / file.path
        if not (target.exists() and _is_complete(target, file)):
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(f"{base_url.rstrip('/')}/{file.path}", target, file, attempts=attempts)
        report(file)
    return folder


def _fetch(url: str, target: Path, file: DataFile, *, attempts: int) -> None:
    partial = target.with_name(f"{target.name}.part")
    try:
        Retrying(
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=0.2, max=10.0),
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )(_continue_download, url, partial, file)
    except (urllib.error.URLError, OSError) as error:
        raise DownloadError(
            f"{url} could not be fetched ({error}). Run the command again to continue; without a connection, copy "
            f"RouteLLM's repository at commit {COMMIT[:7]} here and pass it as --data-dir"
        ) from error
    if not _is_complete(partial, file):
        partial.unlink()
        raise DownloadError(f"{url} is not the expected file: its SHA-256 differs from {file.sha256}")
    partial.replace(target)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 425, 429)
    return isinstance(error, OSError)


def _continue_download(url: str, partial: Path, file: DataFile) -> None:
    """Append what is missing to ``partial``."""
    have = partial.stat().st_size if partial.exists() else 0
    if have >= file.size:
        have = 0  # complete but wrong, or longer than it should be: start again
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            resumed = have > 0 and response.status == _PARTIAL_CONTENT
            with partial.open("ab" if resumed else "wb") as out:
                while chunk := response.read(_CHUNK_BYTES):
                    out.write(chunk)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _RANGE_NOT_SATISFIABLE:
                partial.unlink(missing_ok=True)
        raise
    if partial.stat().st_size < file.size:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size} of {file.size} bytes")


def _is_complete(path: Path, file: DataFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
