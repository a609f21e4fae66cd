"""A vector per model from comparisons among many: the expected gain of a over b on a prompt is (w_a - w_b) · x.

The model is Bradley and Terry's with a strength that depends on the prompt, fitted by ridge regression of the gain, as
``adaptation`` does for one pair: x holds 1, the direction to start from, and the embedding. All models are fitted
together, because only differences are observed; the sparse normal equations are solved by conjugate gradients. A
logistic regression on held-out gains then makes a probability: P(a strictly beats b) = σ(slope · gain - tie margin),
which is Rao and Kupper's (1967) form of the model for comparisons with ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routellm_core.training.adaptation import (
    FOLDS,
    PENALTIES,
    PRIOR_PENALTY,
    SURFACE_FACTORS,
    Strength,
    calibrated_odds,
    sigmoid,
)
from routellm_core.training.many_models.battles import ModelBattles

__all__ = ["GainScale", "ModelDesign", "ModelsFit", "NormalEquations", "fit_models", "has_many_rows"]

Floats = npt.NDArray[np.float64]
Folds = npt.NDArray[np.intp]
_OFFSET_PENALTY = 1e-6
"""Next to none, but only differences between models are observed."""
_MANY_ROWS = 10_000
"""Comparisons above which one fold chooses the strength, not each in turn: it says enough, in a quarter of the time."""
_ITERATIONS = 200
_TOLERANCE = 1e-6
_TRIAL_TOLERANCE = 1e-3
"""Of fits that only choose among strengths, whose errors differ by more."""


@dataclass(frozen=True)
class GainScale:
    """From an expected gain to a probability.

    Attributes:
        slope: log-odds per unit of gain, not negative.
        tie_margin: log-odds that a tie takes from a win.
    """

    slope: float
    tie_margin: float

    def scores(self, gain: Floats) -> Floats:
        """Return P(the first model strictly beats the second), of the shape of ``gain``."""
        return sigmoid(self.slope * gain - self.tie_margin)


@dataclass(frozen=True, eq=False)
class ModelsFit:
    """Fitted models.

    Attributes:
        directions: shape (M, d); zero for models that were held fixed.
        offsets: shape (M,).
        scale: from gains to probabilities.
        strength: what cross-validation chose.
    """

    directions: Floats
    offsets: Floats
    scale: GainScale
    strength: Strength

    def utilities(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Return each model's utility, shape (n, M); the expected gain of a over b is the difference of two."""
        return np.asarray(embeddings.astype(np.float64) @ self.directions.T + self.offsets)


class ModelDesign:
    """Comparisons and the columns that explain them.

    Args:
        battles: n comparisons on p prompts.
        embeddings: shape (p, d).
        prior: direction to start from, shape (d,), or None.
        semantic: how many of the first columns are components of the meaning; the others are surface features.
        folds: shape (p,), from 0 to ``FOLDS`` - 1.
        fixed: utilities of models that are not fitted, shape (p, M), or None where all are. NaN marks the others.
    """

    def __init__(
        self,
        battles: ModelBattles,
        embeddings: npt.NDArray[np.floating],
        *,
        prior: Floats | None,
        semantic: int,
        folds: Folds,
        fixed: Floats | None = None,
    ) -> None:
        values = embeddings.astype(np.float64)
        self.battles, self.folds, self.semantic = battles, folds, semantic
        self.fold_of_row = folds[battles.prompt]
        self.mean = values.mean(axis=0)
        centred = values - self.mean
        self.prior = np.zeros(values.shape[1]) if prior is None else prior
        spread = float((centred @ self.prior).std())
        self.prior_scale = 1.0 / spread if spread > 1e-9 else 0.0
        self.matrix = np.column_stack([np.ones(len(values)), centred @ self.prior * self.prior_scale, centred])
        self.unit = max(float(centred[:, :semantic].var(axis=0).mean()), 1e-12)
        models = len(battles.models)
        self.fitted: npt.NDArray[np.bool_] = np.ones(models, dtype=bool)
        if fixed is not None:
            self.fitted = np.asarray(np.isnan(fixed[0]))
        known = np.zeros((len(values), models)) if fixed is None else np.where(self.fitted, 0.0, fixed)
        self.known = known
        self.target = battles.gain - self.differences(known)

    def differences(self, utilities: Floats) -> Floats:
        """Return each comparison's difference of utilities (p, M), shape (n,)."""
        battles = self.battles
        return np.asarray(utilities[battles.prompt, battles.model_a] - utilities[battles.prompt, battles.model_b])

    def scattered(self, values: Floats) -> Floats:
        """Add each comparison's value to its first model and subtract it from its second, shape (p, M)."""
        first, second = self._summed(values)
        return first - second

    def involved(self, weights: Floats) -> Floats:
        """Add each comparison's weight to both of its models, shape (p, M)."""
        first, second = self._summed(weights)
        return first + second

    def _summed(self, values: Floats) -> tuple[Floats, Floats]:
        prompts, models = len(self.matrix), len(self.battles.models)
        first, second = (
            np.bincount(self.battles.prompt * models + model, values, prompts * models).astype(np.float64)
            for model in (self.battles.model_a, self.battles.model_b)
        )
        return first.reshape(prompts, models), second.reshape(prompts, models)

    def normal_equations(self, rows: npt.NDArray[np.bool_]) -> NormalEquations:
        """Return the regression on ``rows``, shape (n,), to be solved for any strength."""
        return NormalEquations(self, np.where(rows, self.battles.weights, 0.0))

    def penalty(self, strength: Strength) -> Floats:
        """Return the penalty of each column, shape (2 + d,)."""
        penalty = np.full(self.matrix.shape[1], strength.penalty * self.unit)
        penalty[2 + self.semantic :] *= strength.surface_factor
        penalty[:2] = _OFFSET_PENALTY, PRIOR_PENALTY
        return penalty

    def gains(self, coefficients: Floats) -> Floats:
        """Return every comparison's expected gain, shape (n,)."""
        return self.differences(self.matrix @ coefficients.T + self.known)

    def strengths(self) -> list[Strength]:
        """What there is to choose from, the strongest penalty last."""
        factors = SURFACE_FACTORS if 2 + self.semantic < self.matrix.shape[1] else (1.0,)
        return [Strength(penalty, factor) for factor in factors for penalty in PENALTIES]


