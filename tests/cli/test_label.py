"""``routellm data label`` as a user runs it, against the local models, and what training makes of its rows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from routellm_core.testing.local_models import LocalModelServer

CONFIG = """
models:
  strong: {{model: openai/strong, api_base: {url}, api_key: none}}
  weak: {{model: openai/{weak}, api_base: {url}, api_key: none}}
routers:
  mf: {{checkpoint_path: my-router}}
"""


def configured(folder: Path, server: LocalModelServer, weak: str = "weak") -> None:
    (folder / "config.yaml").write_text(CONFIG.format(url=server.base_url, weak=weak))


def asked(folder: Path, count: int) -> None:
    """Sums, where only the strong model's answer holds the reference, and greetings, where both do."""
    rows = [
        {"prompt": f"Compute {n} * {n + 7}.", "right": "strong answers"}
        if n % 2
        else {"prompt": f"Say hello to guest number {n}.", "right": "answers"}
        for n in range(count)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def arguments(server: LocalModelServer, *more: str, judge: str = "judge") -> list[str]:
    words = [
        "data",
        "label",
        "--config",
        "config.yaml",
        "--prompts",
        "prompts.jsonl",
        "--output",
        "labelled.jsonl",
        "--attempts",
        "1",
    ]
    return [*words, "--judge-model", f"openai/{judge}", "--judge-api-base", server.base_url, *KEY, *more]


KEY = ("--judge-api-key", "none")


def test_label_train_and_route(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models)
    asked(tmp_path, 120)
    prices = ["--strong-price", "10,30", "--weak-price", "1,2", "--judge-price", "5,5"]
    done = routellm(*arguments(local_models, "--reference-column", "right", "--yes", *prices))
    assert done.returncode == 0, done.stderr
    assert "120 of 120 prompts have no label yet" in done.stderr
    assert "estimated: $" in done.stderr
    assert "strong better 60, tie 60, weak better 0" in done.stdout
    assert "spent: $0." in done.stdout
    command = next(line for line in done.stdout.splitlines() if line.startswith("next: routellm "))
    trained = routellm(*command.removeprefix("next: routellm ").split())
    assert trained.returncode == 0, trained.stderr
    assert "120 rows, 120 distinct prompts: 60 strong better, 60 equal" in trained.stdout
    routed = routellm("route", "--config", "config.yaml", "--threshold", "0.5", "Compute 31 * 38.")
    assert routed.returncode == 0, routed.stderr
    assert "strong" in routed.stdout
    again = routellm(*arguments(local_models, "--reference-column", "right"))  # nothing to do: nothing to confirm
    assert again.returncode == 0, again.stderr
    assert "(0 new, 120 from before)" in again.stdout


def test_unknown_prices_are_said_and_a_no_stops(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models)
    asked(tmp_path, 3)
    done = routellm(*arguments(local_models), stdin="n\n")
    assert done.returncode == 1
    assert "the price of the judge model 'openai/judge' is not known" in done.stderr
    assert "Start?" in done.stderr
    assert not (tmp_path / "labelled.jsonl").exists()
    refused = routellm(*arguments(local_models, "--yes", "--max-cost", "1"))
    assert refused.returncode == 2
    assert "--max-cost cannot be kept" in refused.stderr
    assert not (tmp_path / "labelled.jsonl").exists()


def test_an_estimate_over_the_budget_is_refused(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models)
    asked(tmp_path, 10)
    prices = ["--strong-price", "10,30", "--weak-price", "1,2", "--judge-price", "5,5"]
    done = routellm(*arguments(local_models, "--yes", "--max-cost", "0.01", *prices))
    assert done.returncode == 2
    assert "more than --max-cost 0.01" in done.stderr
    assert not (tmp_path / "labelled.jsonl").exists()


def test_failures_set_the_exit_status(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models, weak="fail-500")
    asked(tmp_path, 2)
    done = routellm(*arguments(local_models, "--yes"))
    assert done.returncode == 1
    assert "2 prompts failed, the first (prompts.jsonl, line " in done.stderr
    assert "asked to fail" in done.stderr


def dead_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_dead_port_ends_with_a_summary(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models)
    asked(tmp_path, 300)
    config = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace(local_models.base_url, f"http://127.0.0.1:{dead_port()}/v1"))
    done = routellm(*arguments(local_models, "--yes", "--max-failures", "5"))
    assert done.returncode == 1
    assert "labels: 0 (0 new, 0 from before)" in done.stdout
    assert "prompts were not finished: 5 failures in a row, the last one: model " in done.stderr
    assert "Run the command again to go on." in done.stderr
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr


def test_a_wrong_key_ends_with_what_to_do(routellm: Any, tmp_path: Path) -> None:
    with LocalModelServer(api_key="right") as server:
        configured(tmp_path, server)
        asked(tmp_path, 50)
        done = routellm(*arguments(server, "--yes"))
    assert done.returncode == 1
    assert "the model refuses every call: model " in done.stderr
    assert "Set the provider's key" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", [".", "prompts.jsonl/labelled.jsonl", "/proc/nowhere/labelled.jsonl"])
def test_an_unusable_output_is_refused_before_anything_is_paid(
    routellm: Any, local_models: LocalModelServer, tmp_path: Path, place: str
) -> None:
    configured(tmp_path, local_models)
    asked(tmp_path, 3)
    words = arguments(local_models, "--yes")
    words[words.index("labelled.jsonl")] = place
    before = len(local_models.requests)
    done = routellm(*words)
    assert done.returncode == 2
    assert "is a folder" in done.stderr or "nothing can be written at" in done.stderr
    assert len(local_models.requests) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_two_runs_on_one_output_do_not_pay_twice(routellm: Any, tmp_path: Path) -> None:
    with LocalModelServer() as server:
        configured(tmp_path, server, weak="slow-30")
        asked(tmp_path, 2)
        words = [str(Path(sys.executable).with_name("routellm")), *arguments(server, "--yes")]
        with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ) as first:
            deadline = time.monotonic() + 60
            while len(server.requests) < 4 and time.monotonic() < deadline:
                time.sleep(0.02)
            second = routellm(*arguments(server, "--yes"))
            assert second.returncode == 2
            assert "another run is writing to labelled.jsonl" in second.stderr
            assert len(server.requests) == 4
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=60)
        assert first.returncode == 130


def test_prompts_from_standard_input(routellm: Any, local_models: LocalModelServer, tmp_path: Path) -> None:
    configured(tmp_path, local_models)
    words = arguments(local_models)
    words[words.index("prompts.jsonl")] = "-"
    assert "add --yes" in routellm(*words, stdin="Why?\n").stderr
    done = routellm(*words, "--yes", stdin="Why?\nHow?\nWhy?\n")
    assert done.returncode == 0, done.stderr
    assert "1 rows repeat another row" in done.stderr
    assert "strong better 2, tie 0" in done.stdout
    assert "training needs at least 50 labels" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupted_run_loses_nothing(tmp_path: Path) -> None:
    with LocalModelServer() as server:
        configured(tmp_path, server, weak="slow-0.05")
        asked(tmp_path, 60)
        words = [str(Path(sys.executable).with_name("routellm")), *arguments(server, "--yes", "--concurrency", "1")]
        with subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            output = tmp_path / "labelled.jsonl"
            while process.poll() is None and not (output.exists() and output.read_text().count("\n") >= 2):
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "stopped; what is finished is in labelled.jsonl" in said
        finished = [json.loads(line) for line in output.read_text().splitlines()]
        assert 2 <= len(finished) < 60
        before = [body for body in server.requests if body["model"] == "judge"]
        assert len(before) <= 2 * len(finished) + 2
