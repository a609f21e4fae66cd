"""GSM8K: grade-school word problems, right or wrong by the final number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routellm_core.asking.grading import final_number, is_same_number
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkSource, PairUsage
from routellm_core.evals.benchmarks.files import (
    column_of_model,
    contaminated_prompts,
    estimated_tokens,
    repository_file,
)
from routellm_core.rows.files import read_table
from routellm_core.types import FloatArray

__all__ = ["load", "load_regraded"]


def load(source: BenchmarkSource) -> Benchmark:
    """Load the 1,319 test problems and drop RouteLLM's twelve contaminated ones."""
    rows = [row for _, row in read_table(repository_file(source.data_dir, "gsm8k/gsm8k_responses.csv"))]
    contaminated = contaminated_prompts(source.data_dir, "gsm8k")
    kept = [i for i, row in enumerate(rows) if row["prompt"] not in contaminated]
    rows_kept, ids = [rows[i] for i in kept], tuple(str(i + 1) for i in kept)
    prompts = tuple(row["prompt"] for row in rows_kept)
    published = (PUBLISHED_PAIR.strong, PUBLISHED_PAIR.weak)
    strong, weak = (
        column_of_model(rows_kept, ids, model=model, benchmark="gsm8k", published=published, source=source)
        for model in (source.pair.strong, source.pair.weak)
    )
    tokens = estimated_tokens(prompts)
    strong_output, weak_output = (_answer_tokens(rows_kept, model) for model in (source.pair.strong, source.pair.weak))
    return Benchmark(
        name="gsm8k",
        title="GSM8K",
        pair=source.pair,
        prompts=prompts,
        prompt_ids=ids,
        strong_quality=strong,
        weak_quality=weak,
        groups=("gsm8k",) * len(prompts),
        scale=100.0,
        quality_label="accuracy (%)",
        calls_per_prompt=1,
        prompts_before_decontamination=len(rows),
        source="RouteLLM routellm/evals/gsm8k (0b64fda)",
        usage=PairUsage(
            tokens, strong_output, tokens, weak_output, "characters / 4 of the bare question and the answer"
        ),
    )


def load_regraded(source: BenchmarkSource) -> Benchmark:
    """Load the same problems with the stored answers graded again by :func:`final_number`.

    RouteLLM took the last run of digits for the answer, so ``$20.00`` counts as 0 and is wrong. That marks 42 right
    answers of GPT-4 and 6 of Mixtral wrong, and 5 wrong ones of Mixtral (0.84 for 84) right.

    Raises:
        ConfigError: the pair is not the published one, whose answers alone are stored.
    """
    if source.pair != PUBLISHED_PAIR:
        raise ConfigError("gsm8k-regraded has the published pair's answers only; use gsm8k for other models")
    published = load(source)
    rows = [row for _, row in read_table(repository_file(source.data_dir, "gsm8k/gsm8k_responses.csv"))]
    solutions = [record for _, record in read_table(repository_file(source.data_dir, "gsm8k/test.jsonl"))]

    def regraded(model: str) -> FloatArray:
        return np.array(
            [
                is_same_number(final_number(rows[row][f"{model}_response"]), final_number(solutions[row]["answer"]))
                for row in (int(prompt_id) - 1 for prompt_id in published.prompt_ids)
            ],
            dtype=np.float64,
        )

    return replace(
        published,
        name="gsm8k-regraded",
        title="GSM8K (regraded)",
        strong_quality=regraded(source.pair.strong),
        weak_quality=regraded(source.pair.weak),
    )


def _answer_tokens(rows: list[dict[str, str]], model: str) -> FloatArray:
    """Estimate answer tokens; a model without stored answers is taken to write as much as the published pair does."""
    columns = [f"{model}_response"]
    if columns[0] not in rows[0]:
        columns = [f"{published}_response" for published in (PUBLISHED_PAIR.strong, PUBLISHED_PAIR.weak)]
    counts = np.stack([estimated_tokens([row[column] for row in rows]) for column in columns])
    return np.asarray(counts.mean(axis=0))
