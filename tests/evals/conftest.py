from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from routellm_core.evals import Benchmark, load_benchmark
from routellm_core.routers.base import Router
from routellm_core.types import FloatArray, ModelPair


class LengthRouter(Router):
    """The length router of the golden files: len / (len + 300)."""

    name: ClassVar[str] = "length"

    def __init__(self, *, version: str = "1") -> None:
        self.version = version
        self.scored = 0

    def score(self, prompts: Sequence[str]) -> FloatArray:
        self.scored += len(prompts)
        return np.array([len(prompt) / (len(prompt) + 300) for prompt in prompts], dtype=np.float64)

    @property
    def fingerprint(self) -> str:
        return f"length:{self.version}"


class HashRouter(Router):
    """The hash router of the golden files."""

    name: ClassVar[str] = "sha256"

    def score(self, prompts: Sequence[str]) -> FloatArray:
        digests = [hashlib.sha256(prompt.encode()).digest() for prompt in prompts]
        return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])


@pytest.fixture
def length_router() -> LengthRouter:
    return LengthRouter()


@pytest.fixture
def make_length_router() -> Callable[[str], LengthRouter]:
    return lambda version: LengthRouter(version=version)


@pytest.fixture
def hash_router() -> HashRouter:
    return HashRouter()


@pytest.fixture(scope="session")
def data_dir(shared: Path) -> Path:
    return shared / "data" / "routellm_benchmarks" / "original"


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], Any]:
    return cache(lambda name: json.loads((shared / "golden" / f"eval_{name}.json").read_text()))


@pytest.fixture(scope="session")
def published(data_dir: Path) -> Callable[[str], Benchmark]:
    return cache(lambda name: load_benchmark(name, data_dir=data_dir))


def small_benchmark(strong: Sequence[float], weak: Sequence[float], groups: Sequence[str] | None = None) -> Benchmark:
    n = len(strong)
    return Benchmark(
        name="small",
        title="Small",
        pair=ModelPair("big/model", "tiny"),
        prompts=tuple("x" * (i + 1) for i in range(n)),
        prompt_ids=tuple(str(i) for i in range(n)),
        strong_quality=np.array(strong, dtype=np.float64),
        weak_quality=np.array(weak, dtype=np.float64),
        groups=tuple(groups or ["all"] * n),
        scale=1.0,
        quality_label="quality",
        calls_per_prompt=1,
        prompts_before_decontamination=n,
        source="a test",
    )


@pytest.fixture
def make_benchmark() -> Callable[..., Benchmark]:
    return small_benchmark
