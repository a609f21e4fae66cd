"""``routellm serve``: the OpenAI-compatible server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from routellm_core._optional import import_extra
from routellm_core.cli._console import errors, say
from routellm_core.cli._options import Config, StrongModel, Threshold, WeakModel, configuration

_PACKAGES = ("fastapi", "uvicorn", "aiohttp", "prometheus_client", "limits")


def serve(
    routers: Annotated[
        list[str] | None, typer.Option(help="Routers to load, the first being the default: mf random.")
    ] = None,
    threshold: Threshold = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    base_url: Annotated[str | None, typer.Option(help="Base URL of both models' server.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Key for both models; better in the environment.")] = None,
    config: Config = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every one.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="6060")] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="Keys of clients, one per line; see also ROUTELLM_SERVER_API_KEYS.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log requests and decisions; never prompts.")] = False,
) -> None:
    """Serve the OpenAI API; each request is routed. A chat page is at the root.

    Model names: router-NAME-THRESHOLD, such as router-mf-0.116 or router-mf-50%; auto; or one of the two models.
    """
    for package in _PACKAGES:
        import_extra(package, extra="serve", purpose="routellm serve")
    from routellm_core.server.run import AppFactory, run_server

    read_settings = partial(
        configuration,
        config,
        router=routers[0] if routers else None,
        threshold=threshold,
        strong_model=strong_model,
        weak_model=weak_model,
        api_base=base_url,
        api_key=api_key,
        server={"host": host, "port": port, "api_keys_file": api_keys_file},
    )
    factory = AppFactory(read_settings, tuple(routers) if routers else None, verbose)
    settings = read_settings()
    settings.server.client_keys()  # a faulty file is told of before anything starts
    names = ", ".join(routers or [settings.router])
    run_server(factory, settings.server, workers=max(1, workers), started=partial(_announce, settings, names))


def _announce(settings: Any, names: str, url: str) -> None:
    models = settings.models
    errors.print(
        f"Serving {escape(names)} at [bold]{escape(url)}/v1[/] and a chat page at [bold]{escape(url)}/[/]\n"
        f"  strong  {escape(models.strong.model)}\n  weak    {escape(models.weak.model)}",
        markup=True,
        soft_wrap=True,
    )
    is_local = settings.server.host in ("127.0.0.1", "localhost", "::1")
    if not is_local and not settings.server.client_keys():
        say(
            "yellow",
            "warning:",
            "the server can be reached from other machines and asks for no key; set ROUTELLM_SERVER_API_KEYS or "
            "server.api_keys",
        )
