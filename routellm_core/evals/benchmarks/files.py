"""The files of RouteLLM's benchmarks: where they are, and what their columns say of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from routellm_core.asking.grading import graded_quality
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import BenchmarkSource
from routellm_core.pricing import estimate_tokens
from routellm_core.rows.files import read_table
from routellm_core.types import FloatArray

__all__ = ["column_of_model", "contaminated_prompts", "estimated_tokens", "repository_file"]

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


def contaminated_prompts(data_dir: Path, benchmark_folder: str) -> frozenset[str]:
    """Return the evaluation prompts that RouteLLM lists as seen in its training data."""
    path = repository_file(data_dir, f"{benchmark_folder}/contaminated_prompts.jsonl")
    return frozenset(str(record["eval_prompt"]) for _, record in read_table(path))


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
