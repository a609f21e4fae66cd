"""Train ``mf`` for one pair of models on a user's own rows: from a shipped router, or from nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings import Embedder, load_embedder
from routellm_core.errors import ConfigError
from routellm_core.routers.matrix_factorization import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.training.adaptation import Adaptation, adapt, constant_direction
from routellm_core.training.cards import rows_card_text
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.matrix_factorization import CheckpointFacts, reference_quantiles, write_checkpoint
from routellm_core.training.outcome import (
    LENGTH,
    SHIPPED,
    TRAINED,
    HeldOut,
    Provenance,
    TrainedRouter,
    length_scores,
    recorded_facts,
)
from routellm_core.training.rows import PairRows, TrainingRows, pair_rows

__all__ = ["train_matrix_factorization"]

Floats = npt.NDArray[np.float64]


def train_matrix_factorization(
    rows: TrainingRows,
    *,
    output: str | Path,
    strong_model: str,
    weak_model: str,
    start: str | Path | None = "default",
    embedder: str | Mapping[str, Any] | Embedder | None = None,
    test: TrainingRows | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    compare: Callable[[HeldOut], Mapping[str, Any]] | None = None,
) -> TrainedRouter:
    """Train, hold out, and write a checkpoint folder with its card.

    Args:
        rows: labelled rows; those about the pair are used.
        output: the folder.
        strong_model: name of the strong model, any; the router scores it against ``weak_model``.
        weak_model: name of the weak model.
        start: a checkpoint to adapt, as for ``checkpoint_path``; None starts from nothing.
        embedder: None takes the checkpoint's, or ``"static"``.
        test: rows to measure on; None measures by five-fold cross-validation.
        seed: of the folds.
        provenance: what the card says of the data.
        compare: measures the held-out scores for the card, such as ``routellm_core.evals.held_out.compare_held_out``.

    Raises:
        ConfigError: too few rows, labels all alike, a prompt in both splits, or an embedder that the checkpoint was not
            trained with.
    """
    report = check_rows(rows)
    pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
    warnings = check_pair_rows(pairs)
    base = _Base.load(start, embedder)
    embeddings = base.embedder.embed(pairs.prompts)
    adaptation = adapt(pairs, embeddings, prior=base.prior, has_surface=base.has_surface, seed=seed)
    models = (strong_model, weak_model)
    held_out = _cross_validated(pairs, adaptation, base, models)
    if test is not None:
        tested = pair_rows(test, strong_model=strong_model, weak_model=weak_model)
        refuse_leakage(pairs, tested)
        held_out = _on_test_rows(tested, adaptation, base, models)
    facts = {
        **recorded_facts(pairs, provenance, (*report.warnings, *warnings), seed=seed),
        "start": None if start is None else str(start),
        "penalty": adaptation.fit.strength.penalty,
        "surface_factor": adaptation.fit.strength.surface_factor,
        "held_out": {} if compare is None else dict(compare(held_out)),
    }
    folder = Path(output)
    _write(folder, pairs, adaptation, base, models, embeddings, facts)
    return TrainedRouter(folder, report, facts, held_out)


@dataclass(frozen=True, eq=False)
class _Base:
    """What training starts from: embedder, prior direction, and the router to compare with, if there is one."""

    embedder: Embedder
    prior: Floats | None
    router: MatrixFactorizationRouter | None

    @classmethod
    def load(cls, start: str | Path | None, embedder: str | Mapping[str, Any] | Embedder | None) -> _Base:
        if start is not None:
            router = MatrixFactorizationRouter(checkpoint_path=start, embedder=embedder)
            checkpoint = MfCheckpoint.load(start)
            loaded = load_embedder(checkpoint.embedder if embedder is None else embedder)
            return cls(loaded, checkpoint.fold(*checkpoint.pair).astype(np.float64), router)
        loaded = load_embedder("static" if embedder is None else embedder)
        shipped = {"static-v1": "default", "minilm-v1": "minilm"}.get(loaded.name)
        return cls(loaded, None, MatrixFactorizationRouter(checkpoint_path=shipped) if shipped else None)

    @property
    def has_surface(self) -> bool:
        return self.embedder.name.startswith(("static-", "minilm-"))

    def others(self, prompts: tuple[str, ...]) -> dict[str, Floats]:
        """Scores of the routers to beat."""
        found = {} if self.router is None else {SHIPPED: np.asarray(self.router.score(prompts), dtype=np.float64)}
        return {**found, LENGTH: length_scores(prompts)}


def _cross_validated(rows: PairRows, adaptation: Adaptation, base: _Base, models: tuple[str, str]) -> HeldOut:
    return HeldOut(
        how="Five-fold cross-validation, with the strength of the prior and the calibration chosen inside each fold",
        scores={TRAINED: adaptation.held_out_scores, **base.others(rows.prompts)},
        expected_gain=adaptation.held_out_gain,
        strong=rows.strong,
        weak=rows.weak,
        models=models,
    )


def _on_test_rows(rows: PairRows, adaptation: Adaptation, base: _Base, models: tuple[str, str]) -> HeldOut:
    embeddings = base.embedder.embed(rows.prompts)
    return HeldOut(
        how="Rows of a test split that shares no prompt with the training rows",
        scores={TRAINED: adaptation.fit.scores(embeddings), **base.others(rows.prompts)},
        expected_gain=adaptation.fit.expected_gain(embeddings),
        strong=rows.strong,
        weak=rows.weak,
        models=models,
    )


def _write(
    folder: Path,
    rows: PairRows,
    adaptation: Adaptation,
    base: _Base,
    models: tuple[str, str],
    embeddings: npt.NDArray[np.float32],
    facts: Mapping[str, Any],
) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder for the checkpoint")
    vector = adaptation.fit.vector(constant_direction(embeddings))
    scores = 1.0 / (1.0 + np.exp(-(embeddings.astype(np.float64) @ vector)))
    checkpoint = CheckpointFacts(
        embedder=base.embedder.name,
        strong_model=models[0],
        weak_model=models[1],
        reference_quantiles=reference_quantiles(scores),
        reference_traffic=f"the {len(rows)} training rows; calibrate on your own traffic where it differs",
        training=facts,
    )
    write_checkpoint(folder, vector, checkpoint)
    opening = (
        f"A router between {models[0]} (strong) and {models[1]} (weak) on the embedder `{base.embedder.name}`. The "
        "score is the estimated probability that the strong model strictly beats the weak one."
    )
    (folder / "README.md").write_text(
        rows_card_text(folder.name, opening, facts, reference_traffic=checkpoint.reference_traffic), encoding="utf-8"
    )
