"""Fixtures for every test: a local OpenAI-compatible server, no keys or settings from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers import BaseTracer, Run
from langchain_openai import ChatOpenAI
from pytest_asyncio import is_async_test

# Before anything imports litellm: it may not look at the network for its price map.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from langchain_routellm import RouteLLMChat

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

NO_WAIT = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0)


class Runs(BaseTracer):
    """Keeps the finished root runs."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


def pytest_configure(config: pytest.Config) -> None:
    # ChatOpenAI and litellm keep asynchronous connections in module-wide caches and never close them; the garbage
    # collector finds them open at the end.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket\.socket .*127\.0\.0\.1:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed transport <_SelectorSocketTransport:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # For the same reason one event loop serves all tests here, as in a program: a connection kept from a closed loop
    # fails when it is used again.
    for item in items:
        if Path(__file__).parent in item.path.parents and is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def local_models() -> Iterator[LocalModelServer]:
    """A running OpenAI-compatible server; see its module for the model names that misbehave."""
    with LocalModelServer() as server:
        yield server


@pytest.fixture
def chat(local_models: LocalModelServer) -> Callable[..., RouteLLMChat]:
    """Builds chat models on the local server: prompts with "hard" in them go to ``big``, the others to ``small``."""

    def build(**options: Any) -> RouteLLMChat:
        router = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)
        if not {"router", "selector"} & set(options):
            options["router"] = router
        named = {"strong": "openai/big", "weak": "openai/small", "api_base": local_models.base_url, "api_key": "local"}
        return RouteLLMChat(**{"threshold": 0.5, "resilience": NO_WAIT, **named, **options})

    return build


@pytest.fixture
def openai(local_models: LocalModelServer) -> Callable[..., ChatOpenAI]:
    """Builds ChatOpenAI models on the local server."""

    def build(model: str, **options: Any) -> ChatOpenAI:
        given = {"base_url": local_models.base_url, "api_key": "local", "stream_usage": True, "max_retries": 0}
        return ChatOpenAI(model=model, **{**given, **options})

    return build


@pytest.fixture
def runs() -> Runs:
    """A tracer: give it as a callback, and read the finished root runs from ``runs.roots``."""
    return Runs()


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("ROUTELLM_", "LANGCHAIN_", "LANGSMITH_", "LC_", "OPENAI_")):
            monkeypatch.delenv(variable)
