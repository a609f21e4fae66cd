"""Evaluation: benchmarks, cost-quality curves with intervals, baselines, reports and plots.

Reading benchmarks and measuring needs numpy alone; plots need ``pip install 'routellm-core[eval]'``.
"""

from routellm_core.evals.benchmarks import (
    Benchmark,
    available_benchmarks,
    load_benchmark,
    load_tabular,
    register_benchmark,
)
from routellm_core.evals.router_results import EvaluationSettings, RouterResult
from routellm_core.evals.runner import Evaluation, run_evaluation
from routellm_core.score_cache import ScoreCache

__all__ = [
    "Benchmark",
    "Evaluation",
    "EvaluationSettings",
    "RouterResult",
    "ScoreCache",
    "available_benchmarks",
    "load_benchmark",
    "load_tabular",
    "register_benchmark",
    "run_evaluation",
]
