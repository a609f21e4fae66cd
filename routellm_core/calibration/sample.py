"""The calibration sample: scores with what is known beside them, what a threshold does to it, and how sure that is.

Intervals say where a figure will lie on m further prompts, given n calibration prompts and a fixed threshold. Two
samples are involved, so a mean with variance σ² a prompt differs between them with variance σ² (1/n + 1/m). That the
threshold was chosen on the n prompts changes this in second order only: moving along the curve of thresholds moves
both samples' figures alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import CostCurve, PromptCosts, PromptQuality, QualityCurve, Weights
from routellm_core.calibration.ranking import IntArray, RankedScores
from routellm_core.calibration.results import CalibratedThreshold, CurvePoint, Estimate, Target
from routellm_core.errors import CalibrationError
from routellm_core.metrics import intervals

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
    """Return the share of strong calls, k of n, with its interval for m further prompts, or for None in the long run.

    Without ties, the true share P(score >= t) of a threshold between the k-th and the (k+1)-th highest of n scores lies
    between two order statistics of the uniform distribution, which are Beta(k, n−k+1) and Beta(k+1, n−k) whatever the
    distribution of scores (Wilks 1941); Beta(k+½, n−k+½) is between them, and is Jeffreys' answer for a tied score,
    where k is binomial. The strong calls among m further prompts are then beta-binomial.
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


CANDIDATES = 1001
"""Thresholds that a search looks at: one every thousandth of the prompts."""
_WIDE = 0.05
_MARGIN = 0.02
_LEAST_RESAMPLES, _MOST_RESAMPLES, _DRAWS = 200, 1000, 20_000_000


class Sample:
    """n scored prompts, what they cost and how well they were answered where that is known.

    The arguments are those of :func:`~routellm_core.calibration.calibrate_share`.

    Raises:
        CalibrationError: columns of different lengths, or a value out of its range.
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        *,
        costs: PromptCosts | None,
        quality: PromptQuality | None,
        evaluation_size: float | None,
        level: float,
    ) -> None:
        self.ranked = RankedScores(scores)
        self.size = len(self.ranked)
        for name, column in (("costs", costs), ("qualities", quality)):
            if column is not None and len(column) != self.size:
                raise CalibrationError(f"there are {self.size} scores, but {len(column)} {name}")
        order = self.ranked.order
        self.costs = costs and PromptCosts(costs.strong[order], costs.weak[order])
        self.quality = quality and PromptQuality(quality.strong[order], quality.weak[order])
        self.evaluation_size = checked_evaluation_size(evaluation_size, self.size)
        self.level = level
        self.z = normal_quantile(level)
        self.factor = standard_error_factor(self.size, self.evaluation_size)

    def cost_curve(self, cuts: IntArray, weights: Weights | None = None) -> CostCurve:
        """Return costs at ``cuts``; only for a sample that has costs."""
        if self.costs is None:
            raise CalibrationError("costs are not known")
        return CostCurve.of(self.costs, cuts, weights)

    def quality_curve(self, cuts: IntArray, weights: Weights | None = None) -> QualityCurve:
        """Return qualities at ``cuts``; only for a sample that has qualities."""
        if self.quality is None:
            raise CalibrationError("qualities are not known")
        return QualityCurve.of(self.quality, cuts, weights)

    def measure(self, cuts: IntArray) -> list[tuple[Estimate, Estimate | None, Estimate | None]]:
        """Return share, cost and quality at each cut; None for what is not known."""
        shares = [share_estimate(int(cut), self.size, self.evaluation_size, self.level) for cut in cuts]
        costs: list[Estimate] | list[None] = [None] * len(cuts)
        qualities: list[Estimate] | list[None] = [None] * len(cuts)
        if self.costs is not None:
            costs = self.cost_curve(cuts).estimates(self.factor, self.z)
        if self.quality is not None:
            qualities = self.quality_curve(cuts).estimates(self.size, self.factor, self.z)
        return list(zip(shares, costs, qualities, strict=True))

    def result(
        self,
        target: Target,
        cut: int,
        threshold: Estimate,
        warnings: tuple[str, ...] = (),
        *,
        unpadded_cut: int | None = None,
    ) -> CalibratedThreshold:
        """Return what the threshold of ``cut`` strong calls does, with a warning where the sample says little.

        ``unpadded_cut`` is what would have been taken with no allowance for sampling error.
        """
        share, cost, quality = self.measure(np.array([cut], dtype=np.intp))[0]
        unpadded = None if unpadded_cut is None else self.point(unpadded_cut)
        return CalibratedThreshold(
            target=target,
            threshold=threshold,
            share=share,
            cost=cost,
            quality=quality,
            sample_size=self.size,
            evaluation_size=self.evaluation_size,
            level=self.level,
            warnings=(*warnings, *self._too_small(share)),
            unpadded=unpadded,
        )

    def point(self, cut: int) -> CurvePoint:
        """Return the threshold of ``cut`` strong calls and what it does."""
        return CurvePoint(self.ranked.threshold_at(cut), *self.measure(np.array([cut], dtype=np.intp))[0])

    def bootstrap(self, choose: Callable[[Weights], int], cut: int, *, resamples: int | None) -> Estimate:
        """Return the threshold of ``cut`` with the percentile bootstrap of what ``choose`` would have taken.

        ``choose`` is the search, from how often each prompt was drawn, in the order of ``ranked``, to a cut.
        """
        generator = np.random.default_rng(0)
        if resamples is None:
            resamples = min(max(_DRAWS // self.size, _LEAST_RESAMPLES), _MOST_RESAMPLES)
        if resamples < 1:
            raise CalibrationError(f"resamples={resamples!r} must be at least 1")
        taken = []
        for _ in range(resamples):
            drawn = generator.integers(0, self.size, size=self.size)
            taken.append(self.ranked.threshold_at(choose(np.bincount(drawn, minlength=self.size))))
        tail = (1.0 - self.level) / 2.0
        low, high = np.quantile(taken, [tail, 1.0 - tail])
        threshold = self.ranked.threshold_at(cut)
        return Estimate(threshold, min(float(low), threshold), max(float(high), threshold))

    def _too_small(self, share: Estimate) -> tuple[str, ...]:
        if share.high - share.low <= 2.0 * _WIDE:
            return ()
        rows = rows_for_margin(share.value, _MARGIN, self.level)
        if rows <= self.size:  # what is small is the traffic asked about
            return ()
        return (
            f"{self.size:,} prompts are few: the share of strong calls may lie anywhere from {share.low:.1%} to "
            f"{share.high:.1%}; for ± {_MARGIN:.0%}, calibrate on about {rows:,}",
        )
