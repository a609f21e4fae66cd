"""From comparisons of models to the expected gain of one over another on a prompt: one regression, two models or many.

A model's utility on a prompt with embedding x is  u_m(x) = prior_m(x) + μ_m + w_m · s(x),  and the gain of a over b is
expected to be u_a - u_b. ``prior`` is what is believed before any row: the direction of the router that training
starts from. It is an offset and not a column, so rows that show nothing leave that router's ranking, never a constant.
s(x) are the embedding's columns, standardised. Ridge regression shrinks w to 0 with the penalty of a belief
that the prompt explains 3 % of the gain's variance beyond the router; μ is not penalised. A weaker penalty is taken
only where held-out rows ask for it beyond doubt (:func:`fitted_regression`): at some hundreds of rows the best of many
penalties is mostly luck (docs/training-notes.md has the figures).

The equations are solved by LSMR (Fong and Saunders 2011), since they are as many as models times columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.metrics.scores import sigmoid
from routellm_core.training.comparisons import Comparisons
from routellm_core.training.crossfit import CrossFit, cross_fit, held_out_of

__all__ = [
    "EXPLAINED",
    "PRIOR_CORRELATION",
    "GainRegression",
    "GainScale",
    "Utilities",
    "calibrated_scale",
    "fitted_regression",
    "prior_of",
]

Floats = npt.NDArray[np.float64]
EXPLAINED: Final = (0.03, 0.2)
"""Shares of the gain's variance that the prompt may be believed to explain, the first unless rows say otherwise."""
PRIOR_CORRELATION: Final = 0.06
"""Correlation that the starting router's log-odds are believed to have with the gain: an APGR of about .56."""
_FLOOR: Final = 0.02
"""Of a column's variance, relative to the median: a feature seen in one prompt of hundreds is not blown up to 1."""
_TOLERANCE: Final = 1e-12
_MOST_STEPS: Final = 1000
_HELD_OUT_TOLERANCE: Final = 1e-6
"""Of the many fits that predict held-out rows: a thousandth of what their rows leave open."""
_STRETCH: Final = (0.25, 10.0)
"""Bounds of the slope relative to the labels' own; never 0, so a probability always rises with the expected gain."""


@dataclass(frozen=True)
class GainScale:
    """From an expected gain to a probability."""

    slope: float  # log-odds per unit of gain, positive
    tie_margin: float  # log-odds that a tie takes from a win

    def scores(self, gain: Floats) -> Floats:
        """Return P(the first model strictly beats the second), of the shape of ``gain``."""
        return sigmoid(self.slope * gain - self.tie_margin)


