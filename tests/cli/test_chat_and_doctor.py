from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from routellm_core.testing.local_models import LocalModelServer

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MODELS = ["--strong-model", "openai/big", "--weak-model", "openai/small"]
KEY = {"OPENAI_API_KEY": "local"}


def test_one_message_is_answered_with_its_decision(routellm: Run, local_models: LocalModelServer) -> None:
    for extra in ([], ["--no-stream"]):
        done = routellm(
            "chat", "Hello you", *MODELS, "--api-base", local_models.base_url, "-t", "0", *extra, environment=KEY
        )
        assert done.returncode == 0, done.stderr
        assert "[strong: openai/big] score" in done.stdout
        assert "big answers: Hello you" in done.stdout


def test_a_conversation_keeps_its_history_and_survives_an_error(routellm: Run, local_models: LocalModelServer) -> None:
    before = len(local_models.requests)
    lines = "first\nsecond\n/reset\nthird\n/quit\n"
    done = routellm("chat", *MODELS, "--api-base", local_models.base_url, "--system", "S", stdin=lines, environment=KEY)
    assert done.returncode == 0, done.stderr
    sizes = [len(request["messages"]) for request in local_models.requests[before:]]
    assert sizes == [2, 4, 2]
    failing = ["--strong-model", "openai/fail-400", "--weak-model", "openai/fail-400"]
    done = routellm("chat", *failing, "--api-base", local_models.base_url, stdin="one\ntwo\n", environment=KEY)
    assert done.returncode == 0
    assert done.stdout.count("status 400") == 2


def test_without_a_key_the_error_says_what_to_set(routellm: Run) -> None:
    done = routellm("chat", "Hello", *MODELS)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_what_each_router_needs(routellm: Run) -> None:
    done = routellm("doctor")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "litellm" in text
    for router in ("random", "mf", "sw_ranking", "bert", "causal_llm"):
        assert router in text
    assert "broken" not in text


BROKEN = "raise ImportError('cannot import name [x] from openai')\n"
"""A package that is installed and fails while it is imported, as with a dependency of another version."""


def test_doctor_shows_square_brackets_as_they_are(routellm: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "models:\n  strong: {model: 'openai/[bold]big[/bold]', api_base: 'http://[::1]:1/v1'}\n  weak: {model: w}\n"
        "routers:\n  mf: {checkpoint_path: '[red]nowhere[/red]'}\n"
    )
    (tmp_path / "fake" / "torch-0.dist-info").mkdir(parents=True)
    done = routellm("doctor", "--config", "config.yaml")
    assert done.returncode == 0, done.stderr
    assert "openai/[bold]big[/bold]" in done.stdout
    assert "http://[::1]:1/v1" in done.stdout
    assert "[red]nowhere[/red]" in done.stdout


def test_doctor_without_torch_names_the_extra(routellm: Run, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m; found = m.version\n"
        "def version(name):\n"
        "    if name == 'torch': raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.version = version\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    done = routellm("doctor", environment={"PYTHONPATH": str(tmp_path)})
    assert "CPU with numpy (torch is not installed; extra [torch])" in done.stdout


def test_a_broken_sdk_is_named(routellm: Run, tmp_path: Path, local_models: LocalModelServer) -> None:
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / "__init__.py").write_text(BROKEN)
    broken = {"PYTHONPATH": str(tmp_path), **KEY}
    done = routellm("doctor", environment=broken)
    assert done.returncode == 0, done.stderr
    assert "calls of models: broken: " in done.stdout
    assert "litellm" in done.stdout
    assert "cannot import name [x] from openai" in done.stdout
    models = ["--strong-model", "anthropic/big", "--weak-model", "anthropic/small"]
    for command in (
        ("chat", "Hello", *models),
        ("data", "label", *models, "--prompts", "p.txt", "--output", "l.jsonl", "--judge-model", "gemini/j", "--yes"),
    ):
        (tmp_path / "p.txt").write_text("Why?\n")
        done = routellm(*command, environment=broken)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr, done.stderr
        assert "litellm" in done.stderr
        assert "cannot import name [x] from openai" in done.stderr
        assert "status 502" not in done.stderr


def test_adapters_say_what_calls_models_by_name(routellm: Run) -> None:
    if "langchain" not in [point.name for point in entry_points(group="routellm.adapters")]:
        pytest.skip("langchain-routellm is not installed")
    said = routellm("doctor", environment={"COLUMNS": "120"}).stdout
    rows = said[said.index("called by") :].splitlines()
    assert "langchain-openai" in next(row for row in rows if " langchain " in row)
