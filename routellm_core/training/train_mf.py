"""Train ``mf`` on a user's own rows, from a shipped router or from nothing, for one pair or for many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._publish import check_writable_folder, publish
from routellm_core.embeddings import Embedder
from routellm_core.metrics.scores import sigmoid
from routellm_core.rows.labelled import PairRows, TrainingRows, pair_rows
from routellm_core.training.base import (
    Provenance,
    TrainedRouter,
    measured,
    models_card_text,
    recorded_facts,
    rows_card_text,
)
from routellm_core.training.checks import RARE, check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.comparisons import Comparisons, comparisons_of, models_named
from routellm_core.training.crossfit import TEST_SPLIT, CrossFit, group_numbers, grouped_folds
from routellm_core.training.held_out_pairs import HeldOutUtilities, Pair, measured_pairs
from routellm_core.training.matrix_factorization import (
    CheckpointFacts,
    reference_quantiles,
    write_checkpoint,
    write_model_vectors,
)
from routellm_core.training.mf_vectors import KnownModels, MfStart, ModelVectors, constant_direction, fitted_vectors
from routellm_core.training.regression import (
    GainRegression,
    GainScale,
    Utilities,
    calibrated_scale,
    fitted_regression,
    prior_of,
)

__all__ = ["Provenance", "train_matrix_factorization"]

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
        test: rows to measure on; None measures by cross-validation.
        seed: of the folds.
        provenance: what the card says of the data.

    Raises:
        ConfigError: too few rows, labels all alike, models that no chain of rows compares, a prompt in both splits, an
            embedder that the checkpoint was not trained with, or a router that would be constant or worse than chance.
        MissingExtraError: the extra ``[train]`` is not installed.
    """
    check_writable_folder(output)
    pair = (strong_model, weak_model)
    base = MfStart.load(start, embedder, pair)
    task = _Task.of(rows, pair, models, base, seed)
    report = check_rows(rows)
    pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
    warnings = [*report.warnings, *check_pair_rows(pairs), *task.warnings]
    if test is not None:
        refuse_leakage(rows, test)
    folds = grouped_folds(task.comparisons.group, seed=seed)
    regression, crossed = fitted_regression(task.comparisons, task.values, task.prior, folds, fitted=task.fitted)
    scale = task.scale(regression, crossed.held_out)
    utilities = regression.utilities()
    held_out = _held_out(task, crossed, utilities, scale, test)
    tested = pairs if test is None else pair_rows(test, strong_model=strong_model, weak_model=weak_model)
    default = held_out.of_pair(tested, pair)
    facts = {
        **recorded_facts(pairs, provenance, warnings, seed=seed),
        "start": None if start is None else Path(start).name,  # a card travels, and a machine's folders do not
        "explained": regression.explained,
        "held_out": measured(default),
    }
    folder = Path(output)
    if not task.is_pair:
        facts |= task.counts(report.models, pairs)
        facts["pairs"] = measured_pairs(rows if test is None else test, task.comparisons, held_out, default=pair)
    _write(folder, task, utilities, scale, facts, seed)
    return TrainedRouter(folder, report, facts, default)


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be fitted: one pair, many models, or new models beside those of a checkpoint."""

    pair: Pair  # the default one
    base: MfStart  # what training starts from
    comparisons: Comparisons  # among the models
    # the prompts' embeddings, or their components where models are added, shape (p, …)
    values: npt.NDArray[np.floating[Any]]
    prior: Utilities  # utilities before any row
    fitted: npt.NDArray[np.bool_]  # shape (M,), models that are fitted
    known: KnownModels | None = None  # the checkpoint's models, where some are added
    left_out: Mapping[str, int] = field(default_factory=dict)  # models with too few prompts

    @classmethod
    def of(cls, rows: TrainingRows, pair: Pair, models: Sequence[str] | None, base: MfStart, seed: int) -> _Task:
        named = [model for model in models_named(rows) if models is None or model in models]
        new = base.adds(named)
        if not new and len(named) <= 2:
            rows = pair_rows(rows, strong_model=pair[0], weak_model=pair[1])
        else:
            pair_rows(rows, strong_model=pair[0], weak_model=pair[1])  # names the models that there are, if not these
        compared = comparisons_of(rows, strong_model=pair[0], weak_model=pair[1], seed=seed)
        if new:
            return cls._adding(compared, named, new, pair, base)
        left_out: dict[str, int] = {}
        if len(named) > 2:
            wanted = {*named, *pair}
            compared = compared.of_models([model for model in compared.models if model in wanted])
            compared, left_out = compared.without_rare(needed=pair)
        embeddings = base.embedder.embed(list(compared.prompts))
        every = np.ones(len(compared.models), dtype=bool)
        prior = prior_of(compared, base.prior, embeddings)
        return cls(pair, base, compared, embeddings, prior, every, left_out=left_out)

    @classmethod
    def _adding(
        cls, compared: Comparisons, named: Sequence[str], new: Sequence[str], pair: Pair, base: MfStart
    ) -> _Task:
        known = KnownModels.of(base)
        wanted = {*named, *pair, *known.models}
        compared = compared.of_models([model for model in compared.models if model in wanted]).about(new)
        compared, left_out = compared.without_rare(needed=set(pair) & set(new), known=known.models)
        values = known.projected(compared.prompts)
        fitted = ~np.isin(np.array(compared.models), known.models)
        return cls(pair, base, compared, values, known.prior(compared, values), fitted, known, left_out)

    @property
    def is_pair(self) -> bool:
        """Whether only the pair is fitted."""
        return self.known is None and len(self.comparisons.models) == 2

    @property
    def warnings(self) -> list[str]:
        """What to know of the models."""
        if not self.left_out:
            return []
        named = ", ".join(f"{model} ({count})" for model, count in sorted(self.left_out.items())[:8])
        return [f"models compared on fewer than {RARE} prompts have no vector: {named}"]

    def features(self, prompts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return what utilities are functions of, shape (n, …)."""
        return self.base.embedder.embed(list(prompts)) if self.known is None else self.known.projected(prompts)

    def scale(self, regression: GainRegression, held_out: Floats) -> GainScale:
        """Calibrate on held-out utilities, shape (p, M), or keep the checkpoint's."""
        if self.known is not None:
            return self.known.scale
        rows = self.comparisons
        return calibrated_scale(regression.gains(held_out), rows.gain, rows.weights, both_ways=not self.is_pair)

    def vectors(self, utilities: Utilities, scale: GainScale, seed: int) -> ModelVectors:
        """Return the models' vectors, beside those of the checkpoint where models are added."""
        models, known = self.comparisons.models, self.known
        if known is None:
            embeddings = self.values.astype(np.float32)
            return fitted_vectors(models, utilities, scale, embeddings, prior=self.base.prior, seed=seed)
        constant = constant_direction(self.values)
        added = scale.slope * (utilities.directions + utilities.offsets[:, None] * constant)[self.fitted]
        named = (*known.models, *(model for model, is_new in zip(models, self.fitted, strict=True) if is_new))
        traffic = "the prompts that the checkpoint was first trained on; calibrate on your own traffic where it differs"
        return ModelVectors(named, np.vstack([known.vectors, added]), known.projection, scale, known.reference, traffic)

    def counts(self, rows: Mapping[str, int], pairs: PairRows) -> dict[str, Any]:
        """Return the facts of a checkpoint of many models."""
        counted = {
            model: {"rows": rows.get(model, len(pairs)), "prompts": count}
            for model, count in self.comparisons.prompts_by_model().items()
        }
        facts: dict[str, Any] = {"comparisons": len(self.comparisons), "models": counted}
        if self.known is not None:
            models = zip(self.comparisons.models, self.fitted, strict=True)
            facts["added"] = [model for model, is_new in models if is_new]
            facts["models"] = {**self.known.counts, **{model: counted[model] for model in facts["added"]}}
        return facts