@dataclass(frozen=True, eq=False)
class Utilities:
    """M models' utilities as functions of an embedding: ``directions`` (M, d) and ``offsets`` (M,)."""

    directions: Floats
    offsets: Floats

    def of(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Return each model's utility, shape (n, M); the expected gain of a over b is the difference of two."""
        return np.asarray(embeddings.astype(np.float64) @ self.directions.T + self.offsets)


class GainRegression:
    """Comparisons of M models on p prompts, and what is believed of them beforehand.

    ``embeddings`` have shape (p, d). ``prior`` are utilities before any row; of models that are fitted, as ``fitted``,
    shape (M,), says, the level does not count, and the others keep it as it is; None fits all. The prompt is believed
    to explain a share ``explained`` of the gain's variance beyond that. Raises ConfigError where all embeddings are
    equal, so that any router would be constant.
    """

    def __init__(
        self,
        comparisons: Comparisons,
        embeddings: npt.NDArray[np.floating],
        prior: Utilities,
        *,
        explained: float = EXPLAINED[0],
        fitted: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        values = embeddings.astype(np.float64)
        self.comparisons, self.prior = comparisons, prior
        self.fitted = np.ones(len(comparisons.models), dtype=bool) if fitted is None else fitted
        self._centre, variance = values.mean(axis=0), values.var(axis=0)
        varies = variance > 1e-10
        if not varies.any():
            raise ConfigError("all prompts have the same embedding, so every router would be constant")
        floored = variance[varies] + _FLOOR * np.median(variance[varies])
        self._shrinkage = np.zeros(values.shape[1])
        self._shrinkage[varies] = 1.0 / np.sqrt(floored)
        self._features = (values - self._centre) * self._shrinkage
        self.explained = explained
        self._penalty = 2.0 * varies.sum() * (1.0 - explained) / explained  # of a model; a pair's difference has half
        self._prior_values = prior.of(values)
        self._prior_values[:, self.fitted] -= self._prior_values[:, self.fitted].mean(axis=0)

    @cached_property
    def _basis(self) -> Floats:
        """Orthonormal columns that span what the models can differ in, shape (M, M - 1), or (M, fitted models)."""
        models = len(self.fitted)
        if not self.fitted.all():
            return np.asarray(np.eye(models)[:, self.fitted])
        return np.asarray(np.linalg.svd(np.eye(models) - 1.0 / models)[0][:, :-1])

    @cached_property
    def _whole(self) -> tuple[Floats, Floats]:
        return self._solved(np.ones(len(self.comparisons.prompts), dtype=bool), _TOLERANCE)

    def utilities(self) -> Utilities:
        """Return the fit to all comparisons."""
        levels, weights = self._whole
        directions = self.prior.directions + weights * self._shrinkage
        offsets = self.prior.offsets.copy()
        offsets[self.fitted] = (levels - directions @ self._centre)[self.fitted]
        return Utilities(directions, offsets)

    def predicted(self, kept: npt.NDArray[np.bool_]) -> Floats:
        """Return every prompt's utilities, shape (p, M), by a fit to the comparisons on ``kept`` prompts, shape (p,).

        The levels μ are those of the fit to all: a fold's own would fall where the left-out prompts' gains are high.
        """
        weights = self._solved(kept, _HELD_OUT_TOLERANCE)[1]
        return np.asarray(self._prior_values + self._whole[0] + self._features @ weights.T)

    def gains(self, utilities: Floats) -> Floats:
        """Return each comparison's expected gain, shape (n,), from utilities of shape (p, M)."""
        rows = self.comparisons
        return np.asarray(utilities[rows.prompt, rows.model_a] - utilities[rows.prompt, rows.model_b])

    def _solved(self, kept: npt.NDArray[np.bool_], tolerance: float) -> tuple[Floats, Floats]:
        """Return μ, shape (M,), and w, shape (M, d), both 0 for models that are not fitted."""
        linalg = import_extra("scipy.sparse.linalg", extra="train", purpose="Training mf")
        rows, models, basis = self.comparisons, len(self.comparisons.models), self._basis
        used = np.flatnonzero(kept[rows.prompt])
        prompts, prompt = np.unique(rows.prompt[used], return_inverse=True)
        features, root = self._features[prompts], np.sqrt(rows.weights[used])
        first, second = prompt * models + rows.model_a[used], prompt * models + rows.model_b[used]
        unknowns, size = (basis.shape[1], 1 + features.shape[1]), len(prompts) * models
        level = 10.0 * np.sqrt(self._penalty)  # a unit of this column costs what 1/100 of a row does

        def forward(flat: Floats) -> Floats:
            values = flat.reshape(unknowns)
            utility = ((features @ values[:, 1:].T + level * values[:, 0]) @ basis.T).ravel()
            return np.asarray(root * (utility[first] - utility[second]))

        def backward(residual: Floats) -> Floats:
            weighted = root * residual
            summed = np.bincount(first, weighted, size) - np.bincount(second, weighted, size)
            by_unknown = summed.reshape(len(prompts), models) @ basis
            return np.column_stack([level * by_unknown.sum(axis=0), (features.T @ by_unknown).T]).ravel()

        operator = linalg.LinearOperator(
            (len(used), unknowns[0] * unknowns[1]), matvec=forward, rmatvec=backward, dtype=np.float64
        )
        target = root * (rows.gain - self.gains(self._prior_values))[used]
        limits = {"atol": tolerance, "btol": tolerance, "maxiter": _MOST_STEPS}
        solution = linalg.lsmr(operator, target, damp=np.sqrt(self._penalty), **limits)[0]
        values = basis @ solution.reshape(unknowns)
        return values[:, 0] * level, values[:, 1:]


def fitted_regression(
    comparisons: Comparisons,
    embeddings: npt.NDArray[np.floating],
    prior: Utilities,
    folds: npt.NDArray[np.intp],
    *,
    fitted: npt.NDArray[np.bool_] | None = None,
) -> tuple[GainRegression, CrossFit]:
    """Return the regression with the penalty that suits the rows, and its cross-fitted utilities.

    The penalty is the strongest one, unless a weaker one's squared error on held-out prompts is lower by more than its
    standard error, groups of prompts being independent. For a fold's own utilities its rows have no say in that choice.

    Arguments are those of :class:`GainRegression`, and the folds of the prompts, shape (p,).
    """
    tried = [
        GainRegression(comparisons, embeddings, prior, explained=explained, fitted=fitted) for explained in EXPLAINED
    ]
    group, fold_of_row = comparisons.group[comparisons.prompt], folds[comparisons.prompt]
    predicted = [held_out_of(each.predicted, folds) for each in tried]
    errors = [
        comparisons.weights * (comparisons.gain - each.gains(utilities)) ** 2
        for each, utilities in zip(tried, predicted, strict=True)
    ]

    def chosen(rows: npt.NDArray[np.bool_]) -> int:
        best = 0
        for number in range(1, len(tried)):
            gained = np.bincount(group[rows], (errors[best] - errors[number])[rows])
            if gained.sum() > np.sqrt((gained**2).sum()):
                best = number
        return best

    of_fold = [chosen(fold_of_row != fold) for fold in range(int(folds.max()) + 1)]
    crossed = {number: cross_fit(tried[number].predicted, folds, predicted[number]) for number in set(of_fold)}
    held_out, refitted = (np.empty_like(each) for each in (predicted[0], crossed[of_fold[0]].refitted))
    for fold, number in enumerate(of_fold):
        inside = folds == fold
        held_out[inside], refitted[:, inside] = predicted[number][inside], crossed[number].refitted[:, inside]
    return tried[chosen(np.ones(len(comparisons), dtype=bool))], CrossFit(folds, held_out, refitted)


def prior_of(comparisons: Comparisons, direction: Floats | None, embeddings: npt.NDArray[np.floating]) -> Utilities:
    """Return what a router's direction says of M models beforehand: better ones lead by more on harder prompts.

    Two models' utilities differ by ``PRIOR_CORRELATION`` standard deviations of the gain per standard deviation of the
    router's log-odds, the first being the strong one. Of more models, those that differ more in quality differ more.
    ``direction``, shape (d,), is that of the router's log-odds; ``embeddings``, shape (p, d), are the prompts'.
    """
    models = len(comparisons.models)
    nothing = Utilities(np.zeros((models, embeddings.shape[1])), np.zeros(models))
    spread = 0.0 if direction is None else float((embeddings.astype(np.float64) @ direction).std())
    if direction is None or spread <= 1e-9:
        return nothing
    quality = np.array([0.5, -0.5])
    if models > 2:
        signs = np.eye(models)[comparisons.model_a] - np.eye(models)[comparisons.model_b]
        root = np.sqrt(comparisons.weights)
        quality = np.linalg.lstsq(signs * root[:, None], comparisons.gain * root, rcond=None)[0]
        quality -= quality.mean()
        quality /= 2.0 * max(float(np.sqrt((quality**2).mean())), 1e-9)
    of_gain = float(np.sqrt(np.cov(comparisons.gain, aweights=comparisons.weights)))
    return Utilities(np.outer(quality, direction) * PRIOR_CORRELATION * of_gain / spread, nothing.offsets)


def calibrated_scale(expected: Floats, gain: Floats, weights: Floats, *, both_ways: bool) -> GainScale:
    """Make a probability of "strictly wins" of the expected gain, by logistic regression on held-out rows.

    The slope is a multiple of the labels' own, cov(win, gain) / var(gain) in log-odds, which a ridge's expectation
    would have were it right; the multiple is believed to be 1, within a factor of e, and bounded. ``expected`` is each
    comparison's gain, shape (n,), by fits that did not see it, ``gain`` the measured one. ``both_ways`` also counts
    whether the second model won, so that one margin holds for all pairs.
    """
    optimize = import_extra("scipy.optimize", extra="train", purpose="Calibrating mf")
    if both_ways:
        expected, gain = np.concatenate([expected, -expected]), np.concatenate([gain, -gain])
        weights = np.concatenate([weights, weights]) / 2.0
    wins = gain > 0.0
    weights = weights * len(weights) / weights.sum()
    share = float(np.average(wins, weights=weights))
    centre = float(np.average(gain, weights=weights))
    moved = np.average(wins * (gain - centre), weights=weights) / np.average((gain - centre) ** 2, weights=weights)
    natural = float(moved) / (share * (1.0 - share))
    middle = float(np.average(expected, weights=weights))
    feature = natural * (expected - middle)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        stretch = np.exp(parameters[1])
        logits = parameters[0] + stretch * feature
        error = weights * (sigmoid(logits) - wins)
        value = (weights * (np.logaddexp(0.0, logits) - wins * logits)).sum() + parameters[1] ** 2 / 2.0
        return float(value), np.array([error.sum(), stretch * (error * feature).sum() + parameters[1]])

    start = np.array([np.log(share / (1.0 - share)), 0.0])
    bounds = [(None, None), (np.log(_STRETCH[0]), np.log(_STRETCH[1]))]
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    slope = natural * float(np.exp(found[1]))
    return GainScale(slope, slope * middle - float(found[0]))
