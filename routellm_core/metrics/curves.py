"""From scores and qualities to cost-quality curves and the figures that summarise them.

Terms follow Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data" (arXiv 2406.18665), "Metrics": PGR is
the performance gap recovered, CPT(x) the share of strong calls that recovers x of the gap, APGR the average of PGR over
shares. Shares and PGR are fractions here; qualities are in the benchmark's display units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.types import FloatArray

__all__ = [
    "PAPER_SHARES",
    "Curve",
    "ThresholdRow",
    "apgr",
    "apgr_paper",
    "area",
    "average_rows",
    "call_performance_threshold",
    "curve_of_rows",
    "first_crossing",
    "performance_gap_recovered",
    "quality_at_shares",
    "threshold_rows",
]

PAPER_SHARES: FloatArray = (np.arange(10) + 0.5) / 10
"""The ten cost points of :func:`apgr_paper`: 5 %, 15 % ... 95 %."""


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """What happens at one threshold."""

    threshold: float  # the threshold; a mean over repetitions for averaged rows
    # whether the strong model gets scores *above* the threshold only. True for the last row alone, which sends
    # nothing to the strong model; every other row sends ``score >= threshold``
    strict: bool
    quality: float  # mean quality of the routed answers, in display units
    strong_calls: int  # calls to the strong model
    weak_calls: int  # calls to the weak model

    @property
    def calls(self) -> int:
        """All calls."""
        return self.strong_calls + self.weak_calls

    @property
    def strong_share(self) -> float:
        """Share of calls to the strong model, in [0, 1]."""
        return self.strong_calls / self.calls


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality against the share of strong calls."""

    shares: FloatArray  # shape (k,), ascending, in [0, 1]
    quality: FloatArray  # shape (k,), display units


def thresholds_of(scores: FloatArray, num_results: int) -> FloatArray:
    """Return the edges of ``num_results`` equally filled bins, shape (num_results + 1,).

    These are pandas' ``qcut`` edges, the percentiles with linear interpolation, computed in the same order of
    operations so that no edge rounds across a score.
    """
    if num_results < 1:
        raise ConfigError(f"num_results is {num_results}; it must be at least 1")
    return np.percentile(scores, np.linspace(0.0, 1.0, num_results + 1) * 100.0)


def threshold_rows(
    scores: FloatArray,
    strong_quality: FloatArray,
    weak_quality: FloatArray,
    *,
    num_results: int = 10,
    scale: float = 1.0,
    calls_per_prompt: int = 1,
) -> list[ThresholdRow]:
    """Route at each of ``num_results + 1`` thresholds, from all strong to all weak.

    RouteLLM fails where two edges coincide (a router with few distinct scores); here the repeated row is dropped.

    Args:
        scores: shape (n,).
        strong_quality: shape (n,).
        weak_quality: shape (n,).
        num_results: number of steps from all strong to all weak.
        scale: factor from quality to display units.
        calls_per_prompt: calls that a prompt stands for.

    Returns:
        rows with descending share of strong calls.
    """
    n = len(scores)
    edges = thresholds_of(scores, num_results)
    rows: list[ThresholdRow] = []
    for position, threshold in enumerate(edges):
        strict = position == len(edges) - 1
        chosen = scores > threshold if strict else scores >= threshold
        strong = int(chosen.sum())
        quality = float(np.where(chosen, strong_quality, weak_quality).sum() / n * scale)
        row = ThresholdRow(
            float(threshold), strict, quality, strong * calls_per_prompt, (n - strong) * calls_per_prompt
        )
        if not rows or row != rows[-1]:
            rows.append(row)
    return rows


def average_rows(repetitions: Sequence[Sequence[ThresholdRow]]) -> list[ThresholdRow]:
    """Average rows with equal numbers of strong calls over repetitions (RouteLLM's treatment of its random router)."""
    by_calls: dict[int, list[ThresholdRow]] = defaultdict(list)
    for rows in repetitions:
        for row in rows:
            by_calls[row.strong_calls].append(row)
    return [
        ThresholdRow(
            threshold=math.fsum(row.threshold for row in rows) / len(rows),
            strict=all(row.strict for row in rows),
            quality=math.fsum(row.quality for row in rows) / len(rows),
            strong_calls=calls,
            weak_calls=rows[0].weak_calls,
        )
        for calls, rows in sorted(by_calls.items(), reverse=True)
    ]


def curve_of_rows(rows: Sequence[ThresholdRow]) -> Curve:
    """Return the rows as a curve, in ascending share."""
    ordered = sorted(rows, key=lambda row: row.strong_calls)
    return Curve(np.array([row.strong_share for row in ordered]), np.array([row.quality for row in ordered]))


