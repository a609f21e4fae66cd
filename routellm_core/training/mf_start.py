"""What training of ``mf`` starts from: an embedder, a direction, and the router that the result is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings import Embedder, Embeddings, load_embedder
from routellm_core.metrics.held_out import LENGTH, SHIPPED, length_scores
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint

__all__ = ["MfStart"]

Floats = npt.NDArray[np.float64]
_SHIPPED: Final = ("default", "minilm")


class _Remembering:
    """An embedder that embeds each text once: folds, the router to beat and the card all ask for the same ones."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder, self._known = embedder, dict[str, npt.NDArray[np.float32]]()

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimension(self) -> int | None:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> Embeddings:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new or not texts:
            vectors = self._embedder.embed(new)
            self._known.update(zip(new, vectors, strict=True))
            if not texts:
                return vectors
        return np.stack([self._known[text] for text in texts])


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
            loaded = _Remembering(load_embedder(checkpoint.embedder if embedder is None else embedder))
            router = MatrixFactorizationRouter(
                checkpoint_path=start, embedder=loaded, strong_model=scored[0], weak_model=scored[1]
            )
            return cls(loaded, checkpoint.fold(*scored).astype(np.float64), router, checkpoint)
        loaded = _Remembering(load_embedder("static" if embedder is None else embedder))
        shipped = next((name for name in _SHIPPED if MfCheckpoint.load(name).embedder == loaded.name), None)
        beaten = MatrixFactorizationRouter(checkpoint_path=shipped, embedder=loaded) if shipped else None
        return cls(loaded, None, beaten, None)

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
