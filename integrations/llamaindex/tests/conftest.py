"""Fixtures for every test: a local OpenAI-compatible server, real documents, nothing from the environment."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_asyncio import is_async_test

# Before anything imports litellm: it may not look at the network for its price map.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.node_parser import SentenceSplitter
from llama_index.llms.routellm import RouteLLM, RouteLLMEmbedding

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

REPOSITORY = Path(__file__).parents[3]
# Test folders are no packages (importlib mode), so what tests share is loaded by its path.
_prompted_reply = runpy.run_path(str(Path(__file__).with_name("prompted_replies.py")))["prompted_reply"]
NO_WAIT = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0, cooldown_after=0)


def pytest_configure(config: pytest.Config) -> None:
    # litellm keeps asynchronous connections in a module-wide cache and never closes them; the garbage collector finds
    # them open at the end.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket\.socket .*127\.0\.0\.1:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed transport <_SelectorSocketTransport:ResourceWarning")
    # LlamaIndex's Memory leaves its in-memory database open, and the collector comes to it in some later test.
    config.addinivalue_line("filterwarnings", r"ignore:<aiosqlite\.core\.Connection object:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # For the same reason one event loop serves all tests here, as in a program: a connection kept from a closed loop
    # fails when it is used again.
    for item in items:
        if Path(__file__).parent in item.path.parents and is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def local_models() -> Iterator[LocalModelServer]:
    """A running OpenAI-compatible server; see its module for the model names that misbehave."""
    with LocalModelServer(reply=_prompted_reply) as server:
        yield server


class Build:
    """Builds LLMs on the local server: questions with "hard" in them go to ``big``, the others to ``small``.

    ``scored`` holds the texts that were routed on, ``answered`` the models that were called, in order.
    """

    def __init__(self, server: LocalModelServer) -> None:
        self._server = server
        self._start = len(server.requests)
        self.router = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)

    def __call__(self, **options: Any) -> RouteLLM:
        if not {"router", "selector"} & set(options):
            options["router"] = self.router
        named = {"strong": "openai/big", "weak": "openai/small", "api_base": self._server.base_url, "api_key": "local"}
        return RouteLLM(**{"threshold": 0.5, "resilience": NO_WAIT, **named, **options})

    @property
    def scored(self) -> list[str]:
        return [prompt for batch in self.router.batches for prompt in batch]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self._server.requests[self._start :]

    @property
    def answered(self) -> list[str]:
        return [request["model"] for request in self.requests]


@pytest.fixture
def build(local_models: LocalModelServer) -> Build:
    return Build(local_models)


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """This repository's own documentation."""
    paths = [REPOSITORY / "docs" / f"{name}.md" for name in ("configuration", "routers", "python_sdk")]
    return [Document(text=path.read_text(encoding="utf-8"), metadata={"file": path.name}) for path in paths]


@pytest.fixture(scope="session")
def index(documents: Sequence[Document]) -> VectorStoreIndex:
    """The documentation, indexed with the shipped embedder."""
    splitter = SentenceSplitter(chunk_size=256, chunk_overlap=0)
    return VectorStoreIndex.from_documents(documents, embed_model=RouteLLMEmbedding(), transformations=[splitter])


class Recorder(BaseEventHandler):
    """Keeps the events of LlamaIndex's instrumentation."""

    events: list[Any] = []  # noqa: RUF012 (a pydantic field)

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        self.events.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    root = get_dispatcher()
    handler = Recorder()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in list(os.environ):
        if variable.startswith(("ROUTELLM_", "OPENAI_")):
            monkeypatch.delenv(variable)
    yield
    for name in ("_llm", "_embed_model", "_callback_manager"):
        setattr(Settings, name, None)
