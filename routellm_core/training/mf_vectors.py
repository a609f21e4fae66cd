"""What training of ``mf`` starts from, and utilities of models as vectors of a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings import Embedder, Embeddings, load_embedder
from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import LENGTH, SHIPPED, length_scores
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.training.comparisons import Comparisons
from routellm_core.training.regression import GainScale, Utilities

__all__ = ["KnownModels", "MfStart", "ModelVectors", "constant_direction", "fitted_vectors"]

Floats = npt.NDArray[np.float64]
_SHIPPED: Final = ("default", "minilm")
_LATENT: Final = 32
"""Least length of a model's vector, so that models added later have directions of their own to differ in."""
_REFERENCE: Final = 1000
"""Prompts kept for the quantiles of any pair."""


@dataclass(frozen=True, eq=False)
class ModelVectors:
    """What is written: models, their vectors (M, k), the projection (k, d) and projected reference prompts (r, k)."""

    models: tuple[str, ...]
    vectors: Floats
    projection: Floats
    scale: GainScale
    reference: Floats
    traffic: str


def constant_direction(embeddings: npt.NDArray[np.floating]) -> Floats:
    """Return u with u · e = 1, shape (d,): ``mf`` has no bias, so the embedding must supply it.

    Our own embedders end in a constant 1. Others have vectors around a common mean; there u · e is 1 as nearly as least
    squares makes it.
    """
    ones = np.flatnonzero((embeddings == 1.0).all(axis=0))
    if len(ones):
        return np.asarray(np.eye(embeddings.shape[1])[ones[-1]])
    values = embeddings.astype(np.float64)
    gram = values.T @ values
    small = 1e-6 * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + small * np.eye(len(gram)), values.sum(axis=0)))


