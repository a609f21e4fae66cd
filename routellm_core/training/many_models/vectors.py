"""Vectors of many models: from a fit to a checkpoint, and back to where further models can be fitted beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings.base import Embeddings
from routellm_core.errors import ConfigError
from routellm_core.training.adaptation import constant_direction, folds_by_prompt
from routellm_core.training.many_models.battles import ModelBattles
from routellm_core.training.many_models.fit import GainScale, ModelDesign, ModelsFit
from routellm_core.training.mf_start import MfStart

__all__ = ["KnownModels", "ModelVectors", "fitted_vectors"]

Floats = npt.NDArray[np.float64]
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


def fitted_vectors(design: ModelDesign, fit: ModelsFit, embeddings: Embeddings, seed: int) -> ModelVectors:
    """Return a fit as vectors; ``embeddings`` are of the training prompts, shape (p, d)."""
    constant = constant_direction(embeddings)
    vectors = fit.scale.slope * (fit.directions + fit.offsets[:, None] * constant)
    basis = _latent_basis(embeddings, np.vstack([constant, design.prior, vectors]))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:_REFERENCE])
    return ModelVectors(
        models=design.battles.models,
        vectors=vectors @ basis.T,
        projection=basis,
        scale=fit.scale,
        reference=embeddings[chosen].astype(np.float64) @ basis.T,
        traffic=f"{len(chosen)} of the training prompts; calibrate on your own traffic where it differs",
    )


@dataclass(frozen=True, eq=False)
class KnownModels:
    """What a checkpoint of many models holds: M models, k components, r reference prompts.

    Attributes:
        models: M names.
        vectors: shape (M, k), in log-odds.
        projection: shape (k, d).
        scale: from gains to probabilities.
        reference: shape (r, k).
        counts: rows and prompts by model.
        base: its embedder.
    """

    models: tuple[str, ...]
    vectors: Floats
    projection: Floats
    scale: GainScale
    reference: Floats
    counts: Mapping[str, Any]
    base: MfStart

    @classmethod
    def of(cls, base: MfStart) -> KnownModels:
        """Take them from the checkpoint that training starts from.

        Raises:
            ConfigError: it holds no vectors that others could be fitted beside.
        """
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

    @property
    def gains(self) -> dict[str, Floats]:
        """Vectors by model, shape (k,) each, in units of quality."""
        return dict(zip(self.models, self.vectors / self.scale.slope, strict=True))

    def design(self, battles: ModelBattles, values: Floats, *, seed: int) -> ModelDesign:
        """Return comparisons with the models of this checkpoint held fixed; ``values`` are the prompts' components."""
        unknown = np.full(len(self.projection), np.nan)
        gains = self.gains
        return ModelDesign(
            battles,
            values,
            # Where the checkpoint's own models differ most, a new one will too: it starts from that direction.
            prior=np.linalg.svd(self.vectors - self.vectors.mean(axis=0), full_matrices=False)[2][0],
            semantic=values.shape[1],
            folds=folds_by_prompt(battles.prompts, seed=seed),
            fixed=values @ np.stack([gains.get(model, unknown) for model in battles.models]).T,
        )

    def projected(self, prompts: Sequence[str]) -> Floats:
        """Return the prompts' components, shape (n, k)."""
        return np.asarray(self.base.embedder.embed(list(prompts)).astype(np.float64) @ self.projection.T)


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
