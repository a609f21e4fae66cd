"""Train ``mf`` with a vector per model, and add models to such a checkpoint without touching the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._publish import publish
from routellm_core.metrics.held_out import HeldOut
from routellm_core.rows.labelled import PairRows, TrainingRows, pair_rows
from routellm_core.training.adaptation import constant_direction, folds_by_prompt
from routellm_core.training.checks import RARE, RowsReport, check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.many_models.battles import ModelBattles, model_battles
from routellm_core.training.many_models.cards import models_card_text
from routellm_core.training.many_models.fit import GainScale, ModelDesign, fit_models
from routellm_core.training.many_models.held_out import Compare, HeldOutUtilities, Pair, measured_pairs
from routellm_core.training.many_models.vectors import KnownModels, ModelVectors, fitted_vectors
from routellm_core.training.matrix_factorization import CheckpointFacts, reference_quantiles, write_model_vectors
from routellm_core.training.mf_start import MfStart
from routellm_core.training.outcome import Provenance, TrainedRouter, recorded_facts

__all__ = ["ModelsRequest", "add_models", "train_models"]

Floats = npt.NDArray[np.float64]
Utilities = Callable[[Sequence[str]], Floats]
"""From n prompts to each model's utility by the final fit, shape (n, M)."""


@dataclass(frozen=True, eq=False)
class ModelsRequest:
    """What is to be trained; see ``train_matrix_factorization`` for the fields.

    Attributes:
        models: the models that rows name and that are wanted.
        base: what training starts from.
        start: how the user named that.
    """

    rows: TrainingRows
    models: tuple[str, ...]
    pair: Pair
    base: MfStart
    start: str | None
    test: TrainingRows | None
    seed: int
    provenance: Provenance | None
    compare: Compare | None

    def battles(self, models: Sequence[str] = ()) -> ModelBattles:
        """Return the comparisons among the wanted models and ``models``."""
        made = model_battles(self.rows, strong_model=self.pair[0], weak_model=self.pair[1], seed=self.seed)
        wanted = {*self.models, *self.pair, *models}
        return made.of_models([model for model in made.models if model in wanted])


def train_models(request: ModelsRequest, folder: Path) -> TrainedRouter:
    """Fit a vector for every model that was compared often enough.

    Raises:
        ConfigError: too few rows of the pair or of one of its models, labels all alike, models that no chain of rows
            compares, or a prompt in both splits.
    """
    report, pairs, warnings = _checked(request)
    battles, left_out = request.battles().without_rare(needed=request.pair)
    base = request.base
    embeddings = base.embedder.embed(list(battles.prompts))
    folds = folds_by_prompt(battles.prompts, seed=request.seed)
    semantic = base.semantic(embeddings.shape[1])
    design = ModelDesign(battles, embeddings, prior=base.prior, semantic=semantic, folds=folds)
    held_out = HeldOutUtilities.cross_validated(design, embeddings, base)
    fit = fit_models(design)

    def utilities(prompts: Sequence[str]) -> Floats:
        return fit.utilities(base.embedder.embed(prompts))

    facts = {
        **_facts(request, report, pairs, battles, [*warnings, *_left_out(left_out)]),
        "penalty": fit.strength.penalty,
        "surface_factor": fit.strength.surface_factor,
    }
    default, facts = _measured(request, pairs, battles, held_out, utilities, fit.scale, facts)
    _write(folder, request, fitted_vectors(design, fit, embeddings, request.seed), facts)
    return TrainedRouter(folder, report, facts, default)


