"""docs/server.md: its commands start, its programs run, its lists are complete."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from routellm_core.config import RouteLLMConfig, load_config
from routellm_core.server.settings import ServerSettings
from routellm_core.testing.local_models import LocalModelServer

ADDRESS = "http://127.0.0.1:6060"


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "docs" / "server.md").read_text(encoding="utf-8")


def blocks(guide: str, kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.fixture(scope="module")
def server(build: Any, local_models: LocalModelServer) -> Any:
    models = {"strong": "openai/gpt-5.4", "weak": "openai/gpt-5.4-nano"}
    with build(local_models, **models, routers=("mf",)) as running:
        yield running


def test_its_programs_run(guide: str, server: Any) -> None:
    code = "\n".join(blocks(guide, "python")).replace(ADDRESS, server.url)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer, decision, story = done.stdout.splitlines()
    assert answer.endswith("answers: Hello!")
    assert "the threshold 0.116" in decision
    assert story.endswith("answers: Tell me a story.")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_its_requests_are_answered(guide: str, server: Any) -> None:
    (script,) = [block for block in blocks(guide, "sh") if "curl" in block]
    script = "set -e\n" + script.replace("curl -s", "curl --fail -s").replace(ADDRESS, server.url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"tier":"strong"' in done.stdout
    assert "router-mf-0.116" in done.stdout
    assert "routellm_decisions_total" in done.stdout


def test_its_commands_start_a_server(guide: str) -> None:
    for command in blocks(guide, "serve"):
        program, *arguments = shlex.split(command)
        start = {"routellm": ["-c", "from routellm_core.cli import main; main()"], "python": []}[program]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *start, *arguments, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        try:
            assert process.stderr is not None
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://127[^/]+", line)))
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                assert client.get(f"{url}/ready", timeout=60).json()["routers"][0] == "mf"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def test_its_settings_are_read(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALICE_KEY", "a")
    monkeypatch.setenv("BOB_KEY", "b")
    (tmp_path / "keys").write_text("c\n")
    (block,) = blocks(guide, "yaml")
    (tmp_path / "config.yaml").write_text(block.replace("/run/secrets/keys", str(tmp_path / "keys")))
    keys = load_config(tmp_path / "config.yaml").server.client_keys()
    assert [key.name for key in keys] == ["alice", "key-2", "key-3"]
    assert keys[0].dollars_per_day == 5


def test_the_example_names_every_setting_with_its_default(repository: Path) -> None:
    text = (repository / "config.example.yaml").read_text(encoding="utf-8")
    section = text[text.index("\nserver:") :]
    assert [name for name in ServerSettings.model_fields if f" {name}:" not in section] == []
    assert RouteLLMConfig.model_validate({"server": yaml.safe_load(section)["server"]}).server == ServerSettings()


def test_it_lists_every_metric_path_and_header(guide: str, server: Any) -> None:
    answer = server.chat()
    headers = [name for name in answer.headers if name.startswith("x-routellm")]
    assert headers
    metrics = re.findall(r"^# TYPE (\S+)", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    named = [*headers, *(name for name in metrics if not name.endswith("_created")), *paths]
    assert [name for name in named if name.replace("{model}", "{id}") not in guide] == []
