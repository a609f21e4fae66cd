"""The real server under uvicorn, in a thread, in front of the local OpenAI-compatible process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from routellm_core.config import RouteLLMConfig, build_controller
from routellm_core.controller import Controller
from routellm_core.server.app import create_app
from routellm_core.server.run import server_config
from routellm_core.server.settings import ServerSettings
from routellm_core.testing.local_handlers import Operation
from routellm_core.testing.local_models import LocalModelServer

UPSTREAM_KEY = "upstream-secret-8f3a"

Serve = Callable[..., "RunningServer"]


class RunningServer:
    """``create_app`` under uvicorn, on a free port of the loopback interface.

    Args:
        controller: decides and names the models.
        settings: of the server.

    Attributes:
        app: the application.
        url: without a path.
        base_url: the same with ``/v1``.
    """

    def __init__(self, controller: Controller, settings: ServerSettings | None = None) -> None:
        self.app: FastAPI = create_app(controller, settings)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.base_url = f"{self.url}/v1"
        config = server_config(self.app, settings or ServerSettings(), log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        self._socket.close()

    def stop(self) -> None:
        """Ask it to stop, as a signal does; what is in progress goes on."""
        self._server.should_exit = True

    @property
    def is_stopping(self) -> bool:
        """Whether it no longer listens."""
        return self._server.should_exit and not self._server.servers[0].is_serving()

    def client(self, **options: Any) -> openai.OpenAI:
        """Return OpenAI's client for it, without retries."""
        return openai.OpenAI(**{"base_url": self.base_url, "api_key": "EMPTY", "max_retries": 0, **options})

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Post to a path under ``/v1``; ``content`` instead of a body is sent as JSON too."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return httpx.post(f"{self.base_url}{path}", headers=headers, timeout=60, **options)

    def chat(self, model: str = "auto", text: str = "Hello!", **fields: Any) -> httpx.Response:
        """Post a chat completion."""
        return self.post("/chat/completions", {"model": model, "messages": user(text), **fields})

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one metric, 0 where it is not there."""
        from prometheus_client.parser import text_string_to_metric_families

        text = httpx.get(f"{self.url}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def built(
    models: LocalModelServer,
    *,
    strong: str | Mapping[str, Any] = "openai/big",
    weak: str | Mapping[str, Any] = "openai/small",
    routers: tuple[str, ...] = ("random",),
    server: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RunningServer:
    """Return a server whose two models are served by ``models``; it is not started yet."""

    def complete(model: str | Mapping[str, Any]) -> dict[str, Any]:
        given = {"model": model} if isinstance(model, str) else dict(model)
        return {"api_base": models.base_url, "api_key": UPSTREAM_KEY, "timeout": 30.0, **given}

    served = {"chat_page": False, **(server or {})}
    if "embedding_model" in served:
        served["embedding_model"] = complete(served["embedding_model"])
    config = RouteLLMConfig.model_validate(
        {
            "models": {"strong": complete(strong), "weak": complete(weak)},
            "fallback": {"wait_initial": 0, "wait_max": 0},
            "server": served,
            **settings,
        }
    )
    return RunningServer(build_controller(config, routers=list(routers)), config.server)


@pytest.fixture(scope="session")
def build() -> Callable[..., RunningServer]:
    """Return :func:`built`, for fixtures of a wider scope than ``serve``."""
    return built


@pytest.fixture
def upstream(operations: Mapping[str, Operation]) -> Iterator[LocalModelServer]:
    """Models of one test's own, whose counters no other test touches."""
    with LocalModelServer(operations=operations) as server:
        yield server


@pytest.fixture
def serve(upstream: LocalModelServer) -> Iterator[Serve]:
    """Start servers, by :func:`built`'s options; they stop at the end of the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(built(upstream, **options))


@pytest.fixture(scope="module", params=["relayed", "litellm"])
def running(request: pytest.FixtureRequest, local_models: LocalModelServer) -> Iterator[RunningServer]:
    """A server whose models are relayed to, and one that reaches the same models through litellm."""
    relay = None if request.param == "relayed" else False
    strong, weak = ({"model": f"openai/{name}", "relay": relay} for name in ("big", "small"))
    embedder = {"model": "openai/embedder", "relay": relay}
    with built(local_models, strong=strong, weak=weak, server={"embedding_model": embedder}) as server:
        yield server


@pytest.fixture
def client(running: RunningServer) -> Iterator[openai.OpenAI]:
    with running.client() as client:
        yield client
