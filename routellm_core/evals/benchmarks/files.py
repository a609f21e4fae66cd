"""The files of RouteLLM's benchmarks: where they are, and what their columns say of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.asking.grading import graded_quality
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkSource, PairUsage
from routellm_core.pricing import estimate_tokens
from routellm_core.rows.files import read_table
from routellm_core.types import FloatArray

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


def repository_rows(data_dir: Path, relative: str) -> list[dict[str, Any]]:
    """Return the rows of :func:`repository_file`."""
    return [row for _, row in read_table(repository_file(data_dir, relative))]


def contaminated_prompts(data_dir: Path, benchmark_folder: str) -> frozenset[str]:
    """Return the evaluation prompts that RouteLLM lists as seen in its training data."""
    rows = repository_rows(data_dir, f"{benchmark_folder}/contaminated_prompts.jsonl")
    return frozenset(str(row["eval_prompt"]) for row in rows)


def estimated_tokens(texts: Sequence[str]) -> FloatArray:
    """Estimate token counts as characters / 4, shape (n,): good to about a fifth for English, no tokenizer."""
    return np.array([estimate_tokens(text) for text in texts], dtype=np.float64)


def accuracy_benchmark(
    source: BenchmarkSource,
    *,
    name: str,
    title: str,
    rows: Sequence[tuple[str, str, Mapping[str, str]]],
    answer_tokens: Callable[[Sequence[Mapping[str, str]], str], FloatArray],
    note: str,
) -> Benchmark:
    """Return a benchmark of right and wrong answers, without RouteLLM's contaminated prompts.

    Each of ``rows`` is a prompt id, a group, and the file's row with a column ``prompt`` and one of true and false per
    model; ``answer_tokens`` tells from rows and a model the tokens of its answers, shape (n,), and ``note`` how.

    Raises:
        ConfigError: a model has neither a column nor graded answers, a cell is not true or false, or some prompts are
            not graded yet.
    """
    contaminated = contaminated_prompts(source.data_dir, name)
    ids, groups, kept = zip(*(row for row in rows if row[2]["prompt"] not in contaminated), strict=True)
    prompts = tuple(row["prompt"] for row in kept)
    tokens = estimated_tokens(prompts)
    pair = source.pair
    return Benchmark(
        name=name,
        title=title,
        pair=pair,
        prompts=prompts,
        prompt_ids=ids,
        strong_quality=_results(pair.strong, kept, ids, name, source),
        weak_quality=_results(pair.weak, kept, ids, name, source),
        groups=groups,
        scale=100.0,
        quality_label="accuracy (%)",
        calls_per_prompt=1,
        prompts_before_decontamination=len(rows),
        source=f"RouteLLM routellm/evals/{name} (0b64fda)",
        usage=PairUsage(tokens, answer_tokens(kept, pair.strong), tokens, answer_tokens(kept, pair.weak), note),
    )


def _results(
    model: str, rows: Sequence[Mapping[str, str]], ids: Sequence[str], benchmark: str, source: BenchmarkSource
) -> FloatArray:
    """Return a model's 0/1 results, shape (n,): the file's own column, or answers graded here."""
    published = (PUBLISHED_PAIR.strong, PUBLISHED_PAIR.weak)
    if model not in published:
        return graded_quality(ids, benchmark=benchmark, model=model, published=published, folder=source.answers_dir)
    results = [_TRUTH.get(str(row.get(model, "")).strip().lower()) for row in rows]
    if None in results:
        bad = results.index(None)
        raise ConfigError(
            f"{benchmark}: prompt {ids[bad]} has {rows[bad].get(model)!r} for {model}; give true or false"
        )
    return np.array(results, dtype=np.float64)