class NormalEquations:
    """The weighted ridge regression, solved by conjugate gradients.

    Each model's own block is inverted as the preconditioner; what is left to the iteration is how models depend on each
    other through their comparisons.

    Args:
        design: the comparisons.
        weights: shape (n,); zero leaves a comparison out.
    """

    def __init__(self, design: ModelDesign, weights: Floats) -> None:
        self._design, self._weights, self._free = design, weights, design.fitted[:, None]
        involved, matrix = design.involved(weights), design.matrix
        self._blocks = np.zeros((involved.shape[1], matrix.shape[1], matrix.shape[1]))
        for model in np.flatnonzero(design.fitted):
            rows = np.flatnonzero(involved[:, model])
            self._blocks[model] = (matrix[rows] * involved[rows, model, None]).T @ matrix[rows]
        self._goal = (design.scattered(weights * design.target).T @ matrix) * self._free

    def solve(self, strength: Strength, start: Floats | None = None, *, tolerance: float = _TOLERANCE) -> Floats:
        """Return coefficients, shape (M, 2 + d), zero for models that are held fixed.

        Args:
            strength: of the penalty.
            start: coefficients to begin with.
            tolerance: of the residual, relative to the goal.
        """
        penalty = self._design.penalty(strength)
        inverses = np.asarray(np.linalg.inv(self._blocks + np.diag(penalty)), dtype=np.float64)
        solution = np.zeros_like(self._goal) if start is None else start
        residual = self._goal - self._applied(solution, penalty)
        ahead = _by_model(inverses, residual)
        direction, size = ahead, float((residual * ahead).sum())
        enough = tolerance**2 * max(float((self._goal * _by_model(inverses, self._goal)).sum()), 1e-300)
        for _ in range(_ITERATIONS):
            if size <= enough:
                break
            image = self._applied(direction, penalty)
            step = size / float((direction * image).sum())
            solution = solution + step * direction
            residual = residual - step * image
            ahead = _by_model(inverses, residual)
            size, before = float((residual * ahead).sum()), size
            direction = ahead + size / before * direction
        return solution

    def _applied(self, coefficients: Floats, penalty: Floats) -> Floats:
        design = self._design
        gains = design.differences(design.matrix @ coefficients.T)
        return np.asarray(
            (design.scattered(self._weights * gains).T @ design.matrix + penalty * coefficients) * self._free
        )


def _by_model(blocks: Floats, rows: Floats) -> Floats:
    return np.asarray(np.matmul(blocks, rows[:, :, None])[:, :, 0])


def fit_models(
    design: ModelDesign,
    folds: Sequence[int] = tuple(range(FOLDS)),
    *,
    scale: GainScale | None = None,
    strength: Strength | None = None,
) -> ModelsFit:
    """Fit the models on the comparisons of ``folds``.

    Args:
        design: the comparisons.
        folds: which to use.
        scale: from gains to probabilities; None calibrates it on held-out gains.
        strength: of the penalty; None chooses it by cross-validation among ``folds``.
    """
    battles = design.battles
    inside = np.isin(design.fold_of_row, folds)
    tried = list(folds[:1]) if has_many_rows(design) else list(folds)
    chosen = np.isin(design.fold_of_row, tried)
    gain, weights = battles.gain[chosen], battles.weights[chosen]
    best: tuple[float, Strength, Floats] | None = None
    starts: dict[int, Floats] = {}
    equations = {fold: design.normal_equations(inside & (design.fold_of_row != fold)) for fold in tried}
    for candidate in reversed(design.strengths()) if strength is None else [strength]:
        expected = np.zeros(len(battles))
        for fold in tried:
            member = design.fold_of_row == fold
            starts[fold] = equations[fold].solve(candidate, starts.get(fold), tolerance=_TRIAL_TOLERANCE)
            expected[member] = design.gains(starts[fold])[member]
        error = float((weights * (expected[chosen] - gain) ** 2).sum())
        if best is None or error < best[0]:  # on a tie the stronger prior
            best = (error, candidate, expected[chosen])
    assert best is not None  # noqa: S101 (the grid is not empty)
    coefficients = design.normal_equations(inside).solve(best[1])
    directions = coefficients[:, 2:] + coefficients[:, 1:2] * design.prior_scale * design.prior
    offsets = coefficients[:, 0] - directions @ design.mean
    if scale is None:
        scale = _calibrated_scale(best[2], gain, weights)
    fit = ModelsFit(directions, offsets, scale, best[1])
    if design.fitted.all():  # only differences count; around zero the vectors are shortest
        fit = replace(fit, directions=directions - directions.mean(axis=0), offsets=offsets - offsets.mean())
    return fit


def has_many_rows(design: ModelDesign) -> bool:
    """Return whether there are so many comparisons that choosing the strength once, on one fold, says enough."""
    return len(design.battles) > _MANY_ROWS


def _calibrated_scale(expected: Floats, gain: Floats, weights: Floats) -> GainScale:
    """Each comparison says of both of its models whether it strictly won."""
    slope, intercept = calibrated_odds(
        np.concatenate([expected, -expected]), np.concatenate([gain > 0.0, gain < 0.0]), np.concatenate([weights] * 2)
    )
    return GainScale(slope, -intercept)
