"""From prompts with difficulties to the direction of a shipped ``mf`` router.

For one pair of models the ``mf`` score is σ(v · e(q)), linear in the embedding. So training is a ridge regression of
difficulty on the embedding, followed by a logistic calibration; both are solved exactly, in seconds on a CPU.

The regression has random effects. The effect of a feature differs between data sets (long questions are hard in one
benchmark and easy in another), and a large data set must not dictate its own effects. With unit u's rows X_u and noise
variance σ², the model is  y = X_u (θ + δ_u) + ε,  θ ~ N(θ₀, 1/λ),  δ_u ~ N(0, τ²);  integrating δ_u out leaves the
unit's information about θ bounded by 1/τ² in every direction, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from research.targets import DifficultyRows
from routellm_core.errors import ConfigError

__all__ = [
    "FitOptions",
    "Information",
    "calibrate_slope",
    "fit_direction",
    "unit_information",
    "within_group_correlation",
]

Floats = npt.NDArray[np.float64]
Information = tuple[Floats, Floats]
"""A unit's (XᵀX / σ², Xᵀy / σ²), shapes (d, d) and (d,)."""
_NEWTON_STEPS: Final = 50


@dataclass(frozen=True)
class FitOptions:
    """Strength of the priors.

    Attributes:
        penalty: λ per column of the embedding, shape (d,), or one for all.
        prior_mean: θ₀ per column, shape (d,), or one for all: what is believed before any data.
        unit_spread: τ, how much a unit's effects may differ from the common ones; infinity ignores units' sizes,
            0 is plain ridge regression.
    """

    penalty: float | Floats = 3000.0
    prior_mean: float | Floats = 0.0
    unit_spread: float = 0.01


def unit_information(embeddings: npt.NDArray[np.float32], rows: DifficultyRows) -> dict[str, Information]:
    """Collect each unit's information, centred within groups and weighted by reliability.

    Args:
        embeddings: shape (n, d), aligned with ``rows``.
        rows: targets, noise, groups and units.
    """
    information: dict[str, Information] = {}
    for unit in np.unique(rows.unit):
        members = np.flatnonzero(rows.unit == unit)
        features = embeddings[members].astype(np.float64)
        target = rows.target[members].copy()
        for group in np.unique(rows.group[members]):
            inside = rows.group[members] == group
            features[inside] -= features[inside].mean(axis=0)
            target[inside] -= target[inside].mean()
        weighted = features / rows.noise[members][:, None]
        information[str(unit)] = (weighted.T @ features, weighted.T @ target)
    return information


def fit_direction(information: Iterable[Information], options: FitOptions) -> Floats:
    """Solve for θ, shape (d,): the difficulty of a prompt is θ · embedding up to a constant.

    Raises:
        ConfigError: no unit was given.
    """
    units = list(information)
    if not units:
        raise ConfigError("no rows to train on")
    dimension = len(units[0][1])
    penalty: Floats = np.broadcast_to(np.asarray(options.penalty, dtype=np.float64), (dimension,))
    precision: Floats = np.diag(penalty)
    pull: Floats = np.asarray(penalty * options.prior_mean, dtype=np.float64)
    for gram, moment in units:
        if options.unit_spread > 0.0:
            within = np.eye(dimension) / options.unit_spread**2
            shrink = np.linalg.solve(gram + within, np.column_stack([gram, moment]))
            precision = precision + gram - gram @ shrink[:, :-1]
            pull = pull + moment - gram @ shrink[:, -1]
        else:
            precision = precision + gram
            pull = pull + moment
    direction: Floats = np.asarray(np.linalg.solve(precision, pull), dtype=np.float64)
    return direction


def calibrate_slope(
    difficulty: Floats, wins: npt.NDArray[np.bool_], stratum: npt.NDArray[np.str_]
) -> tuple[float, float]:
    """Fit a logistic regression of "the strong model strictly wins" on difficulty, with an intercept per stratum.

    Args:
        difficulty: shape (n,), from directions that did not see these rows.
        wins: shape (n,).
        stratum: shape (n,), such as the source and pair of models that a comparison belongs to.

    Returns:
        the slope and its standard error.
    """
    names, codes = np.unique(stratum, return_inverse=True)
    design = np.column_stack([difficulty, np.eye(len(names))[codes]])
    weights = np.zeros(design.shape[1])
    ridge = 1e-6 * np.eye(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        probability = 1.0 / (1.0 + np.exp(-design @ weights))
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, design.T @ (wins - probability) - 1e-6 * weights)
        weights += step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(np.sqrt(np.linalg.inv(curvature)[0, 0]))


def within_group_correlation(predicted: Floats, rows: DifficultyRows) -> float:
    """Correlation of prediction and target, both centred within groups; for one source's held-out rows.

    The target is noisy: even a perfect prediction reaches only the square root of the reliability.
    """
    centred = [values.astype(np.float64).copy() for values in (predicted, rows.target)]
    for group in np.unique(rows.group):
        inside = rows.group == group
        for values in centred:
            values[inside] -= values[inside].mean()
    left, right = centred
    return round(float(np.corrcoef(left, right)[0, 1]), 4)
