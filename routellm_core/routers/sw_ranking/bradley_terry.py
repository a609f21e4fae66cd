"""Bradley–Terry ratings from weighted wins, and the split of rated models into tiers.

The model: P(i beats j) = 1 / (1 + 10^((R_j − R_i) / 400)) for Elo ratings R (Bradley & Terry 1952). RouteLLM fits it by
maximum likelihood with ties counted as half a win each way (arXiv 2406.18665, section 4.2), as a scikit-learn logistic
regression without intercept and **without a penalty** over one row per battle. The likelihood depends on the battles
only through who beat whom how often, so here the same optimum is found from an (items × items) table of wins with
Newton's method, for a whole batch of weightings at once. See ``docs/decisions/0002-similarity-weighted-fit.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.metrics.scores import sigmoid

__all__ = [
    "ANCHOR_MODEL",
    "ANCHOR_RATING",
    "MODEL_A",
    "MODEL_B",
    "TIE",
    "compute_tiers",
    "elo_from_strengths",
    "elo_ratings",
    "fit_strengths",
    "win_table",
]

Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

MODEL_A, MODEL_B, TIE = 0, 1, 2
"""Outcome codes of a battle."""

ANCHOR_MODEL, ANCHOR_RATING = "llama-2-70b-chat", 1082.0
"""RouteLLM shifts all ratings so that this model, where it is rated, has this rating."""

_INITIAL_RATING = 1000.0
_ELO_PER_NAT = 400.0 / math.log(10.0)
_MAX_ITERATIONS = 100
_STEP_TOLERANCE = 1e-9
_GRADIENT_TOLERANCE = 1e-13
_DAMPING = 1e-12


def win_table(sums: Float64, *, count_self_battles: bool = True) -> Float64:
    """Turn summed battle weights into a table of wins.

    RouteLLM's design matrix writes +log 10 at ``model_a`` and then −log 10 at ``model_b``; where both are the same item
    only the second entry survives, so a battle of an item against itself acts as a battle of that item (as
    ``model_b``) against an opponent whose strength is fixed at 0. That opponent, "nobody", is the last row and column.

    Args:
        sums: shape (..., 3, T, T); ``sums[..., outcome, a, b]`` is the weight of the battles of a against b.
        count_self_battles: keep battles of an item against itself as RouteLLM does; False leaves them out, which is
            what the Bradley–Terry model says (they carry no information).

    Returns:
        shape (..., T+1, T+1); entry [i, j] is the weight with which i beat j; the diagonal is zero.
    """
    half_ties = sums[..., TIE, :, :] / 2
    a_wins = sums[..., MODEL_A, :, :] + half_ties
    b_wins = sums[..., MODEL_B, :, :] + half_ties
    items = sums.shape[-1]
    wins = np.zeros((*sums.shape[:-3], items + 1, items + 1))
    wins[..., :items, :items] = a_wins + np.swapaxes(b_wins, -1, -2)
    diagonal = np.arange(items)
    if count_self_battles:
        wins[..., items, :items] = a_wins[..., diagonal, diagonal]
        wins[..., :items, items] = b_wins[..., diagonal, diagonal]
    wins[..., diagonal, diagonal] = 0.0
    return wins


def fit_strengths(wins: Float64) -> Float64:
    """Maximise the Bradley–Terry likelihood for every table of a batch.

    Damped Newton: a full step Δ is scaled by log(1+ρ)/ρ, where ρ is the largest change of a pair's logit. The logistic
    loss is generalised self-concordant, so this decreases it from any point (Bach 2010, "Self-concordant analysis for
    logistic regression") and becomes a full step near the optimum; no line search is needed.

    Where the strengths are determined only up to a shift (no path to "nobody"), each connected group's strengths sum
    to zero: the point that RouteLLM's solver reaches, since it starts at zero and gradients there sum to zero. An item
    that never wins (or never loses) has no finite optimum. RouteLLM's solver then stops somewhere by its gradient
    tolerance; here the strength grows until the gradient is below 1e-13 of the total weight, at most about 30 nats
    (5,200 Elo) away, never NaN and never more than 100 iterations.

    Args:
        wins: shape (B, T+1, T+1), finite, not negative; the last item is "nobody", fixed at strength 0.

    Returns:
        shape (B, T): natural-logarithm strengths; P(i beats j) = 1 / (1 + exp(s_j − s_i)). Items without battles get 0.
    """
    batch, items = wins.shape[0], wins.shape[1] - 1
    strengths = np.zeros((batch, items + 1))
    total = wins.sum(axis=(1, 2), keepdims=True)
    wins = wins / np.where(total > 0, total, 1.0)  # the optimum does not depend on the weights' scale
    played = wins + np.swapaxes(wins, 1, 2)
    fixed_terms = _gauge(played)
    active = np.ones(batch, dtype=bool)
    for _ in range(_MAX_ITERATIONS):
        expected = sigmoid(strengths[:, :, None] - strengths[:, None, :])  # P(i beats j)
        gradient = (wins - played * expected).sum(axis=2)[:, :items]
        curvature = played * expected * (1.0 - expected)
        hessian = fixed_terms - curvature[:, :items, :items]
        diagonal = np.arange(items)
        hessian[:, diagonal, diagonal] += curvature.sum(axis=2)[:, :items] + _DAMPING
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        change = np.maximum(step.max(axis=1, initial=0.0), 0.0) - np.minimum(step.min(axis=1, initial=0.0), 0.0)
        scale = np.where(change > 0, np.log1p(change) / np.where(change > 0, change, 1.0), 0.0)
        # Finished tables stay where they are, so that a table's result does not depend on its company.
        strengths[:, :items] += np.where(active, scale, 0.0)[:, None] * step
        active &= (change > _STEP_TOLERANCE) & (np.abs(gradient).max(axis=1, initial=0.0) > _GRADIENT_TOLERANCE)
        if not active.any():
            break
    return strengths[:, :items]


def _gauge(played: Float64) -> Float64:
    """Return Hessian terms that hold each group's strengths at sum zero unless a path leads to "nobody".

    The gradient has no component along a group's common shift, so these terms make the Hessian invertible without
    moving the optimum.

    Args:
        played: shape (B, K, K), symmetric; positive where two items met.

    Returns:
        shape (B, K−1, K−1): 1/K where both items belong to one group that is not tied to the last item, else 0.
    """
    size = played.shape[1]
    reachable = ((played > 0) | np.eye(size, dtype=bool)).astype(np.float32)
    for _ in range(max(1, (size - 1).bit_length())):
        reachable = (reachable @ reachable > 0).astype(np.float32)
    free = reachable[:, :-1, -1] == 0
    return np.asarray(np.where(free[:, :, None], reachable[:, :-1, :-1], 0.0) / size, dtype=np.float64)


def elo_from_strengths(strengths: Float64) -> Float64:
    """Return Elo ratings: 1000 + 400·s / ln 10, without the shift to the anchor model."""
    return _INITIAL_RATING + _ELO_PER_NAT * strengths


def elo_ratings(
    models: Sequence[str],
    model_a: Integers,
    model_b: Integers,
    outcome: Integers,
    *,
    weights: npt.ArrayLike | None = None,
    count_self_battles: bool = True,
) -> dict[str, float]:
    """Rate models from their battles: RouteLLM's tie-aware maximum-likelihood Elo.

    Args:
        models: M names.
        model_a: shape (n,), indices into ``models``.
        model_b: likewise.
        outcome: shape (n,): 0 model_a won, 1 model_b won, 2 tie.
        weights: shape (n,), finite, not negative; None weighs all battles alike.
        count_self_battles: see :func:`win_table`.

    Returns:
        rating by name, best first, of the models that occur in a battle; if ``llama-2-70b-chat`` does, its rating is
        1082 and every other one is shifted alike.

    Raises:
        ConfigError: a negative or non-finite weight.
    """
    count = len(models)
    amounts = None if weights is None else np.asarray(weights, dtype=np.float64)
    if amounts is not None and not (np.isfinite(amounts).all() and (amounts >= 0).all()):
        raise ConfigError("battle weights must be finite and not negative")
    cells = (outcome.astype(np.int64) * count + model_a) * count + model_b
    sums = np.bincount(cells, weights=amounts, minlength=3 * count * count).astype(np.float64)
    present = np.unique(np.concatenate([model_a, model_b]))
    compact = sums.reshape(3, count, count)[:, present[:, None], present[None, :]]
    ratings = elo_from_strengths(fit_strengths(win_table(compact, count_self_battles=count_self_battles)[None])[0])
    names = [models[index] for index in present]
    if ANCHOR_MODEL in names:
        ratings = ratings + (ANCHOR_RATING - ratings[names.index(ANCHOR_MODEL)])
    order = np.argsort(-ratings, kind="stable")
    return {names[index]: float(ratings[index]) for index in order}


def compute_tiers(ratings: Mapping[str, float], num_tiers: int) -> dict[str, int]:
    """Split models, best first, into runs whose variances have the smallest sum.

    A dynamic programme over the last run's start. It follows RouteLLM in two points that decide ties: the earliest of
    equally good splits wins, and a run of one model may be "split" for free, so with fewer models than tiers some tier
    numbers stay empty.

    Args:
        ratings: rating by model, in descending order.
        num_tiers: at least 1.

    Returns:
        tier by model, 0 the best tier.

    Raises:
        ConfigError: ``num_tiers`` is below 1, or there are no models.
    """
    if num_tiers < 1:
        raise ConfigError(f"num_tiers is {num_tiers}; it must be at least 1")
    if not ratings:
        raise ConfigError("there are no rated models to split into tiers: the battle table is empty")
    names, values = list(ratings), np.array(list(ratings.values()), dtype=np.float64)
    count = len(names)
    # variance[i, j]: of the run i..j; np.var per run, because its exact rounding decides between equal splits.
    variance = np.zeros((count, count))
    for first in range(count):
        for last in range(first + 1, count):
            variance[first, last] = np.var(values[first : last + 1])
    cost = variance[0].copy()
    splits = np.zeros((num_tiers, count), dtype=np.int64)
    for tier in range(1, num_tiers):
        previous, cost = cost, np.zeros(count)
        for last in range(1, count):
            candidates = previous[:last] + variance[1 : last + 1, last]
            splits[tier, last] = int(np.argmin(candidates))
            cost[last] = candidates[splits[tier, last]]
    ends = [count - 1]
    for tier in range(num_tiers - 1, 0, -1):
        ends.append(int(splits[tier, ends[-1]]))
    return _tiers_from_ends(names, ends[::-1])


def _tiers_from_ends(names: Sequence[str], ends: Sequence[int]) -> dict[str, int]:
    """Number the runs that end at ``ends`` (ascending indices, repeats make empty tiers)."""
    tiers: dict[str, int] = {}
    start = 0
    for tier, end in enumerate(ends):
        for index in range(start, end + 1):
            tiers[names[index]] = tier
        start = end + 1
    return tiers
