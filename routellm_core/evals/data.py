"""RouteLLM's benchmark files: where they are, and fetching them at one commit with every checksum verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import httpx
import platformdirs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from routellm_core._files import file_sha256
from routellm_core._publish import publish_file
from routellm_core.errors import ConfigError, RouteLLMError

COMMIT = "0b64fdafe049e596a3f5657c219329f24af24198"
"""The commit of github.com/lm-sys/RouteLLM that the files are taken from."""
BASE_URL = f"https://raw.githubusercontent.com/lm-sys/RouteLLM/{COMMIT}"
DATA_DIR_VARIABLE = "ROUTELLM_DATA_DIR"

_MANIFEST = Path(__file__).with_name("data_manifest.json")
_TIMEOUT_SECONDS = 60.0


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
    states = {file.path: _state(folder / file.path, file) for file in manifest()}
    return {path: state for path, state in states.items() if state}


def download(
    folder: Path | None = None,
    *,
    base_url: str = BASE_URL,
    on_progress: Callable[[DataFile], None] | None = None,
    attempts: int = 5,
) -> Path:
    """Fetch every file that is missing or differs into ``folder``, so that a further run continues where one stopped.

    A file takes its name only after its checksum was verified, so a folder never holds a wrong file under a right name.
    ``base_url`` is the repository's root, for mirrors; ``on_progress`` is called for each file that is in place; each
    is tried ``attempts`` times, with growing pauses.

    Raises:
        DownloadError: a file could not be fetched, or its checksum differs from the manifest's.
    """
    folder = folder or default_data_dir()
    for file in manifest():
        if _state(folder / file.path, file):
            publish_file(folder / file.path, _fetched(f"{base_url.rstrip('/')}/{file.path}", file, attempts))
        if on_progress is not None:
            on_progress(file)
    return folder


def _fetched(url: str, file: DataFile, attempts: int) -> bytes:
    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.2, max=10.0),
        retry=retry_if_exception(_is_transient),
        reraise=True,
    )
    try:
        answer = retrying(lambda: httpx.get(url, timeout=_TIMEOUT_SECONDS, follow_redirects=True).raise_for_status())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"{url} could not be fetched ({error}). Run the command again to continue; without a connection, copy "
            f"RouteLLM's repository at commit {COMMIT[:7]} here and pass it as --data-dir"
        ) from error
    if hashlib.sha256(answer.content).hexdigest() != file.sha256:
        raise DownloadError(f"{url} is not the expected file: its SHA-256 differs from {file.sha256}")
    return answer.content


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 425, 429)
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)


def _state(path: Path, file: DataFile) -> str | None:
    if not path.exists():
        return "missing"
    is_whole = path.stat().st_size == file.size and file_sha256(path) == file.sha256
    return None if is_whole else "checksum differs"
