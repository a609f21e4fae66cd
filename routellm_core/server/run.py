"""Running the application under uvicorn: one process or several, a graceful end, settings anew at SIGHUP."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from routellm_core.config import RouteLLMConfig, build_controller
from routellm_core.controller import Controller
from routellm_core.errors import ConfigError, RouteLLMError
from routellm_core.server.app import create_app
from routellm_core.server.connections import guarded, most_concurrent, raise_descriptor_limit
from routellm_core.server.metrics import MULTIPROCESS_FOLDER
from routellm_core.server.records import write_request_lines
from routellm_core.server.settings import ServerSettings
from routellm_core.server.terminal import Terminal

__all__ = ["AppFactory", "run_server", "server_config"]

logger = logging.getLogger(__name__)

_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class AppFactory:
    """Builds the application, in every worker process anew; can be pickled.

    Attributes:
        read_settings: reads the configuration, as the command line amends it.
        routers: the routers to load, the first being the default; None takes the configured one.
        verbose: log every request and decision; never a prompt.
    """

    read_settings: Callable[[], RouteLLMConfig]
    routers: tuple[str, ...] | None = None
    verbose: bool = False

    def __call__(self) -> FastAPI:
        """Return the application."""
        logging.basicConfig(level=logging.INFO if self.verbose else logging.WARNING, format=_LOG_FORMAT)
        write_request_lines()
        try:
            return create_app(*self.load(), reload=self.load)
        except RouteLLMError as error:
            if multiprocessing.parent_process() is None:
                raise
            logger.error("%s", error)
            sys.exit(STARTUP_FAILURE)  # by which the parent knows that starting it again is no use

    def load(self) -> tuple[Controller, ServerSettings]:
        """Read the settings and load the routers.

        Raises:
            RouteLLMError: a setting is wrong, or a router cannot be loaded.
        """
        config = self.read_settings()
        routers = list(self.routers) if self.routers else None
        return build_controller(config, routers=routers), config.server


def run_server(
    factory: AppFactory,
    settings: ServerSettings,
    *,
    workers: int = 1,
    started: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve until a signal says stop; then answers in progress are finished.

    Args:
        factory: builds the application.
        settings: where to listen, and for how long to finish.
        workers: processes that share the port.
        started: told the base URL once the port is taken.

    Raises:
        ConfigError: the address cannot be listened on.
        SystemExit: the worker processes cannot start.
    """
    raise_descriptor_limit()
    if (most := most_concurrent(settings)) < settings.max_concurrent:
        logger.warning("too few descriptors for max_concurrent: %d requests at a time; raise `ulimit -Hn`", most)
    config = server_config(
        factory,
        settings,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        log_level="info" if factory.verbose else "warning",
        access_log=False,
    )
    try:
        listener = config.bind_socket()
    except SystemExit:  # uvicorn has logged why
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.port}; is it in use? Choose another with --port"
        ) from None
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


def server_config(app: Any, settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for an application of this server: its limits of time and connections.

    Args:
        app: the application, or what makes it.
        settings: of the server.
        options: more of uvicorn's.
    """
    return uvicorn.Config(
        app,
        http=guarded(settings),  # type: ignore[arg-type]
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        server_header=False,
        **options,
    )


class _Workers(Multiprocess):
    def __init__(self, *args: Any, **options: Any) -> None:
        self._terminal = Terminal()
        super().__init__(*args, **options)

    def run(self) -> None:
        """Run until a signal says stop; fail where the workers cannot start."""
        super().run()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            sys.exit(1)

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, and no longer count what they had in progress."""
        before = [process.pid for process in self.processes]
        super().keep_subprocess_alive()
        for pid in {*before} - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def handle_hup(self) -> Any:
        """Let each worker read its settings anew; uvicorn would restart them, faulty settings included."""
        if self._terminal.has_closed:
            self.should_exit.set()
            return
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)
