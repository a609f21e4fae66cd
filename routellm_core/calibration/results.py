"""What a calibration returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_LEVEL = 0.99
"""Probability that an interval covers: each of its ends is missed once in two hundred times."""


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked for.

    ``value`` is a share in [0, 1] of strong calls, for ``"cost"`` the most dollars per 1,000 requests, for
    ``"quality"`` the least fraction of the strong model's, in (0, 1].
    """

    kind: Literal["share", "cost", "quality"]
    value: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure on the calibration data, and the ends of the interval that it will lie in elsewhere."""

    value: float
    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One threshold of a curve, in [0, 1].

    ``share`` is of strong calls, ``cost`` in dollars per 1,000 requests, ``quality`` a fraction of the strong model's.
    """

    threshold: float
    share: Estimate
    cost: Estimate | None
    quality: Estimate | None


@dataclass(frozen=True, slots=True)
class CalibratedThreshold:
    """A threshold, and what it does.

    The intervals of ``share``, ``cost`` and ``quality`` are for the figure measured on ``evaluation_size`` further
    prompts from the same source with the threshold fixed at ``threshold.value``.

    Attributes:
        target: what was asked for.
        threshold: in [0, 1]; its interval says where another sample of the same size would have put it.
        share: of strong calls, in [0, 1].
        cost: dollars per 1,000 requests, where costs were given.
        quality: fraction of the strong model's quality, where labelled rows were given.
        sample_size: prompts calibrated on.
        evaluation_size: prompts that the intervals speak of; None for the long run.
        level: probability that each interval covers, its two ends being missed equally often.
        warnings: what a reader should know before relying on it, one sentence each.
        unpadded: for a budget or a quality, what these rows alone would suggest, with no allowance for sampling error.
    """

    target: Target
    threshold: Estimate
    share: Estimate
    cost: Estimate | None
    quality: Estimate | None
    sample_size: int
    evaluation_size: int | None
    level: float
    warnings: tuple[str, ...] = ()
    unpadded: CurvePoint | None = None

    @property
    def padding(self) -> str | None:
        """What the allowance for sampling error costs, in a sentence; None for a share, which has none."""
        if self.unpadded is None:
            return None
        suggested = f"these {self.sample_size:,} rows alone would suggest {self.unpadded.share.value:.1%} strong calls "
        suggested += f"(threshold {self.unpadded.threshold:.5f}"
        for name, form, figure in (("$", "#.4g", self.unpadded.cost), ("quality ", ".1%", self.unpadded.quality)):
            suggested += f", {name}{figure.value:{form}}" if figure else ""
        points = 100.0 * (self.share.value - self.unpadded.share.value)
        if not round(points, 1):
            return f"{suggested}); the allowance for sampling error changes nothing"
        cost = f"{abs(points):.1f} points of strong calls {'more' if points > 0 else 'fewer'}"
        if self.cost and self.unpadded.cost:
            dollars = self.cost.value - self.unpadded.cost.value
            cost += f", ${abs(dollars):#.3g} per 1,000 requests {'more' if dollars > 0 else 'less'}"
        return (
            f"{suggested}); the allowance for sampling error takes {cost}; four times the rows would about halve that"
        )
