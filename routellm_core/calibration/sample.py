"""The calibration sample: scores with what is known beside them, and what a threshold does to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import CostCurve, PromptCosts, PromptQuality, QualityCurve, Weights
from routellm_core.calibration.intervals import (
    checked_evaluation_size,
    normal_quantile,
    rows_for_margin,
    share_estimate,
    standard_error_factor,
)
from routellm_core.calibration.ranking import IntArray, RankedScores
from routellm_core.calibration.results import CalibratedThreshold, CurvePoint, Estimate, Target
from routellm_core.errors import CalibrationError

__all__ = ["CANDIDATES", "Sample"]

CANDIDATES = 1001
"""Thresholds that a search looks at: one every thousandth of the prompts."""
_WIDE = 0.05
_MARGIN = 0.02
_LEAST_RESAMPLES, _MOST_RESAMPLES, _DRAWS = 200, 1000, 20_000_000


class Sample:
    """n scored prompts, what they cost and how well they were answered where that is known.

    Args:
        scores: shape (n,), each in [0, 1].
        costs: of the same prompts in the same order, or None.
        quality: likewise.
        evaluation_size: m, the number of further prompts that intervals speak of; None takes n, infinity the long run.
        level: probability of the intervals.

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

        Args:
            target: what was asked for.
            cut: the number of strong calls.
            threshold: of ``cut``.
            warnings: further ones.
            unpadded_cut: what would have been taken with no allowance for sampling error.
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

        Args:
            choose: the search, from how often each prompt was drawn, in the order of ``ranked``, to a cut.
            cut: what it takes on the sample itself.
            resamples: number of them; None takes 1,000, and fewer, down to 200, above 20,000 prompts.
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
