"""Where a figure will lie on m further prompts, given n calibration prompts and a fixed threshold.

Two samples are involved, so a mean with variance σ² a prompt differs between them with variance σ² (1/n + 1/m). That
the threshold was chosen on the n prompts changes this in second order only: moving along the curve of thresholds moves
both samples' figures alike.
"""

from __future__ import annotations

import math

import numpy as np

from routellm_core.calibration.ranking import RankedScores
from routellm_core.calibration.results import Estimate
from routellm_core.errors import CalibrationError
from routellm_core.metrics import intervals

__all__ = [
    "checked_evaluation_size",
    "normal_quantile",
    "rows_for_margin",
    "share_estimate",
    "standard_error_factor",
    "threshold_estimate",
]

_AS_GOOD_AS_ENDLESS = 10_000_000
_DEVIATIONS = 12
_GRID = 8192


def normal_quantile(level: float) -> float:
    """Return z with P(|Z| <= z) = ``level`` for a standard normal Z (2.58 for 0.99).

    Raises:
        CalibrationError: ``level`` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise CalibrationError(f"level={level!r} must be a probability between 0 and 1, such as 0.99")
    return intervals.normal_quantile(level)


def checked_evaluation_size(evaluation_size: float | None, sample_size: int) -> int | None:
    """Return the m that intervals speak of: ``sample_size`` for None, and None for infinity, the long run.

    Raises:
        CalibrationError: less than one prompt, or not a whole number.
    """
    if evaluation_size is None:
        return sample_size
    if evaluation_size == math.inf:
        return None
    if not evaluation_size >= 1 or evaluation_size != int(evaluation_size):
        raise CalibrationError(f"evaluation_size={evaluation_size!r} must be a number of prompts, or infinity")
    return int(evaluation_size)


def standard_error_factor(sample_size: int, evaluation_size: int | None) -> float:
    """Return √(1/n + 1/m), which turns a standard deviation per prompt into that of the difference of two means."""
    return math.sqrt(1.0 / sample_size + (1.0 / evaluation_size if evaluation_size else 0.0))


def share_estimate(cut: int, sample_size: int, evaluation_size: int | None, level: float) -> Estimate:
    """Return the share of strong calls with its interval.

    Without ties, the true share P(score >= t) of a threshold between the k-th and the (k+1)-th highest of n scores lies
    between two order statistics of the uniform distribution, which are Beta(k, n−k+1) and Beta(k+1, n−k) whatever the
    distribution of scores (Wilks 1941); Beta(k+½, n−k+½) is between them, and is Jeffreys' answer for a tied score,
    where k is binomial. The strong calls among m further prompts are then beta-binomial.

    Args:
        cut: k, the strong calls among the calibration prompts.
        sample_size: n.
        evaluation_size: m, or None for the long run.
        level: probability of the interval.
    """
    share = cut / sample_size
    if cut == sample_size:  # threshold 0, which every score reaches
        return Estimate(1.0, 1.0, 1.0)
    if evaluation_size is None or evaluation_size > _AS_GOOD_AS_ENDLESS:
        low, high = _long_run_interval(cut, sample_size, level)
    else:
        low, high = _interval_of_next(cut, sample_size, evaluation_size, level)
    return Estimate(share, min(low, share), max(high, share))


def threshold_estimate(ranked: RankedScores, cut: int, level: float) -> Estimate:
    """Return the threshold of ``cut`` strong calls, and where another sample of this size would have put it.

    The percentile bootstrap of a quantile in closed form: the resampled order statistic's rank has a known
    distribution (Maritz and Jarrett, JASA 73, 1978), here the one of :func:`share_estimate`, so nothing is resampled.
    """
    threshold = ranked.threshold_at(cut)
    low_share, high_share = _long_run_interval(cut, len(ranked), level)
    low, high = np.quantile(ranked.scores, [1.0 - high_share, 1.0 - low_share])
    return Estimate(threshold, min(float(low), threshold), max(float(high), threshold))


def rows_for_margin(share: float, margin: float, level: float) -> int:
    """Return how many rows, for calibration and again for use, put the achieved share within ± ``margin``."""
    variance = max(share * (1.0 - share), 1e-4)
    return math.ceil(2.0 * variance * (normal_quantile(level) / margin) ** 2)


def _long_run_interval(cut: int, sample_size: int, level: float) -> tuple[float, float]:
    """Return the central interval of Beta(k + ½, n − k + ½).

    With the share written as sin² θ the density is sin^(2k) θ cos^(2(n−k)) θ, smooth even at the ends, about a normal
    one of standard deviation 1 / (2 √n); summing it over a fine grid is exact to five digits.
    """
    tail = (1.0 - level) / 2.0
    centre, reach = math.asin(math.sqrt(cut / sample_size)), _DEVIATIONS / (2.0 * math.sqrt(sample_size))
    edges = np.linspace(max(centre - reach, 0.0), min(centre + reach, math.pi / 2.0), _GRID + 1)
    middles = (edges[1:] + edges[:-1]) / 2.0
    logs = 2.0 * cut * np.log(np.sin(middles)) + 2.0 * (sample_size - cut) * np.log(np.cos(middles))
    cumulated = np.concatenate([[0.0], np.cumsum(np.exp(logs - logs.max()))])
    low, high = np.interp([tail, 1.0 - tail], cumulated / cumulated[-1], edges)
    return float(np.sin(low)) ** 2, float(np.sin(high)) ** 2


def _interval_of_next(cut: int, sample_size: int, evaluation_size: int, level: float) -> tuple[float, float]:
    """Return the central interval of the share of strong calls among m further prompts, from the beta-binomial.

    Its probabilities follow from one another: P(j + 1) / P(j) = (m − j)(j + a) / ((j + 1)(m − j − 1 + b)).
    """
    tail = (1.0 - level) / 2.0
    a, b, m = cut + 0.5, sample_size - cut + 0.5, evaluation_size
    mean = m * a / (a + b)
    deviation = math.sqrt(mean * b / (a + b) * (a + b + m) / (a + b + 1.0))
    first = max(int(mean - _DEVIATIONS * deviation), 0)
    last = min(int(mean + 2.0 * _DEVIATIONS * deviation) + _DEVIATIONS, m)
    calls = np.arange(first, last, dtype=np.float64)
    steps = np.log((m - calls) * (calls + a)) - np.log((calls + 1.0) * (m - calls - 1.0 + b))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    cumulated = np.cumsum(np.exp(logs - logs.max()))
    low, high = np.searchsorted(cumulated / cumulated[-1], [tail, 1.0 - tail])
    return (first + int(low)) / m, (first + int(high)) / m
