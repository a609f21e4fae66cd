"""Fitting a router to one pair of models, from a few hundred labelled prompts, starting from a shipped router.

Two steps, both exact. A ridge regression of the *gain* (strong minus weak quality) on the embedding, with the shipped
router's direction as a column of its own: the prior mean is a multiple of it that the data choose. The gain ranks
prompts better than the win does, since it also hears where the weak model was better. Then a logistic regression of
"the strong model strictly wins" on the expected gain, which makes a probability of it.

How strongly to hold on to the prior is chosen by cross-validation. The held-out scores come from an outer
cross-validation around all of that, the choice included, so nothing that is reported has seen its own row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings.base import Embeddings
from routellm_core.rows.labelled import PairRows
from routellm_core.training.checks import normalised

__all__ = [
    "FOLDS",
    "PENALTIES",
    "PRIOR_PENALTY",
    "SURFACE_FACTORS",
    "Adaptation",
    "PairFit",
    "Strength",
    "adapt",
    "calibrated_odds",
    "constant_direction",
    "folds_by_prompt",
    "sigmoid",
]

Floats = npt.NDArray[np.float64]
FOLDS: Final = 5
PENALTIES: Final = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 1e7)
SURFACE_FACTORS: Final = (1.0, 1 / 3)
"""Penalty of a column of another kind relative to a semantic component."""
PRIOR_PENALTY: Final = 10.0
"""Rows' worth of belief that the prior direction says nothing: next to none, but it keeps the solution defined."""
_NEWTON_STEPS: Final = 50


@dataclass(frozen=True)
class Strength:
    """How strongly the fit holds on to the prior.

    Attributes:
        penalty: λ of a semantic component, in units of the components' mean variance.
        surface_factor: λ of a column of another kind relative to it.
    """

    penalty: float
    surface_factor: float