def add_models(request: ModelsRequest, new: Sequence[str], folder: Path) -> TrainedRouter:
    """Fit the vectors of ``new`` models alone; every pair of the others keeps its scores.

    Raises:
        ConfigError: as for :func:`train_models`, or no row that ties a new model to one of the checkpoint's.
    """
    report, pairs, warnings = _checked(request)
    known = KnownModels.of(request.base)
    compared = request.battles(known.models).about(new)
    battles, left_out = compared.without_rare(needed=set(request.pair) & set(new), known=known.models)
    values = known.projected(battles.prompts)
    design = known.design(battles, values, seed=request.seed)
    held_out = HeldOutUtilities.cross_validated(design, values, request.base, scale=known.scale)
    fit = fit_models(design, scale=known.scale)
    fitted = fit.directions + fit.offsets[:, None] * constant_direction(values)
    added = {model: row for model, row in zip(battles.models, fitted, strict=True) if model not in known.models}
    by_model = known.gains | added

    def utilities(prompts: Sequence[str]) -> Floats:
        return np.asarray(known.projected(prompts) @ np.stack([by_model[model] for model in battles.models]).T)

    facts = _facts(request, report, pairs, battles, [*warnings, *_left_out(left_out)]) | {"added": list(added)}
    facts["models"] = {**known.counts, **{model: facts["models"][model] for model in added}}
    default, facts = _measured(request, pairs, battles, held_out, utilities, known.scale, facts)
    stacked = np.vstack([known.vectors, *(known.scale.slope * vector for vector in added.values())])
    traffic = "the prompts that the checkpoint was first trained on; calibrate on your own traffic where it differs"
    models = (*known.models, *added)
    written = ModelVectors(models, stacked, known.projection, known.scale, known.reference, traffic)
    _write(folder, request, written, facts)
    return TrainedRouter(folder, report, facts, default)


def _checked(request: ModelsRequest) -> tuple[RowsReport, PairRows, list[str]]:
    report = check_rows(request.rows)
    pairs = pair_rows(request.rows, strong_model=request.pair[0], weak_model=request.pair[1])
    warnings = [*report.warnings, *check_pair_rows(pairs)]
    if request.test is not None:
        refuse_leakage(request.rows, request.test)
    return report, pairs, warnings


def _left_out(models: Mapping[str, int]) -> list[str]:
    if not models:
        return []
    named = ", ".join(f"{model} ({count})" for model, count in sorted(models.items())[:8])
    return [f"models compared on fewer than {RARE} prompts have no vector: {named}"]


def _facts(
    request: ModelsRequest, report: RowsReport, pairs: PairRows, battles: ModelBattles, warnings: Sequence[str]
) -> dict[str, Any]:
    prompts = battles.prompts_by_model()
    return {
        **recorded_facts(pairs, request.provenance, warnings, seed=request.seed),
        "start": request.start,
        "comparisons": len(battles),
        "models": {
            model: {"rows": report.models.get(model, len(pairs)), "prompts": count} for model, count in prompts.items()
        },
    }


def _measured(
    request: ModelsRequest,
    pairs: PairRows,
    battles: ModelBattles,
    held_out: HeldOutUtilities,
    utilities: Utilities,
    scale: GainScale,
    facts: Mapping[str, Any],
) -> tuple[HeldOut, dict[str, Any]]:
    """Measure the default pair and the others on the test rows, or else by cross-validation."""
    rows = request.rows
    if request.test is not None:
        rows = request.test
        pairs = pair_rows(rows, strong_model=request.pair[0], weak_model=request.pair[1])
        prompts = list(dict.fromkeys(rows.prompts))
        held_out = HeldOutUtilities.on_test_rows(prompts, battles.models, utilities(prompts), scale, request.base)
    default = held_out.of_pair(pairs, request.pair)
    if request.compare is None:
        return default, {**facts, "held_out": {}, "pairs": []}
    others = measured_pairs(rows, battles, held_out, default=request.pair, compare=request.compare)
    return default, {**facts, "held_out": dict(request.compare(default)), "pairs": others}


def _write(folder: Path, request: ModelsRequest, written: ModelVectors, facts: Mapping[str, Any]) -> None:
    strong, weak = (written.vectors[written.models.index(model)] for model in request.pair)
    odds = written.reference @ (strong - weak)
    checkpoint = CheckpointFacts(
        embedder=request.base.embedder.name,
        strong_model=request.pair[0],
        weak_model=request.pair[1],
        reference_quantiles=reference_quantiles(1.0 / (1.0 + np.exp(written.scale.tie_margin - odds))),
        reference_traffic=written.traffic,
        training=facts,
        gain_slope=written.scale.slope,
        tie_margin=written.scale.tie_margin,
    )
    vectors = (written.vectors, written.projection)
    card = models_card_text(folder.name, request.pair, checkpoint.embedder, facts, written.traffic)
    with publish(folder) as staged:
        write_model_vectors(staged, written.models, *vectors, checkpoint, reference=written.reference)
        (staged / "README.md").write_text(card, encoding="utf-8")
