"""Benchmarks: prompts, and what each of the two models achieved on them. One file and one line add one."""

from routellm_core.evals.benchmarks.base import Benchmark, PairUsage
from routellm_core.evals.benchmarks.registry import available_benchmarks, load_benchmark, register_benchmark
from routellm_core.evals.benchmarks.tabular import load_tabular

__all__ = ["Benchmark", "PairUsage", "available_benchmarks", "load_benchmark", "load_tabular", "register_benchmark"]