def call_performance_threshold(curve: Curve, weak: float, strong: float, recovered: float) -> float:
    """Return CPT(recovered) as RouteLLM computes it: the share at which a fraction of the gap, in [0, 1], is recovered.

    RouteLLM interpolates the share linearly over quality. Where the curve is not increasing, linear interpolation is
    not defined and the figure depends on how a binary search happens to walk; it is kept for comparison with published
    numbers. :func:`first_crossing` is defined for every curve.
    """
    return float(np.interp(recovered * (strong - weak) + weak, curve.quality, curve.shares))


def first_crossing(curve: Curve, weak: float, strong: float, recovered: float) -> float:
    """Return the smallest share at which the curve reaches a fraction of the gap; NaN where it never does.

    Arguments are those of :func:`call_performance_threshold`, which this equals on an increasing curve.
    """
    target = recovered * (strong - weak) + weak
    reached = np.flatnonzero(curve.quality >= target)
    if len(reached) == 0:
        return math.nan
    right = int(reached[0])
    if right == 0:
        return float(curve.shares[0])
    low, high = float(curve.quality[right - 1]), float(curve.quality[right])
    fraction = (target - low) / (high - low)
    return float(curve.shares[right - 1] + fraction * (curve.shares[right] - curve.shares[right - 1]))


def trapezoid(heights: FloatArray, positions: FloatArray) -> float:
    """Return the integral by the trapezoid rule; numpy's own has another name before version 2."""
    return float(np.sum(np.diff(positions) * (heights[1:] + heights[:-1]) / 2.0))


def area(curve: Curve) -> float:
    """Return the area under the curve by the trapezoid rule over its points (RouteLLM's AUC)."""
    return trapezoid(curve.quality, curve.shares)


def apgr(curve: Curve, weak: float, strong: float) -> float:
    """Return RouteLLM's APGR: the area between the curve and the weak model over that between strong and weak.

    The trapezoid rule over the measured points, as its code does. NaN where the models are equally good, or where the
    curve covers a single share.
    """
    span = float(curve.shares[-1] - curve.shares[0])
    gap = (strong - weak) * span
    return (area(curve) - weak * span) / gap if gap else math.nan


def quality_at_shares(
    scores: FloatArray, strong_quality: FloatArray, weak_quality: FloatArray, shares: FloatArray
) -> FloatArray:
    """Return the mean quality when exactly a share of prompts, those with the highest scores, goes to strong.

    Prompts with equal scores are taken in expectation over their order, and fractions of a prompt linearly, so every
    share in [0, 1] has an exact value, whatever ties there are. Scores and qualities have shape (n,); the result, which
    is unscaled, has the shape of ``shares``, (k,).
    """
    order = np.argsort(-scores, kind="stable")
    calls, gains = cumulative_gains(scores[order], (strong_quality - weak_quality)[order])
    n = len(scores)
    return np.asarray(weak_quality.sum() / n + np.interp(shares * n, calls, gains) / n)


def cumulative_gains(sorted_scores: FloatArray, sorted_gain: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (calls, summed gain) after each block of equal scores, starting at (0, 0); arguments have shape (n,)."""
    block_ends = np.flatnonzero(np.append(sorted_scores[1:] != sorted_scores[:-1], True)) + 1
    summed = np.cumsum(sorted_gain)[block_ends - 1]
    return np.concatenate(([0.0], block_ends.astype(np.float64))), np.concatenate(([0.0], summed))


def performance_gap_recovered(quality: FloatArray | float, weak: float, strong: float) -> FloatArray:
    """Return PGR (the paper, "Metrics"): the fraction of the gap from weak to strong that a quality recovers."""
    gap = strong - weak
    return (np.asarray(quality, dtype=np.float64) - weak) / (gap if gap else math.nan)


def apgr_paper(scores: FloatArray, strong_quality: FloatArray, weak_quality: FloatArray) -> float:
    """Return APGR as the paper writes it ("Metrics"): the mean PGR over ten cost points.

    The paper does not say which ten. The midpoints of ten equal bins of cost (5 %, 15 % ... 95 %) are used: they make
    the mean the midpoint rule for the integral, and give a random router 0.5, as its tables do.
    """
    quality = quality_at_shares(scores, strong_quality, weak_quality, PAPER_SHARES)
    return float(performance_gap_recovered(quality, float(weak_quality.mean()), float(strong_quality.mean())).mean())


def mean_quality(quality: FloatArray, scale: float) -> float:
    """Return the mean times ``scale``.

    Divides before it scales, as RouteLLM does (``sum / n * 100``), so that figures agree to the last bit.
    """
    return float(quality.sum() / len(quality) * scale)
