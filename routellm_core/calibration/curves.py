"""Cost and quality as functions of the number of strong calls, measured once for all thresholds.

Prompts in falling order of score turn every threshold into a prefix, and every mean over prompts into a running sum, so
a whole curve with its variances takes one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.ranking import IntArray
from routellm_core.calibration.results import Estimate
from routellm_core.errors import CalibrationError
from routellm_core.types import FloatArray

REQUESTS = 1000.0
"""Costs are told per so many requests."""
Weights = npt.NDArray[np.intp]


def _checked_column(name: str, values: npt.ArrayLike, least: float) -> FloatArray:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not (np.isfinite(column) & (column >= least)).all():
        raise CalibrationError(f"{name} must be finite numbers{' of at least 0' if least == 0 else ''}, shape (n,)")
    return column


@dataclass(frozen=True)
class PromptCosts:
    """What each prompt costs on each model.

    Attributes:
        strong: dollars per request on the strong model, shape (n,).
        weak: dollars per request on the weak model, shape (n,).

    Raises:
        CalibrationError: the shapes differ, or a cost is negative or not finite.
    """

    strong: FloatArray
    weak: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "strong", _checked_column("strong costs", self.strong, 0.0))
        object.__setattr__(self, "weak", _checked_column("weak costs", self.weak, 0.0))
        if len(self.strong) != len(self.weak):
            raise CalibrationError(f"there are {len(self.strong)} strong costs, but {len(self.weak)} weak ones")

    def __len__(self) -> int:
        return len(self.strong)


@dataclass(frozen=True)
class PromptQuality:
    """How good each model's answer to each prompt is.

    Attributes:
        strong: quality of the strong model's answer, shape (n,): 0 or 1, a grade, a mean over runs …
        weak: of the weak model's, on the same scale, shape (n,).

    Raises:
        CalibrationError: the shapes differ, a value is not finite, or the strong model's mean is not above 0.
    """

    strong: FloatArray
    weak: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "strong", _checked_column("strong qualities", self.strong, -np.inf))
        object.__setattr__(self, "weak", _checked_column("weak qualities", self.weak, -np.inf))
        if len(self.strong) != len(self.weak):
            raise CalibrationError(f"there are {len(self.strong)} strong qualities, but {len(self.weak)} weak ones")
        if not len(self.strong) or not self.strong.mean() > 0.0:
            raise CalibrationError(
                "a fraction of the strong model's quality needs a scale on which its mean is above 0"
            )

    def __len__(self) -> int:
        return len(self.strong)


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Cost over the number of strong calls.

    Attributes:
        mean: dollars per request at each cut, shape (c,).
        variance: over prompts, shape (c,).
    """

    mean: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, costs: PromptCosts, cuts: IntArray, weights: Weights | None = None) -> CostCurve:
        """Measure the curve.

        Args:
            costs: of n prompts in falling order of score.
            cuts: numbers of strong calls, ascending, shape (c,).
            weights: how often each prompt counts in a resample, in the same order, shape (n,).
        """
        strong, weak = costs.strong, costs.weak
        counted = np.ones(len(costs)) if weights is None else weights.astype(np.float64)
        total = float(counted.sum())
        dearer = counted * (strong - weak)
        mean = (counted @ weak + _sums_of_first(dearer, cuts)) / total
        square = (counted @ weak**2 + _sums_of_first(dearer * (strong + weak), cuts)) / total
        return cls(mean, np.maximum(square - mean**2, 0.0))

    def margin(self, factor: float, z: float) -> FloatArray:
        """Return the half-width of the interval at each cut, shape (c,); ``factor`` is √(1/n + 1/m)."""
        return z * factor * np.sqrt(self.variance)

    def estimates(self, factor: float, z: float) -> list[Estimate]:
        """Return dollars per 1,000 requests at each cut."""
        margin = self.margin(factor, z)
        columns = zip(self.mean, np.maximum(self.mean - margin, 0.0), self.mean + margin, strict=True)
        return [Estimate(*(float(value) * REQUESTS for value in column)) for column in columns]


@dataclass(frozen=True, slots=True)
class QualityCurve:
    """Quality over the number of strong calls, as a fraction of the strong model's.

    With d the strong model's lead on a prompt, s its quality and W the prompts sent to the weak model, the fraction is
    R = 1 − mean(1_W d) / mean(s), and the delta method gives it the variance of (1_W d − (1 − R) s) / mean(s).

    A variance estimated on few losses is too small, and zero where no loss was seen yet. As Agresti and Coull (The
    American Statistician 52, 1998) do for a proportion, z²/2 losses that were not seen are therefore added, each as
    bad as the worst that the scale of the data allows.

    Attributes:
        mean: R at each cut, shape (c,).
        variance: over prompts, shape (c,).
        goes_weak: whether anything does, so that losses may have been missed, shape (c,).
        worst: the worst loss on one prompt, as a fraction of the strong model's mean.
    """

    mean: FloatArray
    variance: FloatArray
    goes_weak: npt.NDArray[np.bool_]
    worst: float

    @classmethod
    def of(cls, quality: PromptQuality, cuts: IntArray, weights: Weights | None = None) -> QualityCurve:
        """Measure the curve; the arguments are those of :meth:`CostCurve.of`."""
        strong, weak = quality.strong, quality.weak
        counted = np.ones(len(quality)) if weights is None else weights.astype(np.float64)
        total = float(counted.sum())
        strong_mean = float(counted @ strong) / total
        lead = strong - weak

        def over_weak(values: FloatArray) -> FloatArray:
            return np.asarray(values.sum() - _sums_of_first(values, cuts)) / total

        lost = over_weak(counted * lead) / strong_mean
        variance = (
            over_weak(counted * lead**2)
            - 2.0 * lost * over_weak(counted * lead * strong)
            + lost**2 * float(counted @ strong**2) / total
        ) / strong_mean**2
        worst = float(quality.strong.max() - quality.weak.min()) / strong_mean
        return cls(1.0 - lost, np.maximum(variance, 0.0), cuts < len(quality), max(worst, 0.0))

    def margin(self, sample_size: float, factor: float, z: float) -> FloatArray:
        """Return the half-width of the interval at each cut, shape (c,).

        Args:
            sample_size: n.
            factor: √(1/n + 1/m).
            z: the normal quantile of the interval's level.
        """
        unseen = z**2 / 2.0 * self.goes_weak / sample_size
        return unseen * self.worst + z * factor * np.sqrt(self.variance + unseen * self.worst**2)

    def estimates(self, sample_size: int, factor: float, z: float) -> list[Estimate]:
        """Return the fraction of the strong model's quality at each cut."""
        margin = self.margin(sample_size, factor, z)
        columns = zip(self.mean, np.maximum(self.mean - margin, 0.0), self.mean + margin, strict=True)
        return [Estimate(*map(float, column)) for column in columns]


def _sums_of_first(values: FloatArray, counts: IntArray) -> FloatArray:
    """Return the sum of the first k values for each k of ``counts``, which ascend, shape (c,)."""
    edges = np.unique(np.concatenate([[0], counts]))
    segments = np.add.reduceat(values, edges[edges < len(values)])
    running = np.concatenate([[0.0], np.cumsum(segments)])
    return np.asarray(running[np.searchsorted(edges, counts)])
