"""Train ``sw_ranking``: battles and their embeddings, measured on held-out rows and saved as an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._publish import check_writable_folder, publish
from routellm_core.embeddings import Embedder, Embeddings, load_embedder
from routellm_core.metrics.held_out import LENGTH, TRAINED, HeldOut, length_scores
from routellm_core.routers.sw_ranking.battles import BattleTable, join_battles
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.rows.labelled import PairRows, PreferenceRows, TrainingRows, pair_rows
from routellm_core.training.base import Provenance, TrainedRouter, measured, recorded_facts, rows_card_text
from routellm_core.training.checks import check_pair_rows, check_rows, parts_of, refuse_leakage
from routellm_core.training.crossfit import TEST_SPLIT, CrossFit, cross_fit, group_numbers, grouped_folds
from routellm_core.training.matrix_factorization import reference_quantiles

__all__ = ["train_similarity_index"]

Floats = npt.NDArray[np.float64]
_WINNERS: Final = {1.0: "model_a", 0.0: "tie", -1.0: "model_b"}


def train_similarity_index(
    rows: TrainingRows,
    *,
    output: str | Path,
    strong_model: str,
    weak_model: str,
    embedder: str | Mapping[str, Any] | Embedder = "static",
    num_tiers: int = 10,
    dtype: str | None = None,
    test: TrainingRows | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
) -> TrainedRouter:
    """Build an index, measure it on held-out rows, and write it with its card.

    Battles of every model are used where the rows are preferences; otherwise each prompt is a battle of the pair.

    Args:
        rows: labelled rows; a row's weight multiplies the weight that its similarity to a prompt gives it.
        output: the folder.
        strong_model: name of the strong model.
        weak_model: name of the weak model.
        embedder: what embeds the battles' prompts.
        num_tiers: tiers that the models are split into.
        dtype: how embeddings are stored: ``float32`` or ``int8``; None decides by size.
        test: rows to measure on; None measures by cross-validation.
        seed: of the folds.
        provenance: what the card says of the data.

    Raises:
        ConfigError: too few rows of the pair, labels all alike, a prompt in both splits, or a router that would be
            constant or worse than chance.
        MissingExtraError: the extra ``[train]`` is not installed.
    """
    check_writable_folder(output)
    pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
    report = check_rows(rows)
    warnings = [*report.warnings, *check_pair_rows(pairs)]
    models = (strong_model, weak_model)
    loaded = load_embedder(embedder)
    battles = _battles(rows, models)
    embeddings = loaded.embed(list(battles.prompts or ()))

    def build(kept: npt.NDArray[np.bool_]) -> SimilarityWeightedRouter:
        return SimilarityWeightedRouter.from_arrays(
            battles.selected(kept),
            embeddings[kept],
            embedder=loaded,
            strong_model=strong_model,
            weak_model=weak_model,
            num_tiers=num_tiers,
        )

    router = build(np.ones(len(battles), dtype=bool))
    if test is None:
        held_out = _cross_validated(rows, battles, embeddings, pairs, build, models, seed)
    else:
        tested = pair_rows(test, strong_model=strong_model, weak_model=weak_model)
        refuse_leakage(rows, tested)
        groups = group_numbers(tested.prompts, tested.groups)
        held_out = _held_out(tested, np.asarray(router.score(tested.prompts)), models, TEST_SPLIT, groups=groups)
    facts = recorded_facts(pairs, provenance, warnings, seed=seed)
    facts["held_out"] = measured(held_out)
    folder = Path(output)
    quantiles = reference_quantiles(np.asarray(router.score_embeddings(embeddings)))
    opening = (
        f"A similarity-weighted index of {len(battles)} battles on the embedder `{loaded.name}`, for {strong_model} "
        f"(strong) against {weak_model} (weak)."
    )
    card = rows_card_text(folder.name, opening, facts, reference_traffic="the battles' own prompts; calibrate on yours")
    with publish(folder) as staged:
        router.save(staged, dtype=dtype, reference_quantiles=quantiles)
        (staged / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        (staged / "README.md").write_text(card, encoding="utf-8")
    return TrainedRouter(folder, report, facts, held_out)


def _battles(rows: TrainingRows, models: tuple[str, str]) -> BattleTable:
    """Return battles of all models where rows are preferences, and of the pair where they are something else."""
    tables = []
    for part in parts_of(rows):
        if isinstance(part, PreferenceRows):
            model_a, model_b, gain = list(part.model_a), list(part.model_b), part.outcome - 0.5
        else:
            part = pair_rows(part, strong_model=models[0], weak_model=models[1])
            model_a, model_b, gain = [models[0]] * len(part), [models[1]] * len(part), part.gain
        winners = [_WINNERS[sign] for sign in np.sign(gain).tolist()]
        prompts = [prompt.strip() for prompt in part.prompts]
        # Where all weights are equal they change nothing, and the index needs no column of them.
        weights = None if (rows.weights == rows.weights[0]).all() else part.weights
        tables.append(BattleTable.from_columns(model_a, model_b, winners, prompts, weights))
    return join_battles(tables)


def _cross_validated(
    rows: TrainingRows,
    battles: BattleTable,
    embeddings: Embeddings,
    pairs: PairRows,
    build: Callable[[npt.NDArray[np.bool_]], SimilarityWeightedRouter],
    models: tuple[str, str],
    seed: int,
) -> HeldOut:
    """Score the pair's rows by indexes without their prompts; battles of other pairs keep to the folds as well."""
    prompts = battles.prompts or ()
    stripped = [prompt.strip() for prompt in pairs.prompts]
    # Battles may be fewer than rows (of mixed rows, those of the pair alone), so a text's group is looked up.
    of_row = group_numbers([prompt.strip() for prompt in rows.prompts], rows.groups)
    group_of = dict(zip((prompt.strip() for prompt in rows.prompts), of_row.tolist(), strict=True))
    groups = np.array([group_of[prompt] for prompt in prompts], dtype=np.intp)
    folds = grouped_folds(groups, seed=seed)
    row_of = {prompt: row for row, prompt in enumerate(prompts)}
    at = np.array([row_of[prompt] for prompt in stripped], dtype=np.intp)

    def scored(kept: npt.NDArray[np.bool_]) -> Floats:
        scores = np.full(len(at), np.nan)
        asked = np.flatnonzero(~kept[at])
        scores[asked] = build(kept).score_embeddings(embeddings[at[asked]])
        return scores

    raw = cross_fit(scored, folds, of_items=folds[at])
    held_out, *refitted = (_on_one_level(values, folds[at]) for values in (raw.held_out, *raw.refitted))
    crossed = CrossFit(raw.folds, held_out, np.stack(refitted))
    how = f"{int(folds.max()) + 1}-fold cross-validation"
    return _held_out(pairs, crossed.held_out, models, how, groups=groups[at], crossed=crossed)


def _on_one_level(scores: Floats, folds: npt.NDArray[np.intp]) -> Floats:
    """Move every fold's scores, shape (m,), to the mean of all; NaN stays.

    An index's level is the share of wins in it, which is low where the left-out fold's own share is high.
    """
    moved = scores.copy()
    for fold in np.unique(folds[np.isfinite(scores)]):
        moved[folds == fold] += np.nanmean(scores) - scores[folds == fold].mean()
    return moved


def _held_out(
    rows: PairRows,
    scores: Floats,
    models: tuple[str, str],
    how: str,
    *,
    groups: npt.NDArray[np.intp],
    crossed: CrossFit | None = None,
) -> HeldOut:
    return HeldOut(
        how=how,
        scores={TRAINED: scores, LENGTH: length_scores(rows.prompts)},
        # Ties count half on each side of a rating, so a win rate of one half is an expected gain of none.
        expected_gain=scores - 0.5,
        strong=rows.strong,
        weak=rows.weak,
        models=models,
        folds=None if crossed is None else crossed.folds,
        groups=groups,
        refitted=None if crossed is None else crossed.refitted,
    )
