"""The ``mf`` router: matrix factorisation (RouteLLM, arXiv 2406.18665, section 4.2).

Each model has a vector, and a prompt's embedding is projected to the same length. With the vectors normalised, the
probability that the strong model s beats the weak model w on prompt q is

    σ( c · ((p̂_s − p̂_w) ⊙ (T e(q))) )

with p̂ a unit row of ``P``, T the projection, e(q) the embedding and c the classifier. For a fixed pair everything but
e(q) is constant, so the model folds at load into one vector v = Tᵀ (c ⊙ (p̂_s − p̂_w)) and a score is σ(v · e(q)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routellm_core._files import ASSETS, file_sha256, read_json, read_safetensors, resolve_checkpoint
from routellm_core.embeddings import Embedder, load_embedder
from routellm_core.errors import CheckpointError, ConfigError, ScoringError, did_you_mean
from routellm_core.routers._published_models import PUBLISHED_MODELS
from routellm_core.routers.base import Router
from routellm_core.types import FloatArray

__all__ = ["MatrixFactorizationRouter", "MfCheckpoint"]

_SHIPPED = {"default": "mf_static", "minilm": "mf_minilm"}
_PUBLISHED_EMBEDDER = "litellm/text-embedding-3-small"
_PUBLISHED_PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")


@dataclass(frozen=True)
class MfCheckpoint:
    """A checkpoint folder's content.

    Attributes:
        folder: where it was read from.
        model_vectors: ``P``, shape (num_models, dim).
        projection: ``T``, shape (dim, text_dim); None where prompts are not projected.
        classifier: ``c``, shape (dim,).
        text_dim: length of the embeddings that it expects.
        models: names of the rows of ``P``.
        embedder: name of the embedder that it was trained with.
        pair: (strong, weak), the rows that are scored unless the router is told otherwise.
        reference_quantiles: shape (1001,), or None.
        digest: SHA-256 over its weights and metadata.
    """

    folder: Path
    model_vectors: FloatArray
    projection: FloatArray | None
    classifier: FloatArray
    text_dim: int
    models: tuple[str, ...]
    embedder: str
    pair: tuple[str, str]
    reference_quantiles: FloatArray | None
    digest: str

    @classmethod
    def load(cls, path_or_id: str | Path, *, revision: str | None = None) -> MfCheckpoint:
        """Read a folder or Hub repository in RouteLLM's layout.

        ``config.json`` and ``model.safetensors`` are RouteLLM's; ``routing.json``, which this project's checkpoints
        add, names the embedder, the models and the reference quantiles. Without it the published checkpoints' are
        assumed.

        Raises:
            CheckpointError: something is missing, truncated or of the wrong shape; the message names the file.
        """
        shipped = _SHIPPED.get(str(path_or_id))
        folder = ASSETS / shipped if shipped else resolve_checkpoint(path_or_id, revision=revision)
        config = read_json(folder / "config.json")
        weights_file = folder / "model.safetensors"
        weights = read_safetensors(weights_file)
        metadata_file = folder / "routing.json"
        metadata = read_json(metadata_file) if metadata_file.is_file() else {}
        model_vectors, projection, classifier = _checked_weights(weights, config, weights_file)
        models = tuple(metadata.get("models") or _published_names(len(model_vectors)))
        if len(models) != len(model_vectors):
            raise CheckpointError(
                f"{metadata_file} names {len(models)} models for {len(model_vectors)} rows of P.weight"
            )
        files = [weights_file, *([metadata_file] if metadata else [])]
        digest = hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()
        return cls(
            folder=folder,
            model_vectors=model_vectors,
            projection=projection,
            classifier=classifier,
            text_dim=model_vectors.shape[1] if projection is None else projection.shape[1],
            models=models,
            embedder=str(metadata.get("embedder", _PUBLISHED_EMBEDDER)),
            pair=_default_pair(metadata, models),
            reference_quantiles=_checked_quantiles(metadata, metadata_file),
            digest=digest,
        )

    def fold(self, strong_model: str, weak_model: str) -> FloatArray:
        """Return v with score = σ(v · e), shape (text_dim,), float64.

        Raises:
            ConfigError: a model that the checkpoint has no vector for.
        """
        difference = self._unit_vector(strong_model) - self._unit_vector(weak_model)
        weighted = self.classifier * difference
        return weighted if self.projection is None else weighted @ self.projection

    def _unit_vector(self, model: str) -> FloatArray:
        if model not in self.models:
            raise ConfigError(
                f"router 'mf': the checkpoint {self.folder.name!r} has no vector for the model {model!r}; "
                f"it has {len(self.models)}: {', '.join(self.models[:8])}{' …' if len(self.models) > 8 else ''}."
                f"{did_you_mean(model, self.models)}"
            )
        vector = self.model_vectors[self.models.index(model)]
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            trained = [name for name, row in zip(self.models, self.model_vectors, strict=True) if row.any()]
            raise ConfigError(
                f"router 'mf': the checkpoint {self.folder.name!r} was not trained for the model {model!r}; "
                f"it was for {', '.join(trained)}"
            )
        # torch.nn.functional.normalize, which the published checkpoints were trained with, bounds the norm by 1e-12
        return np.asarray(vector / max(norm, 1e-12))


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
        """Return σ(v · e) per prompt, shape (n,), float64."""
        embeddings = self._embedder.embed(prompts)
        if not len(prompts):
            return np.empty(0, dtype=np.float64)
        if embeddings.shape != (len(prompts), self._checkpoint.text_dim):
            raise ScoringError(
                f"the embedder {self._embedder.name!r} returned shape {embeddings.shape} for {len(prompts)} prompts; "
                f"the checkpoint expects vectors of length {self._checkpoint.text_dim}"
            )
        return _sigmoid((embeddings @ self._vector).astype(np.float64))

    @property
    def fingerprint(self) -> str:
        """Checkpoint digest, scored pair and embedder."""
        return f"{self.name}:{self._checkpoint.digest[:16]}:{self._pair[0]}:{self._pair[1]}:{self._embedder.name}"

    @property
    def reference_quantiles(self) -> FloatArray | None:
        """The checkpoint's, which hold for its default pair only."""
        return self._checkpoint.reference_quantiles if self._pair == self._checkpoint.pair else None

    @property
    def prompt_limit(self) -> str:
        """The embedder's."""
        return str(
            getattr(self._embedder, "prompt_limit", "Long prompts are truncated at the embedding model's limit.")
        )

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


