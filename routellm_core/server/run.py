"""Running the application under uvicorn: one process or several, a graceful end, settings anew at SIGHUP."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from routellm_core.config import RouteLLMConfig, build_controller
from routellm_core.controller import Controller
from routellm_core.server.app import create_app
from routellm_core.server.metrics import MULTIPROCESS_FOLDER
from routellm_core.server_settings import ServerSettings

__all__ = ["AppFactory", "run_server"]


@dataclass(frozen=True)
class AppFactory:
    """Builds the application, in every worker process anew; can be pickled.

    Attributes:
        read_settings: reads the configuration, as the command line amends it.
        routers: the routers to load, the first being the default; None takes the configured one.
    """

    read_settings: Callable[[], RouteLLMConfig]
    routers: tuple[str, ...] | None = None

    def __call__(self) -> FastAPI:
        """Return the application."""
        return create_app(*self.load(), reload=self.load)

    def load(self) -> tuple[Controller, ServerSettings]:
        """Read the settings and load the routers.

        Raises:
            RouteLLMError: a setting is wrong, or a router cannot be loaded.
        """
        config = self.read_settings()
        routers = list(self.routers) if self.routers else None
        return build_controller(config, routers=routers), config.server


def run_server(
    factory: AppFactory, settings: ServerSettings, *, workers: int = 1, verbose: bool = False,
    started: Callable[[str], None] = lambda _url: None,
) -> None:  # fmt: skip
    """Serve until a signal says stop; then answers in progress are finished.

    Args:
        factory: builds the application.
        settings: where to listen, and for how long to finish.
        workers: processes that share the port.
        verbose: log every request and decision; never a prompt.
        started: told the base URL once the port is taken.

    Raises:
        SystemExit: the port is taken.
    """
    config = uvicorn.Config(
        factory,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        log_level="info" if verbose else "warning",
        access_log=verbose,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        server_header=False,
    )
    listener = config.bind_socket()
    host, port = listener.getsockname()[:2]
    started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if workers <= 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory(prefix="routellm-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder  # before the workers import prometheus_client
        try:
            _Workers(config, sockets=[listener]).run()
        finally:
            del os.environ[MULTIPROCESS_FOLDER]


class _Workers(Multiprocess):
    def handle_hup(self) -> Any:
        """Let each worker read its settings anew; uvicorn would restart them, faulty settings included."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)
