"""What a benchmark is once it is loaded: prompts, and the quality of both models on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.metrics.curves import mean_quality
from routellm_core.types import FloatArray, ModelPair

PUBLISHED_PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mistralai/Mixtral-8x7B-Instruct-v0.1")
"""The two models whose results RouteLLM published for all three benchmarks."""


@dataclass(frozen=True, slots=True)
class PairUsage:
    """Tokens that each prompt sends to and gets from each model, shapes (n,), and where the counts come from."""

    strong_input: FloatArray
    strong_output: FloatArray
    weak_input: FloatArray
    weak_output: FloatArray
    note: str


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark.

    Attributes:
        name: registry name, such as ``"mmlu"``.
        title: name for headings.
        pair: the two models.
        prompts: n texts to route on.
        prompt_ids: n identifiers, unique within the benchmark.
        strong_quality: shape (n,), higher is better: 0/1 for right or wrong, the two-turn mean for MT-Bench.
        weak_quality: shape (n,).
        groups: n subjects or categories.
        scale: factor for display; 100 turns shares of right answers into per cent.
        quality_label: what the quality is, for axes and headings.
        calls_per_prompt: model calls that one prompt stands for (two turns on MT-Bench).
        prompts_before_decontamination: how many prompts the files held.
        source: where the data came from, for the report.
        usage: tokens per prompt and model, or None where nothing is known.
    """

    name: str
    title: str
    pair: ModelPair
    prompts: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    strong_quality: FloatArray
    weak_quality: FloatArray
    groups: tuple[str, ...]
    scale: float
    quality_label: str
    calls_per_prompt: int
    prompts_before_decontamination: int
    source: str
    usage: PairUsage | None = None

    def __post_init__(self) -> None:
        """Check that every column has one entry per prompt and that qualities are numbers."""
        n = len(self.prompts)
        if n == 0:
            raise ConfigError(f"benchmark {self.name!r} has no prompts left to evaluate on")
        for label, size in (("prompt_ids", len(self.prompt_ids)), ("groups", len(self.groups))):
            if size != n:
                raise ConfigError(f"benchmark {self.name!r} has {n} prompts but {size} {label}")
        for label, quality in (("strong_quality", self.strong_quality), ("weak_quality", self.weak_quality)):
            if quality.shape != (n,) or not np.isfinite(quality).all():
                raise ConfigError(f"benchmark {self.name!r}: {label} must be {n} finite numbers, shape ({n},)")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def strong_mean(self) -> float:
        """Mean quality of the strong model, in display units."""
        return mean_quality(self.strong_quality, self.scale)

    @property
    def weak_mean(self) -> float:
        """Mean quality of the weak model, in display units."""
        return mean_quality(self.weak_quality, self.scale)

    @property
    def strong_wins(self) -> npt.NDArray[np.bool_]:
        """Where the strong model strictly beats the weak one, shape (n,): what a score is the probability of."""
        return np.asarray(self.strong_quality > self.weak_quality)

    def subset(self, keep: npt.NDArray[np.bool_]) -> Benchmark:
        """Return the prompts where ``keep``, shape (n,), is true, without their tokens."""
        rows = np.flatnonzero(keep)
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in rows),
            prompt_ids=tuple(self.prompt_ids[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            strong_quality=self.strong_quality[rows],
            weak_quality=self.weak_quality[rows],
            usage=None,
        )


@dataclass(frozen=True, slots=True)
class BenchmarkSource:
    """What a loader is given.

    ``data_dir`` has RouteLLM's benchmark files in its repository's layout, ``answers_dir`` answers that were graded
    here.
    """

    data_dir: Path
    pair: ModelPair = PUBLISHED_PAIR
    answers_dir: Path | None = None


BenchmarkLoader: TypeAlias = Callable[[BenchmarkSource], Benchmark]
"""Reads a benchmark's files; a ConfigError says what is missing, malformed, or not known of one of the models."""
