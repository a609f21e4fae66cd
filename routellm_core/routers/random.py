"""The ``random`` router: the baseline that every other router has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, Literal, Self

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.routers.base import Router
from routellm_core.types import FloatArray

__all__ = ["RandomRouter"]


class RandomRouter(Router):
    """Scores uniformly at random.

    Args:
        seed: seeds the stream; the same seed and order of prompts give the same scores. None draws from the
            operating system.
        by: ``"order"`` (RouteLLM's behaviour: the next number of one stream for each prompt) or ``"prompt"`` (a
            number derived from the prompt's SHA-256 and the seed, so that a prompt keeps its score whatever the
            order, the batch or the process).

    Raises:
        ConfigError: ``by`` is neither, or ``by="prompt"`` has no seed.
    """

    name: ClassVar[str] = "random"

    def __init__(self, *, seed: int | None = 0, by: Literal["order", "prompt"] = "order") -> None:
        if by not in ("order", "prompt"):
            raise ConfigError(f"random router: by={by!r} must be 'order' or 'prompt'")
        if by == "prompt" and seed is None:
            raise ConfigError("random router: by='prompt' needs a seed; give an integer such as seed=0")
        self._seed = seed
        self._by = by
        self._stream = Random(seed)

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return one uniform number in [0, 1) per prompt, shape (n,)."""
        if self._by == "prompt":
            return np.array([self._keyed(prompt) for prompt in prompts], dtype=np.float64)
        return np.array([self._stream.uniform(0, 1) for _ in prompts], dtype=np.float64)

    def __copy__(self) -> Self:
        twin = super().__copy__()
        twin._stream = Random(self._seed)
        return twin

    def _keyed(self, prompt: str) -> float:
        digest = hashlib.sha256(f"{self._seed}:{prompt}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    @property
    def fingerprint(self) -> str:
        """Name, mode and seed."""
        return f"{self.name}:{self._by}:{self._seed}"

    @property
    def is_stochastic(self) -> bool:
        """By order, a prompt's score depends on what was scored before it."""
        return self._by == "order"

    @property
    def reference_quantiles(self) -> FloatArray:
        """The uniform distribution's own."""
        return np.linspace(0.0, 1.0, 1001)

    def describe(self) -> dict[str, Any]:
        """Return the seed and mode beside the base facts."""
        return {**super().describe(), "seed": self._seed, "by": self._by}
