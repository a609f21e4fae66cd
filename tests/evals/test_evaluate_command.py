from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from routellm_core.cli._several_values import spread_values
from routellm_core.cli.evaluate import evaluate_app
from routellm_core.errors import ConfigError
from routellm_core.evals import evaluate as module
from routellm_core.routers import registry


@pytest.fixture(autouse=True)
def _routers(monkeypatch: pytest.MonkeyPatch, length_router: object) -> None:
    monkeypatch.setattr(registry, "_registered", {"length": type(length_router)})


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    path = tmp_path / "my.jsonl"
    rows = [{"prompt": "x" * n, "strong": 1, "weak": n % 2} for n in range(1, 21)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_routellms_flags(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTELLM_DATA_DIR", str(data_dir))
    status = module.main(
        "--routers random length --benchmark mt-bench --overwrite-cache --num-results 5 --random-iters 3 --parallel 2 "
        "--strong-model gpt-4-1106-preview --weak-model mistralai/Mixtral-8x7B-Instruct-v0.1 "
        f"--output {tmp_path} --resamples 20 --cache {tmp_path / 'c.sqlite3'}".split()
    )
    printed = capsys.readouterr().out
    assert status == 0
    assert "random on MT-Bench" in printed
    assert "| length |" in printed
    assert (tmp_path / "mt-bench.png").exists()
    record = json.loads((tmp_path / "mt-bench.json").read_text())
    assert [len(router["rows"]) for router in record["routers"]] == [6, 6]


def test_own_data_needs_no_benchmark_files(own_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = f"--routers length --data {own_data} --output {output} --resamples 20 --no-cache --no-plots".split()
    assert module.main(arguments) == 0
    record = json.loads((output / "my.json").read_text())
    assert record["benchmark"]["prompts"] == 20
    assert record["benchmark"]["weak_quality"] == 50.0
    assert not (output / "my.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--routers length", "give either --benchmark"),
        ("--routers length --benchmark mmlu --data x.jsonl", "give either --benchmark"),
        ("--routers lenght --data {data}", "Did you mean 'length'"),
        ("--routers length --data {data} --num-results 0", "num_results is 0"),
        ("--routers length --data {data} --overwrite-cache random", "not among the routers"),
        ("--routers length --data {data} --strong-price cheap", "price 'cheap'"),
        ("--routers length --benchmark mmlu --data-dir /nowhere", "routellm data download"),
    ],
)
def test_wrong_requests_end_with_one_sentence(
    arguments: str, message: str, own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.main([*arguments.format(data=own_data).split(), "--no-cache"]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_as_a_module(own_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "routellm_core.evals.evaluate", "--routers", "random"]
    command += ["--data", str(own_data), "--output", str(tmp_path), "--resamples", "10", "--no-cache", "--no-plots"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "chance (exact)" in done.stdout


def test_spread_values() -> None:
    assert spread_values(["--routers", "a", "b", "--benchmark", "mmlu"]) == (
        ["--routers", "a", "--routers", "b", "--benchmark", "mmlu"]
    )
    assert spread_values(["--overwrite-cache", "--num-results", "5"]) == ["--num-results", "5"]
    assert spread_values(["generate", "--model", "x"]) == ["generate", "--model", "x"]


def test_typer_command(own_data: Path, tmp_path: Path) -> None:
    arguments = ["--routers", "length", "random", "--data", str(own_data), "--output", str(tmp_path)]
    result = CliRunner().invoke(evaluate_app, [*arguments, "--no-cache", "--no-plots", "--resamples", "10"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "my.json").read_text())
    assert [router["name"] for router in record["routers"]] == ["length", "random"]


def test_typer_command_passes_errors_on() -> None:
    result = CliRunner().invoke(evaluate_app, ["--routers", "random"])
    assert isinstance(result.exception, ConfigError)


def test_importing_evals_is_light() -> None:
    script = (
        "import sys, routellm_core.evals; heavy = {'torch', 'pandas', 'matplotlib', 'litellm', 'scipy', 'sklearn', "
        "'pyarrow', 'openai', 'fastapi'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


def test_without_matplotlib_the_tables_remain(
    own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    request = module.EvaluationRequest(routers=("length",), data=own_data, output=tmp_path / "out", use_cache=False)
    _, files = module.evaluate(request, console=Console(stderr=True))
    assert {file.suffix for file in files} == {".json", ".md", ".csv"}
    assert "no plots" in capsys.readouterr().err
