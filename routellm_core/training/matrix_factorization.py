"""Checkpoint folders of ``mf`` in RouteLLM's layout: weights, metadata and reference quantiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from routellm_core.errors import ConfigError
from routellm_core.routers.mf.checkpoint import PUBLISHED_MODELS, REFERENCE_FILE

__all__ = ["CheckpointFacts", "reference_quantiles", "write_checkpoint", "write_model_vectors"]

Floats = npt.NDArray[np.float64]
_QUANTILES: Final = np.linspace(0.0, 1.0, 1001)


def reference_quantiles(scores: npt.NDArray[np.floating[Any]]) -> list[float]:
    """Quantiles 0, 1/1000, …, 1 of the scores on reference traffic, ascending."""
    quantiles = np.maximum.accumulate(np.quantile(scores.astype(np.float64), _QUANTILES))
    return [float(f"{value:.9g}") for value in quantiles]


@dataclass(frozen=True)
class CheckpointFacts:
    """What ``routing.json`` says about a checkpoint beside its weights."""

    embedder: str  # versioned name of the embedder that it was trained with
    strong_model: str  # the row scored as the strong model
    weak_model: str  # the row scored as the weak model
    reference_quantiles: list[float]  # 1,001 ascending scores
    reference_traffic: str  # what the quantiles were taken over, in one sentence
    # free facts for people and reports (seed, data, versions, held-out figures)
    training: Mapping[str, Any] = field(default_factory=dict)
    gain_slope: float | None = None  # of a checkpoint of many models, log-odds per unit of quality; None for one pair
    tie_margin: float = 0.0  # log-odds that a tie takes from a win; the score of any pair is lowered by it


def write_checkpoint(folder: Path, vector: Floats, facts: CheckpointFacts) -> None:
    """Write a checkpoint of one pair: ``config.json``, ``model.safetensors`` and ``routing.json``.

    The layout is RouteLLM's, so that it can load the folder; for two of its 64 models so is the order of the rows, and
    for others the rows are the pair. Its formula reduces to σ(vector · e) for the trained pair: the strong model's row
    is (1, 0), the weak one's (0, 1) and the others are 0, the first row of the projection is ``vector`` and the second
    is 0.
    The vector, shape (text_dim,), includes slope and intercept. Raises ConfigError where the pair is one model twice.
    """
    pair = (facts.strong_model, facts.weak_model)
    if pair[0] == pair[1]:
        raise ConfigError(f"strong and weak model are both {pair[0]!r}; a router needs two")
    projection = np.zeros((2, len(vector)), dtype=np.float32)
    projection[0] = vector
    _write(folder, pair, np.eye(2, dtype=np.float32), projection, np.ones(2, dtype=np.float32), facts)


def write_model_vectors(
    folder: Path,
    models: Sequence[str],
    vectors: Floats,
    projection: Floats,
    facts: CheckpointFacts,
    *,
    reference: npt.NDArray[np.floating[Any]],
) -> None:
    """Write a checkpoint with a vector for each of many models, from which any pair can be scored.

    RouteLLM's formula normalises the rows of ``P``, so each row is a model's vector over the longest one's length, with
    a last component that makes its own length 1 and that the classifier passes over.

    With ``vectors``, shape (M, k), and ``projection``, shape (k, text_dim), RouteLLM scores
    σ((vectors[s] - vectors[w]) · projection · e). From ``reference``, projected embeddings of reference prompts, shape
    (r, k), follow the quantiles of any pair.
    """
    length = max(float(np.linalg.norm(vectors, axis=1).max()), 1e-6)
    scaled = vectors / length
    rest = np.sqrt(np.clip(1.0 - (scaled**2).sum(axis=1), 0.0, None))
    rows = np.column_stack([scaled, rest]).astype(np.float32)
    padded = np.vstack([projection, np.zeros(projection.shape[1])]).astype(np.float32)
    classifier = np.array([length] * len(projection) + [0.0], dtype=np.float32)
    _write(folder, models, rows, padded, classifier, facts)
    _save(folder / REFERENCE_FILE, {"projected": np.column_stack([reference, np.zeros(len(reference))])})


def _write(
    folder: Path,
    models: Sequence[str],
    rows: npt.NDArray[np.float32],
    projection: npt.NDArray[np.float32],
    classifier: npt.NDArray[np.float32],
    facts: CheckpointFacts,
) -> None:
    """Write weights and metadata; the rows of models that RouteLLM publishes take its order."""
    names = PUBLISHED_MODELS if set(models) <= set(PUBLISHED_MODELS) else tuple(models)
    placed = np.zeros((len(names), rows.shape[1]), dtype=np.float32)
    placed[[names.index(model) for model in models]] = rows
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"P.weight": placed, "classifier.0.weight": classifier[None], "text_proj.0.weight": projection}
    _save(folder / "model.safetensors", tensors)
    config = {
        "dim": len(classifier),
        "num_classes": 1,
        "num_models": len(names),
        "text_dim": projection.shape[1],
        "use_proj": True,
    }
    routing = {
        "embedder": facts.embedder,
        "models": list(names),
        "strong_model": facts.strong_model,
        "weak_model": facts.weak_model,
        **({} if facts.gain_slope is None else {"gain_slope": facts.gain_slope, "tie_margin": facts.tie_margin}),
        "reference_traffic": facts.reference_traffic,
        "reference_quantiles": facts.reference_quantiles,
        "training": dict(facts.training),
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "routing.json", routing)


def _save(file: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    save_file({name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}, file)
    file.chmod(0o644)  # safetensors writes files that only their owner can read


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, sort_keys=False) + "\n", encoding="utf-8")
