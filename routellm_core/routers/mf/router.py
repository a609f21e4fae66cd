"""The ``mf`` router: matrix factorisation (RouteLLM, arXiv 2406.18665, section 4.2).

Each model has a vector, and a prompt's embedding is projected to the same length. With the vectors normalised, the
probability that the strong model s beats the weak model w on prompt q is

    σ( c · ((p̂_s − p̂_w) ⊙ (T e(q))) )

with p̂ a unit row of ``P``, T the projection, e(q) the embedding and c the classifier. For a fixed pair everything but
e(q) is constant, so the model folds at load into one vector v = Tᵀ (c ⊙ (p̂_s − p̂_w)) and a score is σ(v · e(q)).
Scores of (s, w) and (w, s) then sum to 1. Our checkpoints of many models know how often models tie, and lower the
score by a margin τ, σ(v · e(q) − τ), so that it is the probability of a strict win (Rao & Kupper 1967).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routellm_core.embeddings import Embedder, load_embedder
from routellm_core.embeddings.base import prompt_limit_of
from routellm_core.errors import ConfigError, ScoringError
from routellm_core.metrics.scores import sigmoid
from routellm_core.routers.base import Router
from routellm_core.routers.mf.checkpoint import MfCheckpoint
from routellm_core.types import FloatArray

__all__ = ["MatrixFactorizationRouter", "MfCheckpoint"]


class MatrixFactorizationRouter(Router):
    """Scores with a matrix-factorisation checkpoint.

    Args:
        checkpoint_path: ``"default"`` (ships with the package; embedder ``static``), ``"minilm"`` (ships; embedder
            ``minilm``), a folder, or a Hub id such as ``"routellm/mf_gpt4_augmented"``.
        strong_model: the row of ``P`` scored as the strong model; may differ from the model dispatched to. None
            takes the checkpoint's.
        weak_model: likewise for the weak model.
        embedder: the embedder, by name, mapping or object; None takes the one the checkpoint was trained with. A
            different one is refused.
        revision: Hub branch, tag or commit.
        hidden_size: RouteLLM's option; when given it must agree with the checkpoint, as must the four below.
        num_models: number of rows of ``P``.
        text_dim: length of an embedding.
        num_classes: always 1.
        use_proj: whether embeddings are projected.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: a model without a vector, or an embedder that the checkpoint was not trained with.
    """

    name: ClassVar[str] = "mf"

    def __init__(
        self,
        *,
        checkpoint_path: str | Path = "default",
        strong_model: str | None = None,
        weak_model: str | None = None,
        embedder: str | Mapping[str, Any] | Embedder | None = None,
        revision: str | None = None,
        hidden_size: int | None = None,
        num_models: int | None = None,
        text_dim: int | None = None,
        num_classes: int | None = None,
        use_proj: bool | None = None,
    ) -> None:
        checkpoint = MfCheckpoint.load(checkpoint_path, revision=revision)
        stated = {
            "hidden_size": (hidden_size, len(checkpoint.classifier)),
            "num_models": (num_models, len(checkpoint.models)),
            "text_dim": (text_dim, checkpoint.text_dim),
            "num_classes": (num_classes, 1),
            "use_proj": (use_proj, checkpoint.projection is not None),
        }
        for option, (given, actual) in stated.items():
            if given is not None and given != actual:
                raise ConfigError(
                    f"router 'mf': {option}={given!r}, but the checkpoint {checkpoint_path!r} has {actual!r}"
                )
        self._checkpoint = checkpoint
        self._pair = (strong_model or checkpoint.pair[0], weak_model or checkpoint.pair[1])
        self._vector = checkpoint.fold(*self._pair).astype(np.float32)  # as the embeddings, so that no batch is copied
        self._embedder = load_embedder(checkpoint.embedder if embedder is None else embedder)
        self._check_embedder()

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return σ(v · e − τ) per prompt, shape (n,), float64."""
        embeddings = self._embedder.embed(prompts)
        if not len(prompts):
            return np.empty(0, dtype=np.float64)
        if embeddings.shape != (len(prompts), self._checkpoint.text_dim):
            raise ScoringError(
                f"the embedder {self._embedder.name!r} returned shape {embeddings.shape} for {len(prompts)} prompts; "
                f"the checkpoint expects vectors of length {self._checkpoint.text_dim}"
            )
        return sigmoid((embeddings @ self._vector).astype(np.float64) - self._checkpoint.tie_margin)

    @property
    def fingerprint(self) -> str:
        """Checkpoint digest, scored pair and embedder."""
        return f"{self.name}:{self._checkpoint.digest[:16]}:{self._pair[0]}:{self._pair[1]}:{self._embedder.name}"

    @property
    def reference_quantiles(self) -> FloatArray | None:
        """The checkpoint's, for its default pair, or for any where it keeps reference prompts."""
        return self._checkpoint.quantiles(*self._pair)

    @property
    def prompt_limit(self) -> str:
        """The embedder's."""
        return prompt_limit_of(self._embedder)

    def describe(self) -> dict[str, Any]:
        """Return the checkpoint, embedder and scored pair beside the base facts."""
        return {
            **super().describe(),
            "checkpoint": self._checkpoint.folder.name,
            "embedder": self._embedder.name,
            "scored_pair": " against ".join(self._pair),
        }

    def _check_embedder(self) -> None:
        expected, got = self._checkpoint.embedder, self._embedder.name
        if got != expected:
            raise ConfigError(
                f"router 'mf': the checkpoint {self._checkpoint.folder.name!r} was trained with the embedder "
                f"{expected!r} and cannot score vectors of {got!r}"
            )
        if self._embedder.dimension not in (None, self._checkpoint.text_dim):
            raise ConfigError(
                f"router 'mf': the embedder {got!r} returns vectors of length {self._embedder.dimension}, the "
                f"checkpoint {self._checkpoint.folder.name!r} expects {self._checkpoint.text_dim}"
            )
