"""Calibration to a target: a share of strong calls, a budget, or a quality; and the curve of all shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import REQUESTS, CostCurve, PromptCosts, PromptQuality, QualityCurve, Weights
from routellm_core.calibration.results import DEFAULT_LEVEL, CalibratedThreshold, CurvePoint, Target
from routellm_core.calibration.sample import CANDIDATES, Sample, standard_error_factor, threshold_estimate
from routellm_core.decision import StrongShare
from routellm_core.errors import CalibrationError

CURVE_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MISSED = 0.01
_MOST_ROWS = 1_000_000_000


def calibrate_share(
    scores: npt.ArrayLike,
    share: float,
    *,
    costs: PromptCosts | None = None,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
) -> CalibratedThreshold:
    """Find the threshold that sends a share of prompts to the strong model.

    The share on the calibration data is as near to the wanted one as tied scores allow; of two that are equally near,
    the greater is taken.

    Args:
        scores: of n prompts of the traffic to be routed, shape (n,), each in [0, 1].
        share: of strong calls, in [0, 1].
        costs: dollars per prompt and model, to tell what the share costs.
        quality: labelled rows, to tell how good it is.
        evaluation_size: number m of further prompts that the intervals speak of; None takes n, infinity the long run.
        level: probability of the intervals.

    Raises:
        InvalidThresholdError: a share outside [0, 1].
        CalibrationError: no scores, columns of different lengths, or a value out of its range.
    """
    wanted = StrongShare(share).share
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    ranked = sample.ranked
    cut = ranked.nearest_cut(wanted)
    warnings: tuple[str, ...] = ()
    # A few prompts can never make every share; that is for the other warning to say.
    if abs(cut / sample.size - wanted) > max(_MISSED, 1.0 / sample.size):
        warnings = (ranked.describe_ties(wanted),)
    return sample.result(Target("share", wanted), cut, threshold_estimate(ranked, cut, level), warnings)


def share_curve(
    scores: npt.ArrayLike,
    shares: Sequence[float] = CURVE_SHARES,
    *,
    costs: PromptCosts | None = None,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
) -> list[CurvePoint]:
    """Return what each share takes and gives; the arguments are those of :func:`calibrate_share`.

    Returns:
        one point for each share that can be reached and is nearest to one of ``shares``, ascending.
    """
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    cuts = np.unique([sample.ranked.nearest_cut(StrongShare(share).share) for share in shares]).astype(np.intp)
    measured = sample.measure(cuts)
    return [
        CurvePoint(sample.ranked.threshold_at(int(cut)), *figures) for cut, figures in zip(cuts, measured, strict=True)
    ]


def calibrate_cost(
    scores: npt.ArrayLike,
    costs: PromptCosts,
    max_cost: float,
    *,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
    resamples: int | None = None,
) -> CalibratedThreshold:
    """Find the lowest threshold whose cost stays within a budget, the error of both samples allowed for.

    From all weak upwards, prompts are sent to the strong model while the upper end of the cost's interval is within the
    budget; the first threshold that exceeds it ends the search. Tokens differ between prompts, so it matters which
    ones go: the costs are those of the prompts themselves.

    Args:
        scores: of n prompts of the traffic to be routed, shape (n,), each in [0, 1].
        costs: dollars per prompt and model.
        max_cost: dollars per 1,000 requests.
        quality: labelled rows, to tell how good the result is.
        evaluation_size: number m of further prompts that the budget must hold for; None takes n, infinity the long run.
        level: probability of the intervals.
        resamples: of the bootstrap of the threshold; None takes 1,000, and fewer above 20,000 prompts.

    Raises:
        CalibrationError: the budget is below what the weak model costs, or too near to it for so few rows; columns of
            different lengths, or a value out of its range.
    """
    if not (math.isfinite(max_cost) and max_cost > 0.0):
        raise CalibrationError(f"max_cost={max_cost!r} must be dollars per 1,000 requests, more than 0")
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    candidates = sample.ranked.spread_cuts(CANDIDATES)

    def choose(weights: Weights | None = None, z: float = sample.z) -> int | None:
        curve = sample.cost_curve(candidates, weights)
        within = (curve.mean + curve.margin(sample.factor, z)) * REQUESTS <= max_cost
        passed = len(within) if within.all() else int(np.argmin(within))
        return int(candidates[passed - 1]) if passed else None

    cut = choose()
    if cut is None:
        raise _too_tight(sample, sample.cost_curve(candidates[:1]), max_cost)
    threshold = sample.bootstrap(lambda weights: choose(weights) or 0, cut, resamples=resamples)
    warnings = ("the budget covers sending everything to the strong model",) if cut == sample.size else ()
    return sample.result(Target("cost", max_cost), cut, threshold, warnings, unpadded_cut=choose(z=0.0) or 0)


def _too_tight(sample: Sample, lowest: CostCurve, max_cost: float) -> CalibrationError:
    mean, deviation = float(lowest.mean[0]), math.sqrt(float(lowest.variance[0]))
    if mean * REQUESTS >= max_cost:
        return CalibrationError(
            f"a budget of ${max_cost:.4g} per 1,000 requests cannot be kept: sending everything to the weak model "
            f"already costs ${mean * REQUESTS:.4g}. Raise the budget, or choose a cheaper weak model"
        )
    rows = math.ceil(2.0 * (sample.z * deviation / (max_cost / REQUESTS - mean)) ** 2)
    margin = float(lowest.margin(sample.factor, sample.z)[0])
    return CalibrationError(
        f"{sample.size:,} rows cannot support a budget of ${max_cost:.4g} per 1,000 requests: sending everything to "
        f"the weak model costs ${mean * REQUESTS:.4g} ± {margin * REQUESTS:.2g} at a confidence of {sample.level:.0%}. "
        f"It would take about {rows:,} rows, and as many requests in use",
        rows_needed=rows,
    )


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
