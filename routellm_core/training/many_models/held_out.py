"""How well a vector per model does on prompts that it was fitted without, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import TRAINED, HeldOut
from routellm_core.rows.labelled import MixedRows, PairRows, TrainingRows, pair_rows
from routellm_core.training.adaptation import FOLDS, sigmoid
from routellm_core.training.checks import MIN_LABELS, MIN_ROWS
from routellm_core.training.many_models.battles import ModelBattles
from routellm_core.training.many_models.fit import GainScale, ModelDesign, fit_models, has_many_rows
from routellm_core.training.mf_start import MfStart

__all__ = ["Compare", "HeldOutUtilities", "Pair", "measured_pairs"]

Floats = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[str, str]
Compare: TypeAlias = Callable[[HeldOut], Mapping[str, Any]]
_MOST_PAIRS: Final = 20
"""Pairs that are measured beside the default one, those with most comparisons."""


@dataclass(frozen=True, eq=False)
class HeldOutUtilities:
    """Utilities of models on prompts that the fits did not see.

    Attributes:
        how: how they were held out, in words.
        models: M names.
        place: row of a prompt, in order.
        utilities: shape (p, M), in units of quality.
        slopes, margins: shape (p,), from gains to probabilities.
        start: the routers to compare with.
    """

    how: str
    models: tuple[str, ...]
    place: Mapping[str, int]
    utilities: Floats
    slopes: Floats
    margins: Floats
    start: MfStart

    @classmethod
    def cross_validated(
        cls,
        design: ModelDesign,
        embeddings: npt.NDArray[np.floating],
        start: MfStart,
        *,
        scale: GainScale | None = None,
    ) -> HeldOutUtilities:
        """Fit without each fold in turn, every choice made inside the others.

        Of many comparisons, only the first fold's fit chooses the strength, and the other folds take it over.

        Args:
            design: the comparisons.
            embeddings: of their prompts, shape (p, d).
            start: the routers to compare with.
            scale: from gains to probabilities; None calibrates it in each fold.
        """
        battles, count = design.battles, len(design.folds)
        utilities, slopes, margins = design.known.copy(), np.empty(count), np.empty(count)
        strength = None
        for fold in range(FOLDS):
            inside = design.folds == fold
            others = [other for other in range(FOLDS) if other != fold]
            fit = fit_models(design, others, scale=scale, strength=strength)
            strength = fit.strength if has_many_rows(design) else None
            utilities[inside] += fit.utilities(embeddings[inside])
            slopes[inside], margins[inside] = fit.scale.slope, fit.scale.tie_margin
        chosen = "the strength of the prior and the calibration chosen inside each fold"
        if has_many_rows(design):
            chosen = "the calibration chosen inside each fold and the strength of the prior inside the first"
        how = f"Five-fold cross-validation, with {chosen}"
        place = {prompt: row for row, prompt in enumerate(battles.prompts)}
        return cls(how, battles.models, place, utilities, slopes, margins, start)

    @classmethod
    def on_test_rows(
        cls, prompts: Sequence[str], models: tuple[str, ...], utilities: Floats, scale: GainScale, start: MfStart
    ) -> HeldOutUtilities:
        """Take the final fit's utilities, shape (p, M), on prompts of a test split."""
        how = "Rows of a test split that shares no prompt with the training rows"
        place = {prompt: row for row, prompt in enumerate(prompts)}
        every = np.ones(len(prompts))
        return cls(how, models, place, utilities, scale.slope * every, scale.tie_margin * every, start)

    @cached_property
    def _others(self) -> Mapping[str, Floats]:
        return self.start.others(list(self.place))

    def of_pair(self, rows: PairRows, pair: Pair) -> HeldOut:
        """Return the scores of a pair's rows."""
        at = np.array([self.place[prompt] for prompt in rows.prompts], dtype=np.intp)
        strong, weak = (self.models.index(model) for model in pair)
        gain = self.utilities[at, strong] - self.utilities[at, weak]
        return HeldOut(
            how=self.how,
            scores={
                TRAINED: sigmoid(self.slopes[at] * gain - self.margins[at]),
                **{name: scores[at] for name, scores in self._others.items()},
            },
            expected_gain=gain,
            strong=rows.strong,
            weak=rows.weak,
            models=pair,
        )


def measured_pairs(
    rows: TrainingRows, battles: ModelBattles, held_out: HeldOutUtilities, *, default: Pair, compare: Compare
) -> list[dict[str, Any]]:
    """Measure the pairs that have enough rows, the better model of each as the strong one.

    Args:
        rows: that the utilities were held out from.
        battles: the comparisons among the models that have a vector.
        held_out: their utilities.
        default: measured by the caller, and left out here.
        compare: measures held-out scores.

    Returns:
        JSON-ready: ``strong``, ``weak``, ``rows``, and the trained router's ``apgr`` and ``lead`` over others.
    """
    found = []
    for pair in _frequent_pairs(battles, default):
        oriented = _oriented(_without_unnamed(rows), pair)
        if oriented is None:
            continue
        pairs, named = oriented
        figures = compare(held_out.of_pair(pairs, named))
        found.append(
            {
                "strong": named[0],
                "weak": named[1],
                "rows": len(pairs),
                "apgr": figures["apgr"][TRAINED],
                "lead": figures["lead"],
            }
        )
    return found


def _frequent_pairs(battles: ModelBattles, default: Pair) -> list[Pair]:
    counted: Counter[Pair] = Counter()
    for a, b in zip(battles.model_a.tolist(), battles.model_b.tolist(), strict=True):
        counted[(battles.models[min(a, b)], battles.models[max(a, b)])] += 1
    frequent = [pair for pair, count in counted.most_common() if count >= MIN_ROWS and set(pair) != set(default)]
    return frequent[:_MOST_PAIRS]


def _without_unnamed(rows: TrainingRows) -> TrainingRows:
    """Leave out strong/weak rows, which are the default pair's."""
    if not isinstance(rows, MixedRows):
        return rows
    return MixedRows(tuple(part for part in rows.parts if not isinstance(part, PairRows)))


def _oriented(rows: TrainingRows, pair: Pair) -> tuple[PairRows, Pair] | None:
    """Return the pair's rows with the better model as the strong one, or None where they can tell nothing."""
    try:
        found = pair_rows(rows, strong_model=pair[0], weak_model=pair[1])
    except ConfigError:  # compared in no row of a test split
        return None
    if found.gain.mean() < 0.0:
        pair = (pair[1], pair[0])
        found = pair_rows(rows, strong_model=pair[0], weak_model=pair[1])
    wins = int(found.wins.sum())
    if len(found) < MIN_ROWS or min(wins, len(found) - wins) < MIN_LABELS:
        return None
    # APGR is a share of the difference in quality, and says nothing where that may be none.
    is_better = found.gain.mean() > 2.0 * found.gain.std() / np.sqrt(len(found))
    return (found, pair) if is_better else None
