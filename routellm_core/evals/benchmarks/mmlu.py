"""MMLU: 57 subjects of multiple-choice questions, right or wrong.

Prompts and order are RouteLLM's: its subject order matters, because its random router draws one number per prompt in
that order.
"""

from __future__ import annotations

import numpy as np

from routellm_core.evals.benchmarks.base import Benchmark, BenchmarkSource
from routellm_core.evals.benchmarks.files import accuracy_benchmark, repository_rows

_IN_ORDER = """
high_school_european_history business_ethics clinical_knowledge medical_genetics high_school_us_history
high_school_physics high_school_world_history virology high_school_microeconomics econometrics
college_computer_science high_school_biology abstract_algebra professional_accounting philosophy professional_medicine
nutrition global_facts machine_learning security_studies public_relations professional_psychology prehistory anatomy
human_sexuality college_medicine high_school_government_and_politics college_chemistry logical_fallacies
high_school_geography elementary_mathematics human_aging college_mathematics high_school_psychology formal_logic
high_school_statistics international_law high_school_mathematics high_school_computer_science conceptual_physics
miscellaneous high_school_chemistry marketing professional_law management college_physics jurisprudence
world_religions sociology us_foreign_policy high_school_macroeconomics computer_security moral_scenarios
moral_disputes electrical_engineering astronomy college_biology
"""
SUBJECTS: tuple[str, ...] = tuple(_IN_ORDER.split())
"""The subjects in the order of RouteLLM's evaluation."""


def load(source: BenchmarkSource) -> Benchmark:
    """Load the 14,042 questions of the 57 subjects and drop RouteLLM's five contaminated ones."""
    rows = [
        (f"{subject}/{number}", subject, row)
        for subject in SUBJECTS
        for number, row in enumerate(repository_rows(source.data_dir, f"mmlu/responses/mmlu_{subject}.csv"), start=1)
    ]
    return accuracy_benchmark(
        source,
        name="mmlu",
        title="MMLU",
        rows=rows,
        answer_tokens=lambda rows, _model: np.ones(len(rows)),
        note="characters / 4 of the bare question; one token of answer",
    )
