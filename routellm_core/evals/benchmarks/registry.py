"""Benchmark names and their loaders."""

from __future__ import annotations

from pathlib import Path

from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.evals.benchmarks import gsm8k, mmlu, mt_bench
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR, Benchmark, BenchmarkLoader, BenchmarkSource
from routellm_core.types import ModelPair

_LOADERS: dict[str, BenchmarkLoader] = {
    "mmlu": mmlu.load,
    "gsm8k": gsm8k.load,
    "mt-bench": mt_bench.load,
    "gsm8k-regraded": gsm8k.load_regraded,
}


def available_benchmarks() -> list[str]:
    """Return every benchmark name, in the order of registration."""
    return list(_LOADERS)


def register_benchmark(name: str, loader: BenchmarkLoader, *, replace: bool = False) -> None:
    """Make a benchmark available under ``name``; ``replace`` allows that the name is taken already.

    Raises:
        ConfigError: the name is taken.
    """
    if name in _LOADERS and not replace:
        raise ConfigError(f"a benchmark named {name!r} exists already; pass replace=True to take its place")
    _LOADERS[name] = loader


def canonical_name(name: str) -> str:
    """Return the registered name for ``name``: ``mt_bench`` is understood as ``mt-bench``.

    Raises:
        ConfigError: no such benchmark.
    """
    for candidate in (name, name.replace("_", "-").lower()):
        if candidate in _LOADERS:
            return candidate
    known = available_benchmarks()
    raise ConfigError(
        f"unknown benchmark {name!r}; available are {', '.join(known)}.{did_you_mean(name, known)} "
        "For prompts of your own, pass a file (--data) instead."
    )


def load_benchmark(
    name: str, *, data_dir: Path, pair: ModelPair = PUBLISHED_PAIR, answers_dir: Path | None = None
) -> Benchmark:
    """Load a benchmark; ``data_dir`` is :func:`routellm_core.evals.data.resolve_data_dir`'s.

    Results of other models than the published pair are looked for among the graded answers in ``answers_dir``.

    Raises:
        ConfigError: unknown name, missing or malformed files, or no results for one of the models.
    """
    return _LOADERS[canonical_name(name)](BenchmarkSource(data_dir=data_dir, pair=pair, answers_dir=answers_dir))
