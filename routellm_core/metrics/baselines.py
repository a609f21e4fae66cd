"""What a router has to be compared with: one model for everything, chance, and perfect foresight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from routellm_core.metrics.curves import mean_quality, performance_gap_recovered, trapezoid
from routellm_core.metrics.intervals import Interval, normal_quantile
from routellm_core.types import FloatArray, ModelPair

__all__ = ["Baselines", "baselines_of", "oracle_quality", "random_apgr_interval", "random_quality"]


@dataclass(frozen=True, slots=True)
class Baselines:
    """Baselines of a benchmark, curves in display units at ``shares``."""

    shares: FloatArray  # shape (k,), shares of strong calls in [0, 1]
    best_single: str  # the better of the two models
    best_single_quality: float  # its mean quality
    random: FloatArray  # expected quality when a share of prompts, drawn at random, goes to strong, shape (k,)
    random_low: FloatArray  # lower end of the interval that contains a share ``level`` of random routers, shape (k,)
    random_high: FloatArray  # upper end, shape (k,)
    random_apgr: Interval  # interval of the ten-step APGR over random routers; the expectation is exactly 0.5
    oracle: FloatArray  # quality when the calls go where they gain most, shape (k,)
    oracle_apgr: float  # its APGR over ``shares``


def oracle_quality(strong_quality: FloatArray, weak_quality: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the best mean quality with at most a share of strong calls.

    The prompts with the largest gain are sent first, and none where the strong model is worse, so the curve rises and
    then stays level. Fractions of a call count linearly (RouteLLM does so on MMLU and GSM8K and rounds down on
    MT-Bench). Qualities have shape (n,); the result, which is unscaled, has the shape of ``shares``, (k,).
    """
    n = len(weak_quality)
    gains = np.sort(np.maximum(strong_quality - weak_quality, 0.0))[::-1]
    summed = np.concatenate(([0.0], np.cumsum(gains)))
    return np.asarray(weak_quality.sum() / n + np.interp(shares * n, np.arange(n + 1), summed) / n)


def random_quality(
    strong_quality: FloatArray, weak_quality: FloatArray, shares: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the exact expectation and standard deviation of quality under random routing, each of shape (k,).

    A random score with a threshold at its quantile draws k of n prompts without replacement. The sampled mean gain has
    expectation ``share * mean(gain)`` and, by the finite-population formula, variance
    ``share (1 - share) var(gain) / (n - 1)`` with the population variance (Cochran, Sampling Techniques, theorem 2.2).
    """
    gain = strong_quality - weak_quality
    n = len(gain)
    expected = weak_quality.mean() + shares * gain.mean()
    variance = shares * (1.0 - shares) * gain.var() / max(n - 1, 1)
    return np.asarray(expected), np.sqrt(variance)


def random_apgr_interval(
    strong_quality: FloatArray, weak_quality: FloatArray, *, num_results: int = 10, level: float = 0.95
) -> Interval:
    """Return the interval of APGR over random routers on these prompts.

    Sums over the first j and the first k >= j prompts of a random permutation have covariance
    ``j (n - k) / (n - 1) * var(gain)``; the trapezoid rule is linear in them, so its variance is exact. The sum of many
    draws is taken as normal.
    """
    gain = strong_quality - weak_quality
    n, total = len(gain), float(gain.sum())
    if n < 2 or total == 0.0:
        return Interval(math.nan, math.nan, level)
    shares = np.linspace(0.0, 1.0, num_results + 1)
    calls = shares * n
    covariance = np.minimum.outer(calls, calls) * (n - np.maximum.outer(calls, calls)) / (n - 1) * gain.var()
    weights = np.full(num_results + 1, 1.0 / num_results)
    weights[[0, -1]] /= 2.0
    deviation = math.sqrt(max(float(weights @ covariance @ weights), 0.0)) / abs(total)
    reach = normal_quantile(level) * deviation
    return Interval(0.5 - reach, 0.5 + reach, level)


def baselines_of(
    strong: FloatArray,
    weak: FloatArray,
    shares: FloatArray,
    *,
    pair: ModelPair,
    scale: float = 1.0,
    num_results: int = 10,
    level: float = 0.95,
) -> Baselines:
    """Compute every baseline at ``shares``, shape (k,), from unscaled qualities, shape (n,).

    For display, qualities are multiplied by ``scale`` (100 for per cent). The random router's APGR takes
    ``num_results`` steps; ``level`` is that of the intervals.
    """
    expected, deviation = random_quality(strong, weak, shares)
    reach = normal_quantile(level) * deviation
    oracle = oracle_quality(strong, weak, shares)
    means = float(strong.mean()), float(weak.mean())
    recovered = performance_gap_recovered(oracle, means[1], means[0])
    strong_is_best = means[0] >= means[1]
    return Baselines(
        shares=shares,
        best_single=pair.strong if strong_is_best else pair.weak,
        best_single_quality=mean_quality(strong if strong_is_best else weak, scale),
        random=expected * scale,
        random_low=(expected - reach) * scale,
        random_high=(expected + reach) * scale,
        random_apgr=random_apgr_interval(strong, weak, num_results=num_results, level=level),
        oracle=oracle * scale,
        oracle_apgr=trapezoid(recovered, shares),
    )
