"""The package as such: its names, its README and example, its place in the namespace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms.function_calling import FunctionCallingLLM

from routellm_core.testing.local_models import LocalModelServer

PACKAGE = Path(__file__).parents[1]
REPOSITORY = PACKAGE.parents[1]


def run(arguments: list[str], server: LocalModelServer, folder: Path) -> str:
    environment = {**os.environ, "OPENAI_API_KEY": "local", "OPENAI_API_BASE": server.base_url}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names() -> None:
    package = import_module("llama_index.llms.routellm")
    assert package.__all__ == ["ResilientLiteLLM", "RouteLLM", "RouteLLMEmbedding", "RoutingDecisionEvent"]
    assert all(hasattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Router'"):
        _ = package.Router
    names = [base.__name__ for base in package.RouteLLM.__mro__]
    assert FunctionCallingLLM.__name__ in names
    assert issubclass(package.RouteLLMEmbedding, BaseEmbedding)


def test_llamahub_metadata_leads_to_the_classes() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    hub = project["tool"]["llamahub"]
    module = import_module(hub["import_path"])
    assert all(hasattr(module, name) for name in hub["class_authors"])
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"] == ["llama_index/"]
    assert any(name.startswith("llama-index-core>=") for name in project["project"]["dependencies"])


@pytest.mark.parametrize("folder", [PACKAGE.parent, PACKAGE, PACKAGE / "llama_index", PACKAGE / "llama_index" / "llms"])
def test_shared_namespaces_stay_open(folder: Path) -> None:
    assert not (folder / "__init__.py").exists(), "it would hide LlamaIndex's other packages"


@pytest.mark.slow
def test_the_readme_runs(local_models: LocalModelServer, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (PACKAGE / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    printed = run(["-c", "\n".join(blocks)], local_models, tmp_path)
    assert "Which file holds the configuration?" in printed
    assert "read the tool's result: It is sunny in Rome. openai/" in printed


@pytest.mark.slow
def test_the_example_runs_offline(local_models: LocalModelServer) -> None:
    printed = run(["-m", "examples.llamaindex_rag"], local_models, REPOSITORY)
    assert "decision: openai/local-weak" in printed
    assert "decision: openai/local-strong" in printed
    assert printed.count("answer:   local-") == 2
