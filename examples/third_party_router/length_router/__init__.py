"""A router that takes longer prompts for harder ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from routellm_core import Router
from routellm_core.errors import ConfigError
from routellm_core.types import FloatArray

__all__ = ["LengthRouter"]


class LengthRouter(Router):
    """Scores n / (n + half_at) for a prompt of n characters.

    Args:
        half_at: the length that scores one half; positive.
    """

    name: ClassVar[str] = "length"

    def __init__(self, *, half_at: int = 300) -> None:
        if half_at <= 0:
            raise ConfigError(f"length router: half_at={half_at!r} must be positive")
        self._half_at = half_at

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return one score in [0, 1) per prompt, shape (n,)."""
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
        return lengths / (lengths + self._half_at)

    @property
    def fingerprint(self) -> str:
        """The name and the option that the scores depend on."""
        return f"{self.name}:{self._half_at}"
