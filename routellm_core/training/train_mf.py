"""Train ``mf`` on a user's own rows, from a shipped router or from nothing, for one pair or for many models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._publish import check_writable_folder, publish
from routellm_core.embeddings import Embedder
from routellm_core.metrics.held_out import TRAINED, HeldOut
from routellm_core.rows.labelled import PairRows, TrainingRows, pair_rows
from routellm_core.training.adaptation import Adaptation, adapt, constant_direction
from routellm_core.training.cards import rows_card_text
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.many_models.battles import models_named
from routellm_core.training.many_models.train import ModelsRequest, add_models, train_models
from routellm_core.training.matrix_factorization import CheckpointFacts, reference_quantiles, write_checkpoint
from routellm_core.training.mf_start import MfStart
from routellm_core.training.outcome import Provenance, TrainedRouter, recorded_facts

__all__ = ["train_matrix_factorization"]

Floats = npt.NDArray[np.float64]


def train_matrix_factorization(
    rows: TrainingRows,
    *,
    output: str | Path,
    strong_model: str,
    weak_model: str,
    models: Sequence[str] | None = None,
    start: str | Path | None = "default",
    embedder: str | Mapping[str, Any] | Embedder | None = None,
    test: TrainingRows | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    compare: Callable[[HeldOut], Mapping[str, Any]] | None = None,
) -> TrainedRouter:
    """Train, hold out, and write a checkpoint folder with its card.

    Rows about more than two models give each a vector, from which any pair can be routed; where ``start`` is such a
    checkpoint and the rows compare new models with its own, only the new vectors are fitted. Otherwise the rows about
    the pair are used.

    Args:
        rows: labelled rows.
        output: the folder.
        strong_model: name of the strong model, any; the router scores it against ``weak_model``.
        weak_model: name of the weak model.
        models: of preference and quality rows, the models to use; None takes all of them. The pair alone trains it
            without the others.
        start: a checkpoint to adapt, as for ``checkpoint_path``; None starts from nothing.
        embedder: None takes the checkpoint's, or ``"static"``.
        test: rows to measure on; None measures by five-fold cross-validation.
        seed: of the folds.
        provenance: what the card says of the data.
        compare: measures the held-out scores for the card, such as ``routellm_core.metrics.held_out.compare_held_out``.

    Raises:
        ConfigError: too few rows, labels all alike, a prompt in both splits, or an embedder that the checkpoint was not
            trained with.
    """
    check_writable_folder(output)
    base = MfStart.load(start, embedder, (strong_model, weak_model))
    named = [model for model in models_named(rows) if models is None or model in models]
    new = base.adds(named)
    if new or len(named) > 2:
        request = ModelsRequest(
            rows=rows,
            models=tuple(named),
            pair=(strong_model, weak_model),
            base=base,
            start=None if start is None else Path(start).name,
            test=test,
            seed=seed,
            provenance=provenance,
            compare=compare,
        )
        return add_models(request, new, Path(output)) if new else train_models(request, Path(output))
    report = check_rows(rows)
    pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
    warnings = check_pair_rows(pairs)
    embeddings = base.embedder.embed(pairs.prompts)
    adaptation = adapt(pairs, embeddings, prior=base.prior, has_surface=base.has_surface, seed=seed)
    pair = (strong_model, weak_model)
    held_out = _cross_validated(pairs, adaptation, base, pair)
    if test is not None:
        tested = pair_rows(test, strong_model=strong_model, weak_model=weak_model)
        refuse_leakage(pairs, tested)
        held_out = _on_test_rows(tested, adaptation, base, pair)
    facts = {
        **recorded_facts(pairs, provenance, (*report.warnings, *warnings), seed=seed),
        "start": None if start is None else Path(start).name,  # a card travels, and a machine's folders do not
        "penalty": adaptation.fit.strength.penalty,
        "surface_factor": adaptation.fit.strength.surface_factor,
        "held_out": {} if compare is None else dict(compare(held_out)),
    }
    folder = Path(output)
    _write(folder, pairs, adaptation, base, pair, embeddings, facts)
    return TrainedRouter(folder, report, facts, held_out)


def _cross_validated(rows: PairRows, adaptation: Adaptation, base: MfStart, models: tuple[str, str]) -> HeldOut:
    return HeldOut(
        how="Five-fold cross-validation, with the strength of the prior and the calibration chosen inside each fold",
        scores={TRAINED: adaptation.held_out_scores, **base.others(rows.prompts)},
        expected_gain=adaptation.held_out_gain,
        strong=rows.strong,
        weak=rows.weak,
        models=models,
    )


def _on_test_rows(rows: PairRows, adaptation: Adaptation, base: MfStart, models: tuple[str, str]) -> HeldOut:
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
    base: MfStart,
    models: tuple[str, str],
    embeddings: npt.NDArray[np.float32],
    facts: Mapping[str, Any],
) -> None:
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
    opening = (
        f"A router between {models[0]} (strong) and {models[1]} (weak) on the embedder `{base.embedder.name}`. The "
        "score is the estimated probability that the strong model strictly beats the weak one."
    )
    card = rows_card_text(folder.name, opening, facts, reference_traffic=checkpoint.reference_traffic)
    with publish(folder) as staged:
        write_checkpoint(staged, vector, checkpoint)
        (staged / "README.md").write_text(card, encoding="utf-8")
