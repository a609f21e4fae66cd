"""How well models' utilities do on prompts that they were fitted without, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import TRAINED, HeldOut, compare_held_out
from routellm_core.rows.labelled import MixedRows, PairRows, TrainingRows, pair_rows
from routellm_core.training.checks import MIN_LABELS, MIN_ROWS
from routellm_core.training.comparisons import Comparisons
from routellm_core.training.crossfit import CrossFit
from routellm_core.training.regression import GainScale

__all__ = ["HeldOutUtilities", "Pair", "measured_pairs"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Pair: TypeAlias = tuple[str, str]
_MOST_PAIRS: Final = 20
"""Pairs that are measured beside the default one, those with most comparisons."""


@dataclass(frozen=True, eq=False)
class HeldOutUtilities:
    """Utilities of models on prompts that the fits did not see."""

    how: str  # how they were held out, in words
    models: tuple[str, ...]  # M names
    prompts: tuple[str, ...]  # p texts
    utilities: Floats  # shape (p, M), in units of quality
    scale: GainScale  # from gains to probabilities
    group: Indices  # shape (p,), see ``Comparisons``
    others: Mapping[str, Floats]  # scores of the routers to compare with, shape (p,) each
    crossed: CrossFit | None = None  # the fits, where they were cross-fitted

    def of_pair(self, rows: PairRows, pair: Pair) -> HeldOut:
        """Return the scores of a pair's rows."""
        place = {prompt: row for row, prompt in enumerate(self.prompts)}
        at = np.array([place[prompt] for prompt in rows.prompts], dtype=np.intp)
        strong, weak = (self.models.index(model) for model in pair)
        gain = self.utilities[at, strong] - self.utilities[at, weak]
        crossed = self.crossed
        return HeldOut(
            how=self.how,
            scores={TRAINED: self.scale.scores(gain), **{name: scores[at] for name, scores in self.others.items()}},
            expected_gain=gain,
            strong=rows.strong,
            weak=rows.weak,
            models=pair,
            folds=None if crossed is None else crossed.folds[at],
            groups=self.group[at],
            refitted=None if crossed is None else crossed.refitted[:, at, strong] - crossed.refitted[:, at, weak],
        )


def measured_pairs(
    rows: TrainingRows, comparisons: Comparisons, held_out: HeldOutUtilities, *, default: Pair
) -> list[dict[str, Any]]:
    """Measure the pairs but ``default`` that have enough rows, the better model of each as the strong one.

    JSON-ready: ``strong``, ``weak``, ``rows``, and the trained router's ``apgr`` and ``lead`` over others.
    """
    found = []
    for pair in _frequent_pairs(comparisons, default):
        oriented = _oriented(_without_unnamed(rows), pair)
        if oriented is None:
            continue
        pairs, named = oriented
        figures = compare_held_out(held_out.of_pair(pairs, named))
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


def _frequent_pairs(comparisons: Comparisons, default: Pair) -> list[Pair]:
    names, counted = comparisons.models, Counter[Pair]()
    for a, b in zip(comparisons.model_a.tolist(), comparisons.model_b.tolist(), strict=True):
        counted[(names[min(a, b)], names[max(a, b)])] += 1
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
