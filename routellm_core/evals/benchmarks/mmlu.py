"""MMLU: 57 subjects of multiple-choice questions, right or wrong.

Prompts and order are RouteLLM's: its subject order matters, because its random router draws one number per prompt in
that order.
"""

from __future__ import annotations

import numpy as np

from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkSource, PairUsage
from routellm_core.evals.benchmarks.files import (
    column_of_model,
    contaminated_prompts,
    estimated_tokens,
    repository_file,
)
from routellm_core.rows.files import read_table

__all__ = ["SUBJECTS", "load"]

# The order of RouteLLM's evaluation, one subject per word.
SUBJECTS: tuple[str, ...] = (
    "high_school_european_history",
    "business_ethics",
    "clinical_knowledge",
    "medical_genetics",
    "high_school_us_history",
    "high_school_physics",
    "high_school_world_history",
    "virology",
    "high_school_microeconomics",
    "econometrics",
    "college_computer_science",
    "high_school_biology",
    "abstract_algebra",
    "professional_accounting",
    "philosophy",
    "professional_medicine",
    "nutrition",
    "global_facts",
    "machine_learning",
    "security_studies",
    "public_relations",
    "professional_psychology",
    "prehistory",
    "anatomy",
    "human_sexuality",
    "college_medicine",
    "high_school_government_and_politics",
    "college_chemistry",
    "logical_fallacies",
    "high_school_geography",
    "elementary_mathematics",
    "human_aging",
    "college_mathematics",
    "high_school_psychology",
    "formal_logic",
    "high_school_statistics",
    "international_law",
    "high_school_mathematics",
    "high_school_computer_science",
    "conceptual_physics",
    "miscellaneous",
    "high_school_chemistry",
    "marketing",
    "professional_law",
    "management",
    "college_physics",
    "jurisprudence",
    "world_religions",
    "sociology",
    "us_foreign_policy",
    "high_school_macroeconomics",
    "computer_security",
    "moral_scenarios",
    "moral_disputes",
    "electrical_engineering",
    "astronomy",
    "college_biology",
)


def load(source: BenchmarkSource) -> Benchmark:
    """Load the 14,042 questions of the 57 subjects and drop RouteLLM's five contaminated ones."""
    rows, ids, subjects = [], [], []
    for subject in SUBJECTS:
        for number, (_, row) in enumerate(
            read_table(repository_file(source.data_dir, f"mmlu/responses/mmlu_{subject}.csv")), start=1
        ):
            rows.append(row)
            ids.append(f"{subject}/{number}")
            subjects.append(subject)
    contaminated = contaminated_prompts(source.data_dir, "mmlu")
    kept = [i for i, row in enumerate(rows) if row["prompt"] not in contaminated]
    rows_kept, ids_kept = [rows[i] for i in kept], tuple(ids[i] for i in kept)
    prompts = tuple(row["prompt"] for row in rows_kept)
    published = (PUBLISHED_PAIR.strong, PUBLISHED_PAIR.weak)
    strong, weak = (
        column_of_model(rows_kept, ids_kept, model=model, benchmark="mmlu", published=published, source=source)
        for model in (source.pair.strong, source.pair.weak)
    )
    tokens, one = estimated_tokens(prompts), np.ones(len(prompts))
    return Benchmark(
        name="mmlu",
        title="MMLU",
        pair=source.pair,
        prompts=prompts,
        prompt_ids=ids_kept,
        strong_quality=strong,
        weak_quality=weak,
        groups=tuple(subjects[i] for i in kept),
        scale=100.0,
        quality_label="accuracy (%)",
        calls_per_prompt=1,
        prompts_before_decontamination=len(rows),
        source="RouteLLM routellm/evals/mmlu (0b64fda)",
        usage=PairUsage(tokens, one, tokens, one, "characters / 4 of the bare question; one token of answer"),
    )
