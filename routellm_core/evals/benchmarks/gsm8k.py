"""GSM8K: grade-school word problems, right or wrong by the final number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from routellm_core.asking.grading import final_number, is_same_number
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkSource
from routellm_core.evals.benchmarks.files import accuracy_benchmark, estimated_tokens, repository_rows
from routellm_core.types import FloatArray


def load(source: BenchmarkSource) -> Benchmark:
    """Load the 1,319 test problems and drop RouteLLM's twelve contaminated ones."""
    rows = repository_rows(source.data_dir, "gsm8k/gsm8k_responses.csv")
    return accuracy_benchmark(
        source,
        name="gsm8k",
        title="GSM8K",
        rows=[(str(number), "gsm8k", row) for number, row in enumerate(rows, start=1)],
        answer_tokens=_answer_tokens,
        note="characters / 4 of the bare question and the answer",
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
    rows = repository_rows(source.data_dir, "gsm8k/gsm8k_responses.csv")
    solutions = repository_rows(source.data_dir, "gsm8k/test.jsonl")

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


def _answer_tokens(rows: Sequence[Mapping[str, str]], model: str) -> FloatArray:
    """Estimate answer tokens; a model without stored answers is taken to write as much as the published pair does."""
    columns = [f"{model}_response"]
    if columns[0] not in rows[0]:
        columns = [f"{published}_response" for published in (PUBLISHED_PAIR.strong, PUBLISHED_PAIR.weak)]
    counts = np.stack([estimated_tokens([row[column] for row in rows]) for column in columns])
    return np.asarray(counts.mean(axis=0))