def _held_out(
    task: _Task, crossed: CrossFit, utilities: Utilities, scale: GainScale, test: TrainingRows | None
) -> HeldOutUtilities:
    """Take the predictions of fits without a prompt's fold, or the final fit's on the prompts of a test split."""
    rows, base = task.comparisons, task.base
    if test is None:
        how, scored = f"{int(crossed.folds.max()) + 1}-fold cross-validation", base.others(rows.prompts)
        return HeldOutUtilities(how, rows.models, rows.prompts, crossed.held_out, scale, rows.group, scored, crossed)
    place = {prompt: row for row, prompt in enumerate(test.prompts)}
    prompts, group = tuple(place), group_numbers(test.prompts, test.groups)[list(place.values())]
    found = utilities.of(task.features(prompts))
    return HeldOutUtilities(TEST_SPLIT, rows.models, prompts, found, scale, group, base.others(prompts))


def _write(
    folder: Path, task: _Task, utilities: Utilities, scale: GainScale, facts: Mapping[str, Any], seed: int
) -> None:
    """Write the checkpoint of one pair, or with a vector per model, and its card."""
    written = None if task.is_pair else task.vectors(utilities, scale, seed)
    if written is None:
        direction = scale.slope * (utilities.directions[0] - utilities.directions[1])
        offset = scale.slope * (utilities.offsets[0] - utilities.offsets[1]) - scale.tie_margin
        vector = direction + offset * constant_direction(task.values)
        scores = sigmoid(task.values.astype(np.float64) @ vector)
        traffic = f"the {facts['prompts']} training prompts; calibrate on your own traffic where it differs"
    else:
        strong, weak = (written.vectors[written.models.index(model)] for model in task.pair)
        scores = sigmoid(written.reference @ (strong - weak) - scale.tie_margin)
        traffic = written.traffic
    checkpoint = CheckpointFacts(
        embedder=task.base.embedder.name,
        strong_model=task.pair[0],
        weak_model=task.pair[1],
        reference_quantiles=reference_quantiles(scores),
        reference_traffic=traffic,
        training=facts,
        gain_slope=None if written is None else scale.slope,
        tie_margin=0.0 if written is None else scale.tie_margin,
    )
    with publish(folder) as staged:
        if written is None:
            write_checkpoint(staged, vector, checkpoint)
            opening = (
                f"A router between {task.pair[0]} (strong) and {task.pair[1]} (weak) on the embedder "
                f"`{checkpoint.embedder}`. The score is the estimated probability that the strong model strictly beats "
                "the weak one."
            )
            card = rows_card_text(folder.name, opening, facts, reference_traffic=traffic)
        else:
            vectors = (written.vectors, written.projection)
            write_model_vectors(staged, written.models, *vectors, checkpoint, reference=written.reference)
            card = models_card_text(folder.name, task.pair, checkpoint.embedder, facts, traffic)
        (staged / "README.md").write_text(card, encoding="utf-8")
