"""Cost and quality as functions of the number of strong calls, measured once for all thresholds.

Prompts in falling order of score turn every threshold into a prefix, and every mean over prompts into a running sum, so
a whole curve with its variances takes one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.ranking import IntArray
from routellm_core.calibration.results import Estimate
from routellm_core.errors import CalibrationError
from routellm_core.types import FloatArray

REQUESTS = 1000.0
"""Costs are told per so many requests."""
Weights = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _PerPrompt:
    """A figure of each prompt on the strong and on the weak model, each of shape (n,)."""

    strong: FloatArray
    weak: FloatArray
    _what: ClassVar[str]
    _least: ClassVar[float]

    def __post_init__(self) -> None:
        for tier in ("strong", "weak"):
            column = np.asarray(getattr(self, tier), dtype=np.float64)
            if column.ndim != 1 or not (np.isfinite(column) & (column >= self._least)).all():
                least = " of at least 0" if self._least == 0.0 else ""
                raise CalibrationError(f"{tier} {self._what} must be finite numbers{least}, shape (n,)")
            object.__setattr__(self, tier, column)
        if len(self.strong) != len(self.weak):
            raise CalibrationError(f"there are {len(self.strong)} strong {self._what}, but {len(self.weak)} weak ones")

    def __len__(self) -> int:
        return len(self.strong)


class PromptCosts(_PerPrompt):
    """What each prompt costs on each model: dollars per request, ``strong`` and ``weak``, each of shape (n,).

    Raises:
        CalibrationError: the shapes differ, or a cost is negative or not finite.
    """

    _what, _least = "costs", 0.0


class PromptQuality(_PerPrompt):
    """How good each model's answer is: ``strong`` and ``weak``, of one scale (0 or 1, a grade …), each of shape (n,).

    Raises:
        CalibrationError: the shapes differ, a value is not finite, or the strong model's mean is not above 0.
    """

    _what, _least = "qualities", -np.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.strong) or not self.strong.mean() > 0.0:
            raise CalibrationError(
                "a fraction of the strong model's quality needs a scale on which its mean is above 0"
            )


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Cost over the number of strong calls: mean dollars per request at each cut, and variance, shapes (c,)."""

    mean: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, costs: PromptCosts, cuts: IntArray, weights: Weights | None = None) -> CostCurve:
        """Measure the curve on n prompts in falling order of score.

        ``cuts`` are numbers of strong calls, ascending, shape (c,); ``weights`` says how often each prompt counts in a
        resample, shape (n,).
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
        return _estimates(self.mean * REQUESTS, self.margin(factor, z) * REQUESTS)


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
        """Return the half-width of the interval at each cut, shape (c,), of n prompts; ``factor`` is √(1/n + 1/m)."""
        unseen = z**2 / 2.0 * self.goes_weak / sample_size
        return unseen * self.worst + z * factor * np.sqrt(self.variance + unseen * self.worst**2)

    def estimates(self, sample_size: int, factor: float, z: float) -> list[Estimate]:
        """Return the fraction of the strong model's quality at each cut."""
        return _estimates(self.mean, self.margin(sample_size, factor, z))


def _estimates(means: FloatArray, margins: FloatArray) -> list[Estimate]:
    columns = zip(means, np.maximum(means - margins, 0.0), means + margins, strict=True)
    return [Estimate(*map(float, column)) for column in columns]


def _sums_of_first(values: FloatArray, counts: IntArray) -> FloatArray:
    """Return the sum of the first k values for each k of ``counts``, which ascend, shape (c,)."""
    edges = np.unique(np.concatenate([[0], counts]))
    segments = np.add.reduceat(values, edges[edges < len(values)])
    running = np.concatenate([[0.0], np.cumsum(segments)])
    return np.asarray(running[np.searchsorted(edges, counts)])
