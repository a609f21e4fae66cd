"""A battle index placed on a device and ready to score one pair of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError, ScoringError
from routellm_core.routers.sw_ranking.bradley_terry import elo_from_strengths, fit_strengths, win_table
from routellm_core.routers.sw_ranking.files import index_digest
from routellm_core.routers.sw_ranking.group_sums import GroupSums, make_group_sums
from routellm_core.routers.sw_ranking.index import BattleIndex
from routellm_core.routers.sw_ranking.similarity import unit_rows
from routellm_core.types import FloatArray

__all__ = ["ScoringState"]


_MAX_BATCH = 128
"""Most prompts per pass over the embeddings; a matrix product gains nothing from more."""


class ScoringState:
    """An index placed on a device for one scored pair; replaced as a whole when battles are added."""

    def __init__(self, index: BattleIndex, pair: tuple[str, str], device: str, tile_bytes: int) -> None:
        if tile_bytes < 1:
            raise ConfigError(f"sw_ranking: tile_bytes is {tile_bytes}; it must be at least 1")
        self.index = index
        embeddings = [block.embeddings for block in index.blocks]
        self._sums: GroupSums
        self._sums, self.runs_on = make_group_sums(
            embeddings, index.starts, device, weights=[block.weights for block in index.blocks]
        )
        self._dtype = np.result_type(*(block.prompt_dtype for block in embeddings))
        self._tiers = (index.tiers[pair[0]], index.tiers[pair[1]])
        self.batch = max(1, min(_MAX_BATCH, tile_bytes // (4 * index.rows)))
        self._digest: str | None = None

    @property
    def digest(self) -> str:
        """Computed on first use: hashing a gigabyte takes a second."""
        if self._digest is None:
            self._digest = index_digest(self.index)
        return self._digest

    def strengths(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return tier strengths in nats, shape (B, T)."""
        if not np.isfinite(embeddings).all():
            raise ScoringError("a prompt's embedding holds NaN or an infinity")
        sums = self.index.tier_sums(self._sums.group_sums(unit_rows(embeddings, self._dtype)))
        return fit_strengths(win_table(sums, count_self_battles=self.index.count_self_battles))

    def ratings(self, embeddings: npt.NDArray[Any]) -> FloatArray:
        """Return tier ratings in Elo, shape (B, T)."""
        return elo_from_strengths(self.strengths(embeddings))

    def win_rates(self, embeddings: npt.NDArray[Any]) -> FloatArray:
        """Return P(strong beats weak), shape (B,)."""
        strengths = self.strengths(embeddings)
        strong, weak = self._tiers
        return np.asarray(1.0 / (1.0 + np.exp(strengths[:, weak] - strengths[:, strong])))

    def in_parts(self, embeddings: npt.NDArray[Any], compute: Callable[[Any], FloatArray]) -> FloatArray:
        """Apply ``compute`` to at most ``batch`` prompts at a time, shape (n, d) in all."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.index.dimension:
            raise ScoringError(f"embeddings have shape {embeddings.shape}, expected (n, {self.index.dimension})")
        starts = range(0, max(1, len(embeddings)), self.batch)
        return np.concatenate([compute(embeddings[start : start + self.batch]) for start in starts])