def fitted_vectors(
    models: tuple[str, ...],
    utilities: Utilities,
    scale: GainScale,
    embeddings: Embeddings,
    *,
    prior: Floats | None,
    seed: int,
) -> ModelVectors:
    """Return a fit of M models as vectors; only differences count, so they are around 0, where they are shortest.

    ``embeddings`` are the training prompts', shape (p, d), of which ``seed`` chooses the reference prompts; models that
    are added later may differ in the direction ``prior``, shape (d,).
    """
    constant = constant_direction(embeddings)
    vectors = scale.slope * (utilities.directions + utilities.offsets[:, None] * constant)
    vectors -= vectors.mean(axis=0)
    always = [constant, *([] if prior is None else [prior]), *vectors]
    basis = _latent_basis(embeddings, np.vstack(always))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:_REFERENCE])
    return ModelVectors(
        models=models,
        vectors=vectors @ basis.T,
        projection=basis,
        scale=scale,
        reference=embeddings[chosen].astype(np.float64) @ basis.T,
        traffic=f"{len(chosen)} of the training prompts; calibrate on your own traffic where it differs",
    )


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
    """What training starts from."""

    embedder: Embedder  # of the prompts
    prior: Floats | None  # direction to start from, shape (d,), or None
    router: MatrixFactorizationRouter | None  # the router to compare with, if there is one
    checkpoint: MfCheckpoint | None  # what was named to start from, or None

    @classmethod
    def load(
        cls,
        start: str | Path | None,
        embedder: str | Mapping[str, Any] | Embedder | None,
        pair: tuple[str, str],
    ) -> MfStart:
        """Load a checkpoint, with the direction of ``pair`` where it has both models, or the embedder alone.

        Raises ConfigError for an embedder that the checkpoint was not trained with.
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


@dataclass(frozen=True, eq=False)
class KnownModels:
    """What a checkpoint of many models holds: M models, k components, r reference prompts."""

    models: tuple[str, ...]  # M names
    vectors: Floats  # shape (M, k), in log-odds
    projection: Floats  # shape (k, d)
    scale: GainScale  # from gains to probabilities
    reference: Floats  # shape (r, k)
    counts: Mapping[str, Any]  # rows and prompts by model
    base: MfStart  # its embedder

    @classmethod
    def of(cls, base: MfStart) -> KnownModels:
        """Take them from the checkpoint that training starts from, or raise ConfigError where it holds no vectors."""
        loaded = base.checkpoint
        if loaded is None or not loaded.gain_slope or loaded.projection is None or loaded.reference is None:
            raise ConfigError("models can only be added to a checkpoint of many models; train all of them anew")
        used = np.flatnonzero(loaded.classifier)
        return cls(
            models=loaded.trained_models,
            vectors=np.stack([loaded.vector(model) for model in loaded.trained_models]).astype(np.float64)[:, used],
            projection=loaded.projection[used].astype(np.float64),
            scale=GainScale(loaded.gain_slope, loaded.tie_margin),
            reference=loaded.reference[:, used].astype(np.float64),
            counts=loaded.training.get("models", {}),
            base=base,
        )

    def prior(self, comparisons: Comparisons, values: Floats) -> Utilities:
        """Return the models' utilities, a new model's being those of a known one of its quality.

        ``values`` are the components of the comparisons' prompts, shape (p, k).
        """
        vectors = self.vectors / self.scale.slope
        levels = (values @ vectors.T).mean(axis=0)
        slope = (levels - levels.mean()) @ (vectors - vectors.mean(axis=0)) / max(float(levels.var()), 1e-12)
        slope /= len(levels)
        directions = np.zeros((len(comparisons.models), vectors.shape[1]))
        for place, model in enumerate(comparisons.models):
            if model in self.models:
                directions[place] = vectors[self.models.index(model)]
        known = np.isin(np.array(comparisons.models), self.models)
        for place in map(int, np.flatnonzero(~known)):
            # A model better or worse than all known ones is taken for the nearest: beyond them nothing is known.
            quality = np.clip(_quality(comparisons, place, known, values @ directions.T), levels.min(), levels.max())
            directions[place] = vectors.mean(axis=0) + slope * (quality - levels.mean())
        return Utilities(directions, np.zeros(len(directions)))

    def projected(self, prompts: Sequence[str]) -> Floats:
        """Return the prompts' components, shape (n, k)."""
        return np.asarray(self.base.embedder.embed(list(prompts)).astype(np.float64) @ self.projection.T)


def _quality(comparisons: Comparisons, model: int, known: npt.NDArray[np.bool_], utilities: Floats) -> float:
    """Return a new model's mean utility, from its comparisons with known ones."""
    found, weights = [], []
    for mine, other, sign in (
        (comparisons.model_a, comparisons.model_b, 1.0),
        (comparisons.model_b, comparisons.model_a, -1.0),
    ):
        rows = np.flatnonzero((mine == model) & known[other])
        found.append(utilities[comparisons.prompt[rows], other[rows]] + sign * comparisons.gain[rows])
        weights.append(comparisons.weights[rows])
    joined, weight = np.concatenate(found), np.concatenate(weights)
    return float(np.average(joined, weights=weight)) if len(joined) else float(utilities[:, known].mean())


def _latent_basis(embeddings: Embeddings, always: Floats) -> Floats:
    """Return orthonormal rows, shape (k, d): the span of ``always`` (r, d), then the prompts' principal components."""
    lengths = np.linalg.norm(always, axis=1)
    _, sizes, spanning = np.linalg.svd(always[lengths > 0.0] / lengths[lengths > 0.0, None], full_matrices=False)
    basis = spanning[sizes > 1e-10 * sizes[0]]
    wanted = min(_LATENT, embeddings.shape[1], len(embeddings)) - len(basis)
    if wanted <= 0:
        return np.asarray(basis)
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    centred -= centred @ basis.T @ basis
    _, components = np.linalg.eigh(centred.T @ centred)
    more = components[:, ::-1][:, :wanted].T
    return np.asarray(np.linalg.qr(np.vstack([basis, more]).T)[0].T)
