"""Confidence intervals by resampling prompts: for one router, and for the difference between two on the same prompts.

The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). Prompts are drawn with
both models' qualities, so the uncertainty of the gap itself is included. Routers are resampled with one seed, hence on
the same draws, and their differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from routellm_core.metrics.curves import (
    PAPER_SHARES,
    Curve,
    apgr,
    area,
    call_performance_threshold,
    cumulative_gains,
    performance_gap_recovered,
)
from routellm_core.types import FloatArray

__all__ = ["BootstrapSamples", "Interval", "bootstrap", "normal_quantile", "paired_difference"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval that covers with probability ``level``."""

    low: float
    high: float
    level: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


def normal_quantile(level: float) -> float:
    """Return the half-width of a two-sided interval in standard deviations (1.96 for 0.95)."""
    return NormalDist().inv_cdf(0.5 + level / 2.0)


def percentile_interval(samples: FloatArray, level: float) -> Interval:
    """Return the central interval of ``samples``, shape (b,); samples that are NaN are left out."""
    defined = samples[np.isfinite(samples)]
    if len(defined) == 0:
        return Interval(float("nan"), float("nan"), level)
    tail = (1.0 - level) / 2.0 * 100.0
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return Interval(float(low), float(high), level)


@dataclass(frozen=True, slots=True)
class BootstrapSamples:
    """Metrics recomputed on resampled prompts."""

    metrics: Mapping[str, FloatArray]  # name -> shape (b,)
    recovered: FloatArray  # PGR at the shares asked for, shape (b, k)
    level: float  # probability that intervals should cover

    def interval(self, metric: str) -> Interval:
        """Return the interval of a metric."""
        return percentile_interval(self.metrics[metric], self.level)

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the pointwise lower and upper ends of PGR over shares, each of shape (k,); 0 and 1 at the ends.

        PGR rather than quality: how hard the drawn prompts are moves every router and both models alike, and would
        hide what is known about the router.
        """
        defined = self.recovered[np.isfinite(self.recovered).all(axis=1)]
        if len(defined) == 0:
            undefined = np.full(self.recovered.shape[1], np.nan)
            return undefined, undefined
        tail = (1.0 - self.level) / 2.0 * 100.0
        low, high = np.percentile(defined, [tail, 100.0 - tail], axis=0)
        return low, high


def paired_difference(first: BootstrapSamples, second: BootstrapSamples, metric: str) -> Interval:
    """Return the interval of ``first - second`` on a metric. Both must come from the same prompts and seed."""
    return percentile_interval(first.metrics[metric] - second.metrics[metric], first.level)


def bootstrap(
    scores: FloatArray,
    strong_quality: FloatArray,
    weak_quality: FloatArray,
    *,
    shares: FloatArray,
    recovered: tuple[float, ...] = (0.2, 0.5, 0.8),
    at_share: float = 0.5,
    num_results: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> BootstrapSamples:
    """Resample prompts and recompute APGR (both definitions), AUC, CPT, and PGR at every share.

    Args:
        scores: shape (n,), or (r, n) for r repetitions of a random router, which are used in turn, so that its interval
            holds its own randomness too.
        strong_quality: shape (n,).
        weak_quality: shape (n,).
        shares: shape (k,), where PGR is wanted.
        recovered: fractions of the gap for CPT.
        at_share: the share for PGR.
        num_results: steps of the trapezoid.
        resamples: number of resamples.
        seed: seeds the draws; equal seeds and n draw the same prompts.
        level: coverage of the intervals.

    Returns:
        metrics ``apgr``, ``apgr_paper``, ``auc`` (unscaled), ``pgr`` and ``cpt20`` ... in fractions.
    """
    repetitions = [
        _SortedPrompts(row, strong_quality, weak_quality, num_results=num_results) for row in np.atleast_2d(scores)
    ]
    generator = np.random.default_rng(seed)
    n = len(strong_quality)
    names = ["apgr", "apgr_paper", "auc", "pgr", *(f"cpt{round(fraction * 100)}" for fraction in recovered)]
    metrics = np.empty((resamples, len(names)))
    curves = np.empty((resamples, len(shares)))
    for number in range(resamples):
        drawn = generator.integers(0, n, size=n)
        prompts = repetitions[number % len(repetitions)]
        metrics[number], curves[number] = prompts.measure(drawn, shares, recovered, at_share)
    return BootstrapSamples({name: metrics[:, i] for i, name in enumerate(names)}, curves, level)


class _SortedPrompts:
    """Prompts in ascending score, sorted once so that a resample needs no sort: a draw is a count per prompt."""

    def __init__(self, scores: FloatArray, strong: FloatArray, weak: FloatArray, *, num_results: int) -> None:
        self._order_rank = np.empty(len(scores), dtype=np.int64)
        order = np.argsort(scores, kind="stable")
        self._order_rank[order] = np.arange(len(scores))
        self._scores, self._strong, self._weak = scores[order], strong[order], weak[order]
        self._steps = np.linspace(0.0, 1.0, num_results + 1) * 100.0

    def measure(
        self, drawn: npt.NDArray[np.int64], shares: FloatArray, recovered: tuple[float, ...], at_share: float
    ) -> tuple[list[float], FloatArray]:
        """Return the metrics and PGR at ``shares`` of the prompts ``drawn``, indices of shape (n,)."""
        n = len(drawn)
        counts = np.bincount(self._order_rank[drawn], minlength=n)
        rows = np.repeat(np.arange(n), counts)
        scores, strong, weak = self._scores[rows], self._strong[rows], self._weak[rows]
        weak_mean, strong_mean = float(weak.sum() / n), float(strong.sum() / n)
        calls, gains = cumulative_gains(scores[::-1], (strong - weak)[::-1])

        def quality(at: FloatArray) -> FloatArray:
            return np.asarray(weak_mean + np.interp(at * n, calls, gains) / n)

        edges = np.percentile(scores, self._steps)
        strong_calls = n - np.searchsorted(scores, edges, side="left")
        strong_calls[-1] = 0  # the last row takes scores above the largest edge: none
        measured = np.sort(strong_calls) / n
        curve = Curve(measured, quality(measured))
        values = [
            apgr(curve, weak_mean, strong_mean),
            float(performance_gap_recovered(quality(PAPER_SHARES), weak_mean, strong_mean).mean()),
            area(curve),
            float(performance_gap_recovered(quality(np.array([at_share])), weak_mean, strong_mean)[0]),
            *(call_performance_threshold(curve, weak_mean, strong_mean, fraction) for fraction in recovered),
        ]
        return values, performance_gap_recovered(quality(shares), weak_mean, strong_mean)
