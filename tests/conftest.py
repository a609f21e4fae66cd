"""Fixtures for every test: no network but loopback, no foreign caches, no keys from the environment."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Before anything imports litellm or a hub client: neither may look at the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"

from routellm_core.testing.local_models import LocalModelServer

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


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def local_models() -> Iterator[LocalModelServer]:
    """A running OpenAI-compatible server; see its module for the model names that misbehave."""
    with LocalModelServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for variable in list(os.environ):
        if variable.startswith("ROUTELLM_") and variable != "ROUTELLM_SHARED":
            monkeypatch.delenv(variable)
    for key in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
