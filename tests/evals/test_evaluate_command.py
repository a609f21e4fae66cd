from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from routellm_core.cli import evaluate as module
from routellm_core.cli._options import spread_values
from routellm_core.cli.evaluate import evaluate_app
from routellm_core.errors import ConfigError
from routellm_core.evals.evaluate import main
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


def run_main(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_routellms_flags(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTELLM_DATA_DIR", str(data_dir))
    status = run_main(
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
    assert run_main(arguments) == 0
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
    assert run_main([*arguments.format(data=own_data).split(), "--no-cache"]) == 2
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
    output = tmp_path / "out"
    assert run_main(f"--routers length --data {own_data} --output {output} --no-cache --resamples 10".split()) == 0
    assert {file.suffix for file in output.iterdir()} == {".json", ".jsonl", ".md", ".csv"}
    assert "no plots" in capsys.readouterr().err


def evaluated(rows: list[dict[str, object]], tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Evaluate on these rows as a user does."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = [str(Path(sys.executable).with_name("routellm")), "evaluate", "--data", str(data)]
    command += ["--output", str(tmp_path / "out"), "--no-plots", "--resamples", "20", *more]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)


def test_equal_models_have_no_gap_and_no_comparison(tmp_path: Path) -> None:
    rows = [{"prompt": "why " * n, "strong": n % 2, "weak": (n + 1) % 2} for n in range(1, 41)]
    done = evaluated(rows, tmp_path, "--routers", "random", "mf", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert "strong and weak are equally good on these prompts (50.000)" in done.stderr
    assert "nan" not in done.stdout.lower().replace("finance", "")
    assert "excludes 0" not in done.stdout
    assert json.loads((tmp_path / "out" / "rows.json").read_text())["notes"]


def test_a_pair_the_wrong_way_round_is_noticed(tmp_path: Path) -> None:
    rows = [{"prompt": "why " * n, "strong": n % 2, "weak": 1} for n in range(1, 41)]
    done = evaluated(
        rows, tmp_path, "--routers", "random", "--strong-model", "tiny", "--weak-model", "big", "--no-cache"
    )
    assert done.returncode == 0, done.stderr
    assert "the strong model, tiny, is worse on these prompts than the weak one, big (50.000 against 100.000)" in (
        done.stderr
    )
    assert "swap the two" in (tmp_path / "out" / "rows.md").read_text()


def test_rows_and_the_worst_of_them(own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The weak model fails on every even length; the length router sends the longest half to the strong one.
    common = f"--routers length --data {own_data} --output {tmp_path} --no-cache --no-plots --resamples 10".split()
    assert run_main([*common, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 20
    row = rows[1]
    assert row["prompt"] == "xx"
    assert (row["decision"], row["strong"], row["weak"], row["lost"], row["wrong"]) == (
        "weak", 100.0, 0.0, 100.0, "quality lost"
    )  # fmt: skip
    assert row["score"] == pytest.approx(2 / 302)
    assert [row["decision"] for row in rows] == ["weak"] * 10 + ["strong"] * 10
    assert sum(row["wrong"] == "strong not needed" for row in rows) == 5
    assert [json.loads(line) for line in (tmp_path / "my_prompts.jsonl").read_text().splitlines()] == rows
    assert run_main([*common, "--json", "--worst", "6"]) == 0
    worst = json.loads(capsys.readouterr().out)["rows"]
    assert [len(row["prompt"]) for row in worst] == [2, 4, 6, 8, 10, 19]  # the surest mistake first
    assert run_main([*common, "--worst", "1"]) == 0
    printed = capsys.readouterr().out
    assert "length: weak at score 0.007, quality lost (strong 100, weak 0;" in printed


def test_prices_without_tokens_are_not_passed_over(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"--routers length --data {own_data} --output {tmp_path} --no-cache --no-plots --resamples 10".split()
    assert run_main([*arguments, "--strong-price", "10,30"]) == 2
    assert "price" in capsys.readouterr().err


def test_an_unusable_output_is_refused_before_the_work(
    own_data: Path, capsys: pytest.CaptureFixture[str], length_router: object
) -> None:
    assert run_main(f"--routers length --data {own_data} --output {own_data} --no-cache".split()) == 2
    assert f"{own_data} is a file; give a folder" in capsys.readouterr().err.replace("\n", " ")


def test_a_home_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    rows = [{"prompt": "why " * n, "strong": 1, "weak": n % 2} for n in range(1, 31)]
    done = evaluated(rows, tmp_path, "--routers", "mf", "--cache", "/proc/nowhere/scores.sqlite3")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: the cache /proc/nowhere/scores.sqlite3 cannot be used"), done.stderr
    assert done.stderr.count("note:") == 1
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_in_a_sentence(small_disk: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "why " * 2000, "strong": 1, "weak": n % 2} for n in range(1, 200)]
    done = evaluated(rows, tmp_path, "--routers", "random", "--output", str(small_disk))
    assert done.returncode == 1
    assert "rows_prompts.jsonl could not be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
