"""Reading the benchmark files, with errors that name the file and the row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.asking.grading import graded_quality
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import BenchmarkSource
from routellm_core.pricing import estimate_tokens
from routellm_core.types import FloatArray

__all__ = ["column_of_model", "contaminated_prompts", "estimated_tokens", "read_csv", "read_jsonl", "repository_file"]

_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def repository_file(data_dir: Path, relative: str) -> Path:
    """Return ``data_dir/routellm/evals/relative``, or ``data_dir/relative`` for a copy of the evals folder alone.

    Raises:
        ConfigError: neither exists.
    """
    for candidate in (data_dir / "routellm" / "evals" / relative, data_dir / relative):
        if candidate.exists():
            return candidate
    raise ConfigError(
        f"{relative} is missing under {data_dir}. Fetch the benchmark files with `routellm data download`, or point "
        "--data-dir (or the environment variable ROUTELLM_DATA_DIR) at a copy of RouteLLM's repository"
    )


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, row) of a CSV file with a header; the first data row is row 1.

    Raises:
        ConfigError: the file is missing, not UTF-8, or a row has another number of fields than the header.
    """
    try:
        csv.field_size_limit(2**31 - 1)  # the default refuses prompts over 128 KiB
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), start=1):
                if None in row or None in row.values():
                    raise ConfigError(f"{path.name}, row {number}: the number of fields differs from the header's")
                yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number, object) of a JSON-lines file; blank lines count but are skipped.

    Raises:
        ConfigError: the file is missing, not UTF-8, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise ConfigError(f"{path.name}, row {number}: not valid JSON ({error})") from error
                if not isinstance(record, dict):
                    raise ConfigError(f"{path.name}, row {number}: expected a JSON object, got {line.strip()[:60]!r}")
                yield number, record
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as JSON lines: {error}") from error


def contaminated_prompts(data_dir: Path, benchmark_folder: str) -> frozenset[str]:
    """Return the evaluation prompts that RouteLLM lists as seen in its training data."""
    path = repository_file(data_dir, f"{benchmark_folder}/contaminated_prompts.jsonl")
    return frozenset(str(record["eval_prompt"]) for _, record in read_jsonl(path))


def estimated_tokens(texts: Sequence[str]) -> FloatArray:
    """Estimate token counts as characters / 4, shape (n,): good to about a fifth for English, no tokenizer."""
    return np.array([estimate_tokens(text) for text in texts], dtype=np.float64)


def column_of_model(
    rows: Sequence[Mapping[str, str]],
    prompt_ids: Sequence[str],
    *,
    model: str,
    benchmark: str,
    published: Sequence[str],
    source: BenchmarkSource,
) -> FloatArray:
    """Return a model's 0/1 results, shape (n,): the file's own column, or answers graded here.

    Raises:
        ConfigError: the model has neither, or a cell is not true or false, or some prompts are not graded yet.
    """
    if model in published:
        try:
            return np.array([_TRUTH[row[model].strip().lower()] for row in rows], dtype=np.float64)
        except KeyError as error:
            bad = next(i for i, row in enumerate(rows) if row.get(model, "").strip().lower() not in _TRUTH)
            raise ConfigError(
                f"{benchmark}: prompt {prompt_ids[bad]} has {rows[bad].get(model)!r} for {model}; give true or false"
            ) from error
    return graded_quality(prompt_ids, benchmark=benchmark, model=model, published=published, folder=source.answers_dir)
