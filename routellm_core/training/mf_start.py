"""What training of ``mf`` starts from: an embedder, a direction, and the router that the result is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings import Embedder, load_embedder, semantic_width
from routellm_core.metrics.held_out import LENGTH, SHIPPED, length_scores
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint

__all__ = ["MfStart"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MfStart:
    """What training starts from.

    Attributes:
        embedder: of the prompts.
        prior: direction to start from, shape (d,), or None.
        router: the router to compare with, if there is one.
        checkpoint: what was named to start from, or None.
    """

    embedder: Embedder
    prior: Floats | None
    router: MatrixFactorizationRouter | None
    checkpoint: MfCheckpoint | None

    @classmethod
    def load(
        cls,
        start: str | Path | None,
        embedder: str | Mapping[str, Any] | Embedder | None,
        pair: tuple[str, str],
    ) -> MfStart:
        """Load a checkpoint, or the embedder alone.

        Args:
            start: as for ``checkpoint_path``; None starts from nothing.
            embedder: None takes the checkpoint's, or ``"static"``.
            pair: the pair to be trained; its direction is taken where the checkpoint has both models.

        Raises:
            ConfigError: an embedder that the checkpoint was not trained with.
        """
        if start is not None:
            checkpoint = MfCheckpoint.load(start)
            scored = pair if set(pair) <= set(checkpoint.trained_models) else checkpoint.pair
            loaded = load_embedder(checkpoint.embedder if embedder is None else embedder)
            router = MatrixFactorizationRouter(
                checkpoint_path=start, embedder=loaded, strong_model=scored[0], weak_model=scored[1]
            )
            return cls(loaded, checkpoint.fold(*scored).astype(np.float64), router, checkpoint)
        loaded = load_embedder("static" if embedder is None else embedder)
        shipped = {"static-v2": "default", "minilm-v2": "minilm"}.get(loaded.name)
        return cls(loaded, None, MatrixFactorizationRouter(checkpoint_path=shipped) if shipped else None, None)

    @property
    def semantic(self) -> int | None:
        """How many of the first columns of an embedding hold the meaning; None where all of them do."""
        return semantic_width(self.embedder)

    def adds(self, models: Sequence[str]) -> tuple[str, ...]:
        """Return the models among ``models`` that the checkpoint could get vectors for, beside those that it has.

        None where it holds one pair alone, where all are in it, or where none is and so nothing ties them to it.
        """
        if self.checkpoint is None or not self.checkpoint.gain_slope:
            return ()
        new = tuple(model for model in models if model not in self.checkpoint.trained_models)
        return new if len(new) < len(models) else ()

    def others(self, prompts: Sequence[str]) -> dict[str, Floats]:
        """Return scores of the routers to beat, shape (n,) each."""
        found = {} if self.router is None else {SHIPPED: np.asarray(self.router.score(prompts), dtype=np.float64)}
        return {**found, LENGTH: length_scores(prompts)}
