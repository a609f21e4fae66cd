"""Score quantiles: a traffic's distribution of scores in 1,001 numbers, enough to turn a share into a threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from routellm_core.decision import StrongShare
from routellm_core.errors import CalibrationError
from routellm_core.metrics.scores import are_quantiles
from routellm_core.types import FloatArray

__all__ = ["QUANTILES", "checked_quantiles", "score_quantiles", "share_at_threshold", "threshold_for_share"]

QUANTILES = 1001
# Checkpoints round their quantiles to nine digits, and a tied score must not fall on the wrong side of its own copy.
_TIE_CLEARANCE = 1e-9


def score_quantiles(scores: npt.ArrayLike) -> FloatArray:
    """Return the quantiles 0, 1/1000, …, 1 of scores, shape (1001,), interpolated linearly.

    Args:
        scores: shape (n,) with n > 0, each in [0, 1].
    """
    values = np.quantile(np.asarray(scores, dtype=np.float64), np.linspace(0.0, 1.0, QUANTILES))
    return np.maximum.accumulate(values)  # interpolation may miss monotonicity in the last bit


def checked_quantiles(quantiles: npt.ArrayLike) -> FloatArray:
    """Return quantiles as an array.

    Raises:
        CalibrationError: another number of them, not ascending, or outside [0, 1].
    """
    if not are_quantiles(quantiles):
        raise CalibrationError(f"score quantiles must be {QUANTILES} ascending numbers in [0, 1]")
    return np.asarray(quantiles, dtype=np.float64)


def threshold_for_share(quantiles: npt.ArrayLike, share: float) -> float:
    """Return the threshold t with P(score >= t) as near as possible to ``share``.

    That is the quantile at 1 − share, interpolated linearly, as RouteLLM takes it. A run of equal quantiles is a score
    that many prompts share and that go together: the threshold is then put on the side of it that comes nearer, the
    strong one when both are equally near. Shares of 0 and 1 give 1 and 0, whatever the quantiles.

    Args:
        quantiles: ascending, evenly spaced from 0 to 1, as from :func:`score_quantiles`.
        share: of strong calls, in [0, 1].

    Raises:
        InvalidThresholdError: a share outside [0, 1].
        CalibrationError: quantiles that are not ascending or lie outside [0, 1].
    """
    wanted = StrongShare(share).share
    values = checked_quantiles(quantiles)
    if wanted in (0.0, 1.0):
        return 1.0 - wanted
    grid = np.linspace(0.0, 1.0, len(values))
    threshold = float(np.interp(1.0 - wanted, grid, values))
    first, last = _run(values, threshold)
    if last <= first:
        return threshold
    below, above = max(values[first] - _TIE_CLEARANCE, 0.0), min(values[last] + _TIE_CLEARANCE, 1.0)
    if threshold < values[first] or threshold > values[last]:  # between two runs, but within the clearance of one
        return float(below if threshold < values[first] else above)
    share_with, share_without = 1.0 - float(grid[first]), 1.0 - float(grid[last])
    is_nearer_with = abs(share_with - wanted) <= abs(share_without - wanted)
    return float(below if is_nearer_with or threshold >= 1.0 else above)


def share_at_threshold(quantiles: npt.ArrayLike, threshold: float) -> float:
    """Return P(score >= threshold) under ``quantiles``, interpolated linearly between them."""
    values = checked_quantiles(quantiles)
    first = int(np.searchsorted(values, threshold, side="left"))
    if first == 0:
        return 1.0
    if first == len(values):
        return 0.0
    below, above = float(values[first - 1]), float(values[first])
    position = first - 1 + (threshold - below) / (above - below)
    return 1.0 - position / (len(values) - 1)


def _run(values: FloatArray, score: float) -> tuple[int, int]:
    """Return the first and last index of the quantiles that count as equal around ``score``.

    Quantiles too near to each other to put a threshold clear of both belong to one run; an empty run has last < first.
    """
    runs = np.concatenate([[0], np.cumsum(np.diff(values) > 2 * _TIE_CLEARANCE)])
    near = np.flatnonzero(np.abs(values - score) <= _TIE_CLEARANCE)
    if not len(near):
        return 0, -1
    members = np.flatnonzero(runs == runs[near[0]])
    return int(members[0]), int(members[-1])
