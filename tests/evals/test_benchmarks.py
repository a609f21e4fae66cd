from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.evals import Benchmark, available_benchmarks, load_benchmark, load_tabular, register_benchmark
from routellm_core.evals.benchmarks import registry
from routellm_core.types import ModelPair


def test_names(data_dir: Path) -> None:
    assert available_benchmarks() == ["mmlu", "gsm8k", "mt-bench", "gsm8k-regraded"]
    assert load_benchmark("mt_bench", data_dir=data_dir).name == "mt-bench"
    with pytest.raises(ConfigError, match=r"unknown benchmark 'mmlp'.*Did you mean 'mmlu'.*--data"):
        load_benchmark("mmlp", data_dir=data_dir)


def test_sizes_before_and_after_decontamination(published: Callable[[str], Benchmark]) -> None:
    sizes = {name: (published(name).prompts_before_decontamination, len(published(name))) for name in ("mmlu", "gsm8k")}
    assert sizes == {"mmlu": (14_042, 14_037), "gsm8k": (1_319, 1_307)}
    assert (published("mt-bench").prompts_before_decontamination, len(published("mt-bench"))) == (80, 72)


def test_regraded_gsm8k_corrects_amounts_with_cents(published: Callable[[str], Benchmark]) -> None:
    regraded, original = published("gsm8k-regraded"), published("gsm8k")
    assert regraded.prompts == original.prompts
    changed = regraded.strong_quality - original.strong_quality
    assert (changed.min(), changed.sum()) == (0.0, 42.0)


def test_a_copy_of_the_evals_folder_alone_is_enough(data_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dir / "routellm" / "evals" / "mt_bench", tmp_path / "mt_bench")
    assert len(load_benchmark("mt-bench", data_dir=tmp_path)) == 72
    with pytest.raises(ConfigError, match="routellm data download"):
        load_benchmark("gsm8k", data_dir=tmp_path)


def test_other_models_need_graded_answers(data_dir: Path, tmp_path: Path) -> None:
    pair = ModelPair("new/model", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    for answers_dir in (None, tmp_path):
        with pytest.raises(ConfigError, match=r"evaluate generate --benchmark mmlu --model new/model"):
            load_benchmark("mmlu", data_dir=data_dir, pair=pair, answers_dir=answers_dir)


def test_bad_files_name_the_row(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k"
    shutil.copytree(data_dir / "routellm" / "evals" / "gsm8k", folder)
    with (folder / "contaminated_prompts.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ConfigError, match=r"contaminated_prompts.jsonl, line \d+: not JSON"):
        load_benchmark("gsm8k", data_dir=tmp_path)
    (folder / "contaminated_prompts.jsonl").write_text("")
    (folder / "gsm8k_responses.csv").write_text("prompt,a\nx,1,2\n")
    with pytest.raises(ConfigError, match=r"gsm8k_responses.csv, line 2: the number of fields"):
        load_benchmark("gsm8k", data_dir=tmp_path)


def test_register_one_in_code(monkeypatch: pytest.MonkeyPatch, make_benchmark: Callable[..., Benchmark]) -> None:
    monkeypatch.setattr(registry, "_LOADERS", dict(registry._LOADERS))
    register_benchmark("mine", lambda source: make_benchmark([1.0], [0.0]))
    assert load_benchmark("mine", data_dir=Path()).name == "small"
    with pytest.raises(ConfigError, match="exists already"):
        register_benchmark("mine", lambda source: make_benchmark([1.0], [0.0]))


def test_a_benchmark_checks_itself(make_benchmark: Callable[..., Benchmark]) -> None:
    with pytest.raises(ConfigError, match="no prompts"):
        make_benchmark([], [])
    with pytest.raises(ConfigError, match="weak_quality"):
        make_benchmark([1.0, 0.0], [1.0])
    with pytest.raises(ConfigError, match="strong_quality"):
        make_benchmark([float("nan")], [1.0])


ROWS = [
    {"id": "a", "prompt": "one", "strong": True, "weak": 0, "group": "g"},
    {"id": "b", "prompt": "two", "strong": 1, "weak": "false", "group": "h"},
]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_own_jsonl(tmp_path: Path) -> None:
    benchmark = load_tabular(write_jsonl(tmp_path / "my.jsonl", ROWS))
    assert benchmark.prompts == ("one", "two")
    assert benchmark.prompt_ids == ("a", "b")
    assert benchmark.groups == ("g", "h")
    np.testing.assert_array_equal(benchmark.strong_quality, [1.0, 1.0])
    np.testing.assert_array_equal(benchmark.weak_quality, [0.0, 0.0])
    assert (benchmark.scale, benchmark.quality_label) == (100.0, "accuracy (%)")


def test_own_csv_and_parquet_with_model_names_and_tokens(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(
        'prompt,big,small,input_tokens,strong_output_tokens,weak_output_tokens\n"a, b",0.5,0.25,10,20,30\nc,1,0,1,2,3\n'
    )
    pair = ModelPair("big", "small")
    benchmark = load_tabular(path, pair=pair)
    assert benchmark.prompts == ("a, b", "c")
    assert (benchmark.scale, benchmark.pair) == (1.0, pair)
    assert benchmark.usage is not None
    assert benchmark.usage.weak_output.tolist() == [30.0, 3.0]

    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.table({"prompt": ["x"], "strong": [1.0], "weak": [0.0]}), tmp_path / "my.parquet")
    assert load_tabular(tmp_path / "my.parquet").prompts == ("x",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a", "strong": 1}], r"line 1: cannot tell what kind.*strong and weak.*It has 'prompt', 'strong'"),
        ([{"promt": "a", "strong": 1, "weak": 0}], r"line 1: no column 'prompt'.*Did you mean 'promt'"),
        ([ROWS[0], {**ROWS[1], "strong": "high"}], r"line 2: strong must be a number, true or false, got 'high'"),
        ([ROWS[0], {**ROWS[1], "weak": None}], r"line 2: weak must be a number, true or false, got None"),
        ([ROWS[0], {**ROWS[1], "weak": float("inf")}], r"line 2: weak must be a number, true or false, got inf"),
        ([ROWS[0], {**ROWS[1], "prompt": " "}], r"line 2: the prompt is empty"),
        ([ROWS[0], {**ROWS[1], "id": "a"}], r"line 2: id 'a' is taken by .*line 1"),
        ([ROWS[0], [1, 2]], r"line 2: messages\[0\] must be a mapping"),
        ([], "has no rows"),
    ],
)
def test_bad_own_rows_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tabular(write_jsonl(tmp_path / "my.jsonl", rows))


def test_own_file_of_another_kind_or_missing(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("a")
    with pytest.raises(ConfigError, match="line 1: cannot tell what kind"):
        load_tabular(tmp_path / "my.txt")
    with pytest.raises(ConfigError, match=r"is a \.xlsx file; readable are \.txt, \.jsonl"):
        load_tabular(tmp_path / "my.xlsx")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tabular(tmp_path / "none.jsonl")
