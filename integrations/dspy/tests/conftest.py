"""Fixtures for every test: a local OpenAI-compatible server, a router that is told its scores, no keys, no disk."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_asyncio import is_async_test

# Before anything imports litellm: it may not look at the network for its price map.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy_routellm import RouteLLM

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

# Test folders are no packages (importlib mode), so what tests share is loaded by its path.
for _name in ("tasks", "adapter_replies"):
    _spec = importlib.util.spec_from_file_location(f"dspy_routellm_{_name}", Path(__file__).with_name(f"{_name}.py"))
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_spec.name])

ONCE = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0, cooldown_after=0)


def pytest_configure(config: pytest.Config) -> None:
    # litellm keeps asynchronous connections in a module-wide cache and never closes them; the garbage collector finds
    # them open at the end.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket\.socket .*127\.0\.0\.1:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed transport <_SelectorSocketTransport:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed event loop:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # For the same reason one event loop serves all tests here: a connection kept from a closed loop fails later.
    for item in items:
        if Path(__file__).parent in item.path.parents and is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def local_models() -> Iterator[LocalModelServer]:
    """A running OpenAI-compatible server; see its module for the model names that misbehave."""
    with LocalModelServer(reply=sys.modules["dspy_routellm_adapter_replies"].adapter_reply) as server:
        yield server


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith("ROUTELLM_"):
            monkeypatch.delenv(variable)
    for key in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    dspy.cache.reset_memory_cache()


def stars_are_hard(text: str) -> float:
    """Multiplication needs the strong model; the local weak one gets it wrong."""
    return 0.9 if "*" in text else 0.1


@pytest.fixture
def make_lm(local_models: LocalModelServer) -> Callable[..., RouteLLM]:
    """Build a routing LM over the local models; multiplications go to ``big``, the rest to ``small``."""

    def make(strong: Any = "openai/big", weak: Any = "openai/small", **options: Any) -> RouteLLM:
        defaults: dict[str, Any] = {
            "router": FixedScoreRouter(score=stars_are_hard),
            "threshold": 0.5,
            "api_base": local_models.base_url,
            "api_key": "local",
            "resilience": ONCE,
        }
        return RouteLLM(strong=strong, weak=weak, **{**defaults, **options})

    return make


@pytest.fixture
def lm(make_lm: Callable[..., RouteLLM]) -> RouteLLM:
    return make_lm()


@pytest.fixture
def asked() -> Callable[[RouteLLM], list[str]]:
    """The texts that an LM's router scored, in order."""
    return lambda lm: [text for batch in lm.routing.router.batches for text in batch]  # type: ignore[attr-defined]
