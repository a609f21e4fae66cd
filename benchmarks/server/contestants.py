"""The servers that are measured: ours, the bare relay, and, where the caller has them, RouteLLM's and litellm's."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from benchmarks.server.processes import Contestant

__all__ = ["add_reference_options", "bare_relay", "litellm_proxy", "ours", "ours_with_embedding_calls", "routellm"]

_MODELS = [
    *("--strong-model", "openai/strong", "--weak-model", "openai/weak"),
    *("--base-url", "{backend}", "--api-key", "local"),
]
_PUBLISHED = "routellm/mf_gpt4_augmented"
_PROXY_CONFIG = """
model_list:
  - model_name: local
    litellm_params: {model: openai/local, api_base: os.environ/PROXY_BACKEND, api_key: local}
"""


def ours() -> Contestant:
    """Return our server with the ``mf`` that ships."""
    return Contestant("ours", "router-mf-0.5", _serve(), {})


def ours_with_embedding_calls(checkpoint: Path, folder: Path) -> Contestant:
    """Return our server with an ``mf`` in RouteLLM's layout, which embeds every prompt over HTTP.

    Args:
        checkpoint: the folder of ``mf``.
        folder: takes the configuration and the cache of embeddings.
    """
    config = folder / "ours.yaml"
    embedder = {"name": "litellm/text-embedding-3-small", "api_base": "${EMBEDDINGS}"}
    options = {"checkpoint_path": str(checkpoint.resolve()), "embedder": embedder}
    config.write_text(json.dumps({"routers": {"mf": options}}))  # JSON is YAML
    environment = {"EMBEDDINGS": "{backend}", "OPENAI_API_KEY": "local", "XDG_CACHE_HOME": str(folder)}
    return Contestant("ours", "router-mf-0.5", [*_serve(), "--config", str(config)], environment)


def _serve() -> list[str]:
    routellm = str(Path(sys.executable).with_name("routellm"))
    return [routellm, "serve", "--routers", "mf", "--port", "{port}", *_MODELS]


def bare_relay() -> Contestant:
    """Return starlette and aiohttp without any routing: the floor."""
    command = [sys.executable, "-m", "benchmarks.server.relay", "--port", "{port}", "--backend", "{backend}"]
    return Contestant("bare relay", "local", command, {})


def add_reference_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where RouteLLM and litellm's proxy are; those that are not given are left out."""
    parser.add_argument("--reference-path", type=Path, help="a checkout of lm-sys/RouteLLM")
    parser.add_argument("--reference-python", type=Path, help="an interpreter with what it needs")
    parser.add_argument("--reference-checkpoint", type=Path, help="a checkpoint of its mf; by default it downloads one")
    parser.add_argument("--litellm", type=Path, help="`litellm` of an environment with litellm[proxy]")


def routellm(arguments: argparse.Namespace, folder: Path) -> Contestant:
    """Return RouteLLM's own server; ``folder`` takes its configuration."""
    checkpoint = arguments.reference_checkpoint.resolve() if arguments.reference_checkpoint else _PUBLISHED
    config = folder / "routellm.yaml"
    config.write_text(f"mf:\n  checkpoint_path: {checkpoint}\n")
    python = str(arguments.reference_python.absolute()) if arguments.reference_python else sys.executable
    command = [python, "-m", "routellm.openai_server", "--routers", "mf", "--config", str(config), "--port", "{port}"]
    environment = {
        "PYTHONPATH": str(arguments.reference_path.resolve()),
        "OPENAI_BASE_URL": "{backend}",  # its embeddings; its models get --base-url
        "OPENAI_API_KEY": "local",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return Contestant("RouteLLM", "router-mf-0.5", [*command, *_MODELS], environment)


def litellm_proxy(arguments: argparse.Namespace, folder: Path) -> Contestant:
    """Return litellm's proxy before one model; ``folder`` takes its configuration."""
    config = folder / "litellm.yaml"
    config.write_text(_PROXY_CONFIG)
    command = [str(arguments.litellm.absolute()), "--config", str(config), "--port", "{port}", "--host", "127.0.0.1"]
    key = f"sk-{secrets.token_hex(16)}"  # it does not start without one
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
        "PROXY_BACKEND": "{backend}",
    }
    return Contestant("litellm proxy", "local", command, environment, key)
