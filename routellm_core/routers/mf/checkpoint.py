"""Checkpoints of ``mf``: RouteLLM's two files, and what this project's own add beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_core._files import ASSETS, file_sha256, read_json, read_safetensors, resolve_checkpoint
from routellm_core.errors import CheckpointError, ConfigError, did_you_mean
from routellm_core.metrics.scores import sigmoid
from routellm_core.routers.reference import checked_quantiles
from routellm_core.types import FloatArray

__all__ = ["PUBLISHED_MODELS", "REFERENCE_FILE", "MfCheckpoint"]

REFERENCE_FILE = "reference.safetensors"
"""Projected embeddings of reference prompts, where a checkpoint of many models has them."""
_NAMES = """
RWKV-4-Raven-14B alpaca-13b chatglm-6b chatglm2-6b chatglm3-6b claude-1 claude-2.0 claude-2.1 claude-instant-1
codellama-34b-instruct deepseek-llm-67b-chat dolly-v2-12b dolphin-2.2.1-mistral-7b falcon-180b-chat fastchat-t5-3b
gemini-pro gemini-pro-dev-api gpt-3.5-turbo-0125 gpt-3.5-turbo-0314 gpt-3.5-turbo-0613 gpt-3.5-turbo-1106
gpt-4-0125-preview gpt-4-0314 gpt-4-0613 gpt-4-1106-preview gpt4all-13b-snoozy guanaco-33b koala-13b llama-13b
llama-2-13b-chat llama-2-70b-chat llama-2-7b-chat llama2-70b-steerlm-chat mistral-7b-instruct mistral-7b-instruct-v0.2
mistral-medium mixtral-8x7b-instruct-v0.1 mpt-30b-chat mpt-7b-chat nous-hermes-2-mixtral-8x7b-dpo oasst-pythia-12b
openchat-3.5 openchat-3.5-0106 openhermes-2.5-mistral-7b palm-2 pplx-70b-online pplx-7b-online qwen-14b-chat
qwen1.5-4b-chat qwen1.5-72b-chat qwen1.5-7b-chat solar-10.7b-instruct-v1.0 stablelm-tuned-alpha-7b
starling-lm-7b-alpha stripedhyena-nous-7b tulu-2-dpo-70b vicuna-13b vicuna-33b vicuna-7b wizardlm-13b wizardlm-70b
yi-34b-chat zephyr-7b-alpha zephyr-7b-beta
"""
PUBLISHED_MODELS: Final = tuple(_NAMES.split())
"""The models of the published checkpoints, in the order of the rows of ``P`` (RouteLLM's ``MODEL_IDS``)."""

_SHIPPED = {"default": "mf_static", "minilm": "mf_minilm"}
_PUBLISHED_EMBEDDER = "litellm/text-embedding-3-small"
_PUBLISHED_PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")


@dataclass(frozen=True)
class MfCheckpoint:
    """A checkpoint folder's content."""

    folder: Path  # where it was read from
    model_vectors: FloatArray  # ``P``, shape (num_models, dim)
    projection: FloatArray | None  # ``T``, shape (dim, text_dim); None where prompts are not projected
    classifier: FloatArray  # ``c``, shape (dim,)
    text_dim: int  # length of the embeddings that it expects
    models: tuple[str, ...]  # names of the rows of ``P``
    embedder: str  # name of the embedder that it was trained with
    pair: tuple[str, str]  # (strong, weak), the rows that are scored unless the router is told otherwise
    reference_quantiles: FloatArray | None  # of ``pair``, shape (1001,), or None
    digest: str  # SHA-256 over its weights and metadata
    tie_margin: float = 0.0  # τ, log-odds that a tie takes from a win
    gain_slope: float | None = None  # log-odds per unit of quality, where other models can be added; else None
    reference: FloatArray | None = None  # projected embeddings of reference prompts, shape (r, dim), or None
    training: Mapping[str, Any] = field(default_factory=dict)  # what was recorded of its training

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
            reference_quantiles=checked_quantiles(metadata.get("reference_quantiles"), source=metadata_file),
            digest=digest,
            tie_margin=_number(metadata, "tie_margin", metadata_file) or 0.0,
            gain_slope=_number(metadata, "gain_slope", metadata_file),
            reference=_reference(folder / REFERENCE_FILE, model_vectors.shape[1]),
            training=dict(metadata.get("training") or {}),
        )

    def fold(self, strong_model: str, weak_model: str) -> FloatArray:
        """Return v with score = σ(v · e), shape (text_dim,), float64.

        Raises:
            ConfigError: a model that the checkpoint has no vector for.
        """
        weighted = self._weighted_difference(strong_model, weak_model)
        return weighted if self.projection is None else weighted @ self.projection

    def quantiles(self, strong_model: str, weak_model: str) -> FloatArray | None:
        """Return the reference quantiles of a pair's scores, shape (1001,), or None where they are not known."""
        if (strong_model, weak_model) == self.pair or self.reference is None:
            return self.reference_quantiles if (strong_model, weak_model) == self.pair else None
        logits = self.reference @ self._weighted_difference(strong_model, weak_model) - self.tie_margin
        return np.asarray(np.maximum.accumulate(np.quantile(sigmoid(logits), np.linspace(0.0, 1.0, 1001))))

    @property
    def trained_models(self) -> tuple[str, ...]:
        """The models that have a vector."""
        return tuple(name for name, row in zip(self.models, self.model_vectors, strict=True) if row.any())

    def vector(self, model: str) -> FloatArray:
        """Return c ⊙ p̂ of a model, shape (dim,): a pair's log-odds are the difference of two, times T e.

        Raises:
            ConfigError: a model that the checkpoint has no vector for.
        """
        return np.asarray(self.classifier * self._unit_vector(model))

    def _weighted_difference(self, strong_model: str, weak_model: str) -> FloatArray:
        return np.asarray(self.vector(strong_model) - self.vector(weak_model))

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
            raise ConfigError(
                f"router 'mf': the checkpoint {self.folder.name!r} was not trained for the model {model!r}; "
                f"it was for {', '.join(self.trained_models)}"
            )
        # torch.nn.functional.normalize, which the published checkpoints were trained with, bounds the norm by 1e-12
        return np.asarray(vector / max(norm, 1e-12))


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


def _number(metadata: Mapping[str, Any], name: str, file: Path) -> float | None:
    value = metadata.get(name)
    if value is not None and not (isinstance(value, (int, float)) and np.isfinite(value)):
        raise CheckpointError(f"{file}: {name} must be a finite number, got {value!r}")
    return None if value is None else float(value)


def _reference(file: Path, dim: int) -> FloatArray | None:
    if not file.is_file():
        return None
    projected = np.asarray(read_safetensors(file).get("projected", np.empty(0)), dtype=np.float64)
    if projected.ndim != 2 or not len(projected) or projected.shape[1] != dim or not np.isfinite(projected).all():
        raise CheckpointError(f"{file}: 'projected' must hold rows of {dim} finite values")
    return projected
