"""Fixtures for every test: no network but loopback, no foreign caches, no keys from the environment."""

from __future__ import annotations

import asyncio
import atexit
import os
import runpy
import subprocess
import tempfile
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiohttp import web

# Before anything imports litellm or a hub client: neither may look at the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"

from routellm_core.testing.local_handlers import Operation
from routellm_core.testing.local_models import LocalModelServer

_datasets_cache = tempfile.TemporaryDirectory()
atexit.register(_datasets_cache.cleanup)
os.environ["HF_DATASETS_CACHE"] = _datasets_cache.name

REPOSITORY = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write broken Unicode as escapes in what was captured: pytest-xdist cannot send it between its processes."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers and benchmark data: $ROUTELLM_SHARED, or ``shared`` beside the repository."""
    folder = Path(os.environ.get("ROUTELLM_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set ROUTELLM_SHARED to the folder with golden/ and data/")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no file system can be mounted here ({error})")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def operations() -> Mapping[str, Operation]:
    """OpenAI's other operations, for a ``LocalModelServer`` of one's own."""
    # Test folders are no packages (importlib mode), so what tests share is loaded by its path.
    found: Mapping[str, Operation] = runpy.run_path(str(Path(__file__).with_name("operation_replies.py")))["OPERATIONS"]
    return found


@pytest.fixture(scope="session")
def local_models(operations: Mapping[str, Operation]) -> Iterator[LocalModelServer]:
    """A running OpenAI-compatible server; see its module for the model names that misbehave."""
    with LocalModelServer(operations=operations) as server:
        yield server


@contextmanager
def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[str]:
    """Run a server in a thread of its own, so that blocking calls reach it too; yield its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread.start()
    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), loop).result(30)}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """Start servers that answer as a function of one's own does; return their base URLs."""
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(answering(handler))


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for variable in list(os.environ):
        if variable.startswith("ROUTELLM_") and variable != "ROUTELLM_SHARED":
            monkeypatch.delenv(variable)
    for key in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