def _sigmoid(logits: FloatArray) -> FloatArray:
    # exp of the negative magnitude only, so that no logit overflows
    decayed = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0 / (1.0 + decayed), decayed / (1.0 + decayed))


def _checked_weights(
    weights: Mapping[str, FloatArray], config: Mapping[str, Any], file: Path
) -> tuple[FloatArray, FloatArray | None, FloatArray]:
    use_projection = bool(config.get("use_proj", True))
    expected = {"P.weight", "classifier.0.weight", *(["text_proj.0.weight"] if use_projection else [])}
    if missing := sorted(expected - weights.keys()):
        raise CheckpointError(f"{file} has no array {missing[0]!r}; it holds {', '.join(sorted(weights)) or 'nothing'}")
    arrays = {key: np.asarray(weights[key], dtype=np.float64) for key in expected}
    if any(array.ndim != 2 for array in arrays.values()) or not all(np.isfinite(a).all() for a in arrays.values()):
        raise CheckpointError(f"{file}: every array must have two dimensions and finite values")
    num_models, dim = arrays["P.weight"].shape
    text_dim = arrays["text_proj.0.weight"].shape[1] if use_projection else dim
    shapes = {
        "P.weight": (config.get("num_models", num_models), config.get("dim", dim)),
        "classifier.0.weight": (1, dim),
        "text_proj.0.weight": (dim, config.get("text_dim", text_dim)),
    }
    for key, array in arrays.items():
        if array.shape != shapes[key]:
            raise CheckpointError(f"{file}: {key} has shape {array.shape}, expected {shapes[key]} (config.json)")
    return arrays["P.weight"], arrays.get("text_proj.0.weight"), arrays["classifier.0.weight"][0]


def _published_names(count: int) -> tuple[str, ...]:
    return PUBLISHED_MODELS if count == len(PUBLISHED_MODELS) else tuple(f"model-{row}" for row in range(count))


def _default_pair(metadata: Mapping[str, Any], models: tuple[str, ...]) -> tuple[str, str]:
    published = _PUBLISHED_PAIR if set(_PUBLISHED_PAIR) <= set(models) else (models[0], models[-1])
    return str(metadata.get("strong_model", published[0])), str(metadata.get("weak_model", published[1]))


def _checked_quantiles(metadata: Mapping[str, Any], file: Path) -> FloatArray | None:
    if "reference_quantiles" not in metadata:
        return None
    quantiles = np.asarray(metadata["reference_quantiles"], dtype=np.float64)
    if quantiles.shape != (1001,) or not (np.diff(quantiles) >= 0).all() or quantiles[0] < 0 or quantiles[-1] > 1:
        raise CheckpointError(f"{file}: reference_quantiles must be 1001 ascending numbers in [0, 1]")
    return quantiles
