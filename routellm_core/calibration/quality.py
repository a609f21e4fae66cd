"""Calibration to a quality: as few strong calls as keep a fraction of the strong model's quality."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import PromptCosts, PromptQuality, QualityCurve, Weights
from routellm_core.calibration.intervals import standard_error_factor
from routellm_core.calibration.results import DEFAULT_LEVEL, CalibratedThreshold, Target
from routellm_core.calibration.sample import CANDIDATES, Sample
from routellm_core.errors import CalibrationError

__all__ = ["calibrate_quality"]

_MOST_ROWS = 1_000_000_000


def calibrate_quality(
    scores: npt.ArrayLike,
    quality: PromptQuality,
    min_quality: float,
    *,
    costs: PromptCosts | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
    resamples: int | None = None,
) -> CalibratedThreshold:
    """Find the highest threshold whose quality stays above a fraction of the strong model's.

    From all strong upwards, the threshold rises while the lower end of the quality's interval is at least
    ``min_quality``; the first one that falls short ends the search. Going in one fixed order from the safe end keeps
    the error of many comparisons at that of one (fixed-sequence testing, as in Angelopoulos and others, "Learn then
    Test", arXiv 2110.01052), where picking the best of all thresholds would flatter.

    Args:
        scores: of n labelled rows, shape (n,), each in [0, 1].
        quality: both models' quality on them.
        min_quality: fraction of the strong model's mean quality, in (0, 1].
        costs: dollars per prompt and model, to tell what the result costs.
        evaluation_size: number m of further prompts that the quality must hold for; None takes n, infinity the long
            run.
        level: probability of the intervals.
        resamples: of the bootstrap of the threshold; None takes 1,000, and fewer above 20,000 prompts.

    Raises:
        CalibrationError: only sending everything to the strong model is sure to reach the target; the message says how
            many rows would be needed, and so does its ``rows_needed``. Or columns of different lengths, or a value out
            of its range.
    """
    if not 0.0 < min_quality <= 1.0:
        raise CalibrationError(
            f"min_quality={min_quality!r} must be a fraction of the strong model's quality in (0, 1]"
        )
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    candidates = sample.ranked.spread_cuts(CANDIDATES)

    def choose(weights: Weights | None = None, z: float = sample.z) -> int:
        curve = sample.quality_curve(candidates, weights)
        reached = (curve.mean - curve.margin(sample.size, sample.factor, z) >= min_quality)[::-1]
        passed = len(reached) if reached.all() else int(np.argmin(reached))
        return int(candidates[::-1][max(passed, 1) - 1])

    cut = choose()
    if cut == sample.size and len(candidates) > 1:
        raise _unsupported(sample, sample.quality_curve(candidates[:-1]), min_quality, choose(z=0.0))
    threshold = sample.bootstrap(choose, cut, resamples=resamples)
    warnings = ("the weak model alone reaches this quality",) if cut == candidates[0] else ()
    return sample.result(Target("quality", min_quality), cut, threshold, warnings, unpadded_cut=choose(z=0.0))


def _unsupported(sample: Sample, curve: QualityCurve, min_quality: float, unpadded_cut: int) -> CalibrationError:
    rows = _rows_needed(sample, curve, min_quality)
    said = f"{min_quality:.1%} of the strong model's quality"
    if rows is None:
        return CalibrationError(
            f"no threshold below all strong keeps {said} on these {sample.size:,} rows, and more rows of the same kind "
            "would not change that. Lower the target, or send everything to the strong model (threshold 0)"
        )
    return CalibrationError(
        f"{sample.size:,} rows cannot support {said}: for every threshold but all strong, the lower end of the "
        f"{sample.level:.0%} interval is below it. With no allowance for sampling error these rows would suggest "
        f"{unpadded_cut / sample.size:.1%} strong calls (threshold {sample.ranked.threshold_at(unpadded_cut):.5f}). It "
        f"would take about {rows:,} rows, or a lower target",
        rows_needed=rows,
    )


def _rows_needed(sample: Sample, curve: QualityCurve, min_quality: float) -> int | None:
    """Return the least number of rows with which the first step from all strong would pass, or None.

    Means and variances are taken to stay as they are. Rows are needed twice, to calibrate and to use; where the caller
    fixed the number in use, that stays fixed.
    """
    in_use = sample.evaluation_size
    grows_alike = in_use == sample.size

    def passes(rows: int) -> bool:
        factor = standard_error_factor(rows, rows if grows_alike else in_use)
        return bool((curve.mean - curve.margin(rows, factor, sample.z) >= min_quality).any())

    low, high = sample.size, 2 * sample.size
    while not passes(high):
        if high > _MOST_ROWS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
