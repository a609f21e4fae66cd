"""MT-Bench: 80 two-turn questions judged from 1 to 10; quality is the mean of both turns.

Only the first turn is routed on, as in RouteLLM: a router sees a conversation when it starts.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.asking.grading import graded_quality
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkSource, PairUsage
from routellm_core.evals.benchmarks.files import contaminated_prompts, repository_file, repository_rows
from routellm_core.pricing import CHARACTERS_PER_TOKEN
from routellm_core.rows.files import read_table
from routellm_core.types import FloatArray

TURNS = 2


def read_questions(data_dir: Path) -> list[dict[str, Any]]:
    """Return all 80 questions as published: ``question_id``, ``category``, ``turns``, and ``reference`` for some."""
    return repository_rows(data_dir, "mt_bench/question.jsonl")


def load(source: BenchmarkSource) -> Benchmark:
    """Load the questions and drop the eight of which a turn is in RouteLLM's training data."""
    questions = read_questions(source.data_dir)
    contaminated = contaminated_prompts(source.data_dir, "mt_bench")
    kept = [question for question in questions if not contaminated.intersection(question["turns"])]
    ids = tuple(str(question["question_id"]) for question in kept)
    judgements = _Judgements(source)
    return Benchmark(
        name="mt-bench",
        title="MT-Bench",
        pair=source.pair,
        prompts=tuple(str(question["turns"][0]) for question in kept),
        prompt_ids=ids,
        strong_quality=judgements.quality(ids, source.pair.strong),
        weak_quality=judgements.quality(ids, source.pair.weak),
        groups=tuple(str(question["category"]) for question in kept),
        scale=1.0,
        quality_label="mean judge score (1-10)",
        calls_per_prompt=TURNS,
        prompts_before_decontamination=len(questions),
        source="RouteLLM routellm/evals/mt_bench (0b64fda)",
        usage=PairUsage(
            *judgements.tokens(kept, source.pair.strong),
            *judgements.tokens(kept, source.pair.weak),
            note="characters / 4 of the stored two-turn conversations",
        ),
    )


class _Judgements:
    """RouteLLM's stored judgements of both turns, by model and question."""

    def __init__(self, source: BenchmarkSource) -> None:
        self._source = source
        self._scores: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._answer_characters: dict[tuple[str, str], int] = {}
        path = repository_file(source.data_dir, "mt_bench/judgements.jsonl")
        for place, record in read_table(path):
            key = (str(record["model"]), str(record["question_id"]))
            score = float(record["score"])
            if not 1.0 <= score <= 10.0:  # FastChat marks a judgement without a rating with -1
                raise ConfigError(f"{place}: score {score} is not a rating from 1 to 10")
            self._scores[key].append(score)
            if record["turn"] == TURNS:  # the second turn's judge prompt holds the whole conversation
                self._answer_characters[key] = len(record["user_prompt"])
        self._published = sorted({model for model, _ in self._scores})

    def quality(self, ids: tuple[str, ...], model: str) -> FloatArray:
        """Return the mean of both turns, shape (n,)."""
        if model not in self._published:
            folder = self._source.answers_dir
            return graded_quality(ids, benchmark="mt-bench", model=model, published=self._published, folder=folder)
        for question_id in ids:
            if len(self._scores[model, question_id]) != TURNS:
                raise ConfigError(f"mt-bench: question {question_id} has no two judgements of {model}")
        return np.array([sum(self._scores[model, question_id]) / TURNS for question_id in ids], dtype=np.float64)

    def tokens(self, questions: list[dict[str, Any]], model: str) -> tuple[FloatArray, FloatArray]:
        """Estimate tokens, sent (the first exchange twice) and answered, from the stored conversations, shapes (n,)."""
        known = model if model in self._published else PUBLISHED_PAIR.strong
        users = np.array([[len(turn) for turn in question["turns"]] for question in questions], dtype=np.float64)
        conversations = [self._answer_characters[known, str(question["question_id"])] for question in questions]
        answers = np.maximum(np.array(conversations, dtype=np.float64) - users.sum(axis=1), 0.0)
        # Both turns' answers are taken as equally long: only their sum is needed for the output.
        sent = users[:, 0] + (users.sum(axis=1) + answers / TURNS)
        return sent / CHARACTERS_PER_TOKEN, answers / CHARACTERS_PER_TOKEN