@dataclass(frozen=True, eq=False)
class PairFit:
    """A fitted router. With an embedding e, the expected gain is ``direction · e + offset``.

    Attributes:
        direction: shape (d,).
        offset: expected gain at e = 0.
        slope: log-odds of a strict win per unit of expected gain, not negative.
        intercept: log-odds of a strict win where the expected gain is 0.
        strength: what cross-validation chose.
    """

    direction: Floats
    offset: float
    slope: float
    intercept: float
    strength: Strength

    def expected_gain(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Return strong minus weak quality as expected, shape (n,)."""
        return np.asarray(embeddings.astype(np.float64) @ self.direction + self.offset)

    def scores(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Return P(strong strictly beats weak), shape (n,)."""
        return sigmoid(self.slope * self.expected_gain(embeddings) + self.intercept)

    def vector(self, constant: Floats) -> Floats:
        """Return v with score = σ(v · e), shape (d,); ``constant`` · e is 1, see :func:`constant_direction`."""
        return np.asarray(self.slope * self.direction + (self.slope * self.offset + self.intercept) * constant)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The router and what it does on rows that it was fitted without.

    Attributes:
        fit: fitted on every row.
        held_out_scores: shape (n,), P(strong strictly wins) by fits that did not see the row.
        held_out_gain: shape (n,), the expected gain likewise.
    """

    fit: PairFit
    held_out_scores: Floats
    held_out_gain: Floats


def adapt(
    rows: PairRows, embeddings: Embeddings, *, prior: Floats | None, semantic: int | None, seed: int = 0
) -> Adaptation:
    """Fit a router to ``rows``.

    Args:
        rows: n rows with a label each; at least some tens.
        embeddings: shape (n, d).
        prior: v of the router to start from, shape (d,); None starts from nothing.
        semantic: how many of the first columns hold the meaning; None where all of them do. The others are what was
            counted in a prompt, opinions and a constant.
        seed: of the folds.
    """
    design = _Design(rows, embeddings, prior, semantic, folds_by_prompt(rows.prompts, seed=seed))
    scores, gain = np.empty(len(rows)), np.empty(len(rows))
    for fold in range(FOLDS):
        inside = design.folds == fold
        fit = _fit(design, [other for other in range(FOLDS) if other != fold])
        scores[inside], gain[inside] = fit.scores(embeddings[inside]), fit.expected_gain(embeddings[inside])
    return Adaptation(_fit(design, list(range(FOLDS))), scores, gain)


def constant_direction(embeddings: npt.NDArray[np.floating]) -> Floats:
    """Return u with u · e = 1, shape (d,): ``mf`` has no bias, so the embedding must supply it.

    Our own embedders end in a constant 1. Others have vectors around a common mean; there u · e is 1 as nearly as least
    squares makes it.
    """
    ones = np.flatnonzero((embeddings == 1.0).all(axis=0))
    if len(ones):
        return np.asarray(np.eye(embeddings.shape[1])[ones[-1]])
    values = embeddings.astype(np.float64)
    gram = values.T @ values
    small = 1e-6 * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + small * np.eye(len(gram)), values.sum(axis=0)))


def folds_by_prompt(prompts: Sequence[str], *, count: int = FOLDS, seed: int = 0) -> npt.NDArray[np.intp]:
    """Return a fold for each prompt, shape (n,); equal prompts share one."""
    number = {key: place for place, key in enumerate(dict.fromkeys(map(normalised, prompts)))}
    assigned = np.random.default_rng(seed).permutation(len(number)) % count
    return np.array([assigned[number[normalised(prompt)]] for prompt in prompts], dtype=np.intp)


class _Design:
    """Columns of the regression: 1, the prior's log-odds (standardised), then the centred embedding.

    Sums over each fold are kept, so that leaving folds out is a subtraction and not a pass over the rows.
    """

    def __init__(
        self,
        rows: PairRows,
        embeddings: Embeddings,
        prior: Floats | None,
        semantic: int | None,
        folds: npt.NDArray[np.intp],
    ) -> None:
        values = embeddings.astype(np.float64)
        self.rows, self.folds = rows, folds
        self.mean = np.average(values, axis=0, weights=rows.weights)
        centred = values - self.mean
        self.prior = np.zeros(values.shape[1]) if prior is None else prior
        spread = float((centred @ self.prior).std())
        self.prior_scale = 1.0 / spread if spread > 1e-9 else 0.0
        self.matrix = np.column_stack(
            [np.ones(len(values)), centred @ self.prior * self.prior_scale, centred]
        )  # (n, 2 + d)
        self.semantic = values.shape[1] if semantic is None else semantic
        self.unit = max(float(centred[:, : self.semantic].var(axis=0).mean()), 1e-12)

    @cached_property
    def sums(self) -> list[tuple[Floats, Floats]]:
        """(XᵀWX, XᵀWy) of each fold."""
        found = []
        for fold in range(FOLDS):
            inside = self.folds == fold
            weighted = self.matrix[inside] * self.rows.weights[inside, None]
            found.append((weighted.T @ self.matrix[inside], weighted.T @ self.rows.gain[inside]))
        return found

    def solve(self, folds: Sequence[int], strength: Strength) -> Floats:
        """Return coefficients fitted on ``folds``, shape (2 + d,)."""
        gram, moment = sum(self.sums[fold][0] for fold in folds), sum(self.sums[fold][1] for fold in folds)
        penalty = np.full(self.matrix.shape[1], strength.penalty * self.unit)
        penalty[2 + self.semantic :] *= strength.surface_factor
        penalty[:2] = 1e-9, PRIOR_PENALTY
        return np.asarray(np.linalg.solve(gram + np.diag(penalty), moment))


def _fit(design: _Design, folds: Sequence[int]) -> PairFit:
    """Choose the strength on ``folds`` by cross-validation among them, fit, and calibrate on the held-out gains."""
    inside = np.isin(design.folds, folds)
    gain, weights = design.rows.gain, design.rows.weights
    factors = SURFACE_FACTORS if 2 + design.semantic < design.matrix.shape[1] else (1.0,)
    best: tuple[float, Strength, Floats] | None = None
    for strength in (Strength(penalty, factor) for penalty in PENALTIES for factor in factors):
        expected = np.zeros(len(gain))
        for fold in folds:
            member = design.folds == fold
            expected[member] = design.matrix[member] @ design.solve([f for f in folds if f != fold], strength)
        error = float((weights[inside] * (expected[inside] - gain[inside]) ** 2).sum())
        if best is None or error <= best[0]:  # on a tie the stronger prior
            best = (error, strength, expected)
    assert best is not None  # noqa: S101 (the grid is not empty)
    coefficients = design.solve(folds, best[1])
    direction = coefficients[2:] + coefficients[1] * design.prior_scale * design.prior
    slope, intercept = calibrated_odds(best[2][inside], design.rows.wins[inside], weights[inside])
    offset = float(coefficients[0] - design.mean @ direction)
    return PairFit(direction, offset, slope, intercept, best[1])


def calibrated_odds(gain: Floats, wins: npt.NDArray[np.bool_], weights: Floats) -> tuple[float, float]:
    """Fit a logistic regression of wins on the held-out expected gain, with Platt's targets against certainty.

    A slope that came out negative would turn the ranking round; it means that nothing was learned, so it becomes 0.
    """
    positive, total = float(weights[wins].sum()), float(weights.sum())
    scale = len(wins) / total  # weights in rows' worth
    high = (positive * scale + 1.0) / (positive * scale + 2.0)
    low = 1.0 / ((total - positive) * scale + 2.0)
    target = np.where(wins, high, low)
    design = np.column_stack([np.ones(len(gain)), gain])
    solution = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        probability = sigmoid(design @ solution)
        curvature = (design * (weights * scale * probability * (1 - probability))[:, None]).T @ design
        pull = design.T @ (weights * scale * (target - probability)) - 1e-6 * solution
        step = np.linalg.solve(curvature + 1e-6 * np.eye(2), pull)
        solution += np.clip(step, -20.0, 20.0)
        if np.abs(step).max() < 1e-9:
            break
    if solution[1] > 0.0:
        return float(solution[1]), float(solution[0])
    share = float(np.average(target, weights=weights))
    return 0.0, float(np.log(share / (1.0 - share)))


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    decayed = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0 / (1.0 + decayed), decayed / (1.0 + decayed)))
